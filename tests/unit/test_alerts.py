"""Each alert was fired and cleared by promtool, over series that are written down."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
from typing import Any

import pytest
import yaml

import dev.alerts

TRIALS = pathlib.Path(__file__).resolve().parent.parent / "alerts" / "fire_and_clear.yaml"
RULES = yaml.safe_load(dev.alerts.PLAIN.read_text())
ALERTS = [rule["alert"] for group in RULES["groups"] for rule in group["rules"]]


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not here: Debian's package prometheus has it, and .ci/run installs that")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def test_prometheus_can_read_the_rules() -> None:
    """Their syntax, and that of their templates."""
    done = promtool("check", "rules", str(dev.alerts.PLAIN))
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_and_clears() -> None:
    """With the labels and the sentences that a person gets."""
    done = promtool("test", "rules", str(TRIALS))
    assert done.returncode == 0, done.stdout + done.stderr


def _trials(alert: str) -> list[dict[str, Any]]:
    """The trials that are about an alert."""
    trials = yaml.safe_load(TRIALS.read_text())["tests"]
    return [trial for trial in trials if any(step["alertname"] == alert for step in trial["alert_rule_test"])]


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_tried(alert: str) -> None:
    """Quiet at first, then raised, then quiet again."""
    raised = [
        [bool(step["exp_alerts"]) for step in trial["alert_rule_test"] if step["alertname"] == alert]
        for trial in _trials(alert)
    ]
    assert [False, True, False] in raised


@pytest.mark.parametrize("alert", ALERTS)
def test_a_rule_that_sees_nothing_is_noticed(alert: str, tmp_path: pathlib.Path) -> None:
    """The trial of an alert fails where its expression never holds; it alone is run, as all together take long."""
    rules = yaml.safe_load(dev.alerts.PLAIN.read_text())
    [broken] = [rule for group in rules["groups"] for rule in group["rules"] if rule["alert"] == alert]
    broken["expr"] = "vector(0) > 1"
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    trials = yaml.safe_load(TRIALS.read_text()) | {"rule_files": ["rules.yaml"], "tests": _trials(alert)}
    (tmp_path / "trials.yaml").write_text(yaml.safe_dump(trials))
    done = promtool("test", "rules", str(tmp_path / "trials.yaml"))
    assert done.returncode != 0
    assert alert in done.stdout + done.stderr
