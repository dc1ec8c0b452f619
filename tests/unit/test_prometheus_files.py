"""Alerts and dashboard, as Prometheus itself understands them (promtool)."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
TEST = Path(__file__).parent / "prometheus" / "alerts.test.yml"


def run(promtool: str, *arguments: object) -> str:
    """What promtool says, if it is content."""
    done = subprocess.run(
        [promtool, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_alert_comes_when_it_should_and_not_before(promtool: str) -> None:
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    (test,) = yaml.safe_load(TEST.read_text())["tests"]
    fired = {case["alertname"] for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in rules}
    assert f"{len(rules)} rules found" in run(promtool, "check", "rules", ALERTS)
    run(promtool, "test", "rules", TEST)


def test_an_alert_that_does_not_come_is_found(promtool: str, tmp_path: Path) -> None:
    """The test of the alerts can fail."""
    wrong = ALERTS.read_text().replace("msnet_redis_up == 0", "msnet_redis_up == 2")
    (tmp_path / "alerts.yml").write_text(wrong)
    text = re.sub(r"rule_files: \[.*\]", "rule_files: [alerts.yml]", TEST.read_text())
    (tmp_path / "alerts.test.yml").write_text(text)
    with pytest.raises(AssertionError, match="RedisDown"):
        run(promtool, "test", "rules", tmp_path / "alerts.test.yml")


def test_every_expression_of_the_dashboard_can_be_parsed(promtool: str, tmp_path: Path) -> None:
    """As rules, with Grafana's variables filled in."""
    dashboard = json.loads((DEPLOY / "grafana" / "msnet-stream.json").read_text())
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", ())]
    expressions = [re.sub(r"\$__\w+", "5m", target["expr"]) for target in targets]
    rules = [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(expressions)]
    (tmp_path / "panels.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]})
    )
    assert f"{len(rules)} rules found" in run(promtool, "check", "rules", tmp_path / "panels.yml")
