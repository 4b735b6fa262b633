"""Which pushed version is served under which label, and how that changes."""
