(() => {
  const button = document.getElementById("theme"), root = document.documentElement;
  const themes = ["system", "light", "dark"];
  // A page in a sandboxed frame has no storage.
  const stored = (value) => {
    try { return value === undefined ? localStorage.ctrTheme : (localStorage.ctrTheme = value); } catch { return undefined; }
  };
  const show = (theme) => {
    root.dataset.theme = theme;
    button.querySelector("span").textContent = theme;
  };
  show(themes.includes(stored()) ? stored() : "system");
  button.hidden = false;
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length];
    stored(next);
    show(next);
  });
})();
