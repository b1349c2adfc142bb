"""The board of Grafana and the alert rules ask for figures that the console's /metrics has, by their labels."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from daemon.console.probes import gauges

NOW: dict[str, Any] = {
    "service": {"running": True},
    "states": {"RECEIVED": 2},
    "causes": [{"halt": "WORKER_FAILED", "destination": None, "jobs": 1}],
    "queue": {"length": 3, "seconds_a_job": 40.0},
    "destinations": [{"destination": "archive", "waiting": 1, "failed": 0, "outage": True}],
    "disk": {"free_mb": 100, "min_free_mb": 10, "days_left": 3.5},
    "quarantine": 0,
}
QUALITY: dict[str, Any] = {
    "groups": [{"by": "model", "name": "resnet50 1", "corrections": 1, "liver_dice": 0.9, "lesion_dice": 0.5}],
    "drift": [{"by": "rule", "name": "liver-ct", "measure": "refused", "lately": 0.5}],
}


@pytest.fixture(scope="module")
def metrics() -> dict[str, set[str]]:
    """The names of all figures, with their labels."""
    found = {}
    for line in generate_latest(gauges(NOW, QUALITY)).decode().splitlines():
        if match := re.match(r"(porta_\w+)(?:\{(.+)\})? ", line):
            found[match[1]] = set(re.findall(r"(\w+)=", match[2] or ""))
    return found


def expressions(deploy: Path) -> list[tuple[str, str]]:
    """Each expression, with the text that shows what it finds."""
    board = json.loads((deploy / "grafana.json").read_text())
    rules = yaml.safe_load((deploy / "alerts.yaml").read_text())["groups"][0]["rules"]
    shown = [(target["expr"], target["legendFormat"]) for panel in board["panels"] for target in panel["targets"]]
    return shown + [(rule["expr"], rule["annotations"]["summary"]) for rule in rules]


def test_every_figure_is_there(deploy: Path, metrics: dict[str, set[str]]) -> None:
    """And every figure that there is, is shown or watched."""
    asked = {name for expr, _ in expressions(deploy) for name in re.findall(r"\bporta_\w+", expr)}
    assert asked <= set(metrics)
    assert set(metrics) - asked <= {"porta_deliveries_failed"}


def test_labels_are_those_of_the_figure(deploy: Path, metrics: dict[str, set[str]]) -> None:
    """`{{destination}}` or `$labels.halt` of a figure without it would be shown empty."""
    for expr, text in expressions(deploy):
        named = set(re.findall(r"\$labels\.(\w+)|\{\{(\w+)\}\}", text))
        labels = {one or other for one, other in named} - {"__name__"}
        known = set().union(*(metrics[name] for name in re.findall(r"\bporta_\w+", expr)))
        assert labels <= known, expr
