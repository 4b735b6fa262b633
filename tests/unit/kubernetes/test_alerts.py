"""The alerts fire when they should and are silent when they should be, by Prometheus' own evaluation."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

KUBERNETES = Path(__file__).parents[3] / "kubernetes"
FILES = [KUBERNETES / "components" / name / "alerts.yaml" for name in ("monitoring", "score-drift")]
CASES = Path(__file__).parent / "alerts.yaml"


def cases() -> dict:
    return yaml.safe_load(CASES.read_text())


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    names = {rule["alert"] for file in FILES for group in groups(file) for rule in group["rules"]}
    expected = [case for test in cases()["tests"] for case in test["alert_rule_test"]]

    assert {case["alertname"] for case in expected if case["exp_alerts"]} == names
    assert {case["alertname"] for case in expected if not case["exp_alerts"]} == names


def test_alerts_fire_as_the_cases_say(tmp_path: Path) -> None:
    promtool = shutil.which("promtool") or pytest.skip("no promtool here: Debian has it in the package prometheus")
    rules = [group for file in FILES for group in groups(file)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": rules}))
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(cases() | {"rule_files": ["rules.yaml"]}))

    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "cases.yaml"]):
        result = subprocess.run([promtool, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr


def groups(file: Path) -> list[dict]:
    return yaml.safe_load(file.read_text())["spec"]["groups"]
