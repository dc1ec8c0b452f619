"""What Prometheus reads: complete, documented, named alike in alerts and dashboard."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from streamer.http_health import HealthServer
from streamer.latency import stages_s as stages_s_of
from streamer.metrics import SERIES, WORKER_SERIES, Metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
NAMES = {series.name for series in (*SERIES, *WORKER_SERIES)}
# What Prometheus itself adds to a histogram.
SUFFIXES = ("_bucket", "_count", "_sum")


def named_in(text: str) -> set[str]:
    found = set(re.findall(r"\bmsnet_\w+", text))
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in found}


def test_every_series_that_an_alert_names_exists() -> None:
    alerts = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    rules = [rule for group in alerts["groups"] for rule in group["rules"]]
    expressions = " ".join(rule["expr"] for rule in rules)
    assert named_in(expressions) <= NAMES
    assert all({"summary"} <= set(rule["annotations"]) for rule in rules)


def test_every_series_that_the_dashboard_names_exists() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "msnet-stream.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions.append(dashboard["templating"]["list"][1]["query"]["query"])
    assert len(expressions) > 10
    assert named_in(" ".join(expressions)) <= NAMES


def test_labels_in_alerts_are_those_of_their_series() -> None:
    """A summary with a label that does not exist would show an empty name."""
    labels = {label for series in (*SERIES, *WORKER_SERIES) for label in series.labels} | {
        "instance",
        "job",
    }
    text = (DEPLOY / "prometheus" / "alerts.yml").read_text()
    assert set(re.findall(r"\$labels\.(\w+)", text)) <= labels


def test_values_are_exported_under_their_names_with_their_labels() -> None:
    metrics = Metrics(
        lambda: {
            "msnet_redis_up": 1.0,
            "msnet_station_gaps_total": {("CI", "PAS", "", "HH"): 3.0},
        }
    )
    metrics.batch_done(17, 0.004)
    metrics.pick_made(0, 1_000_000_000, 1_200_000_000, {})
    stages_s = stages_s_of([n * 10**8 for n in (0, 4, 5, 10, 11, 12, 0)])
    metrics.pick_made(0, 1_000_000_000, 1_200_000_000, stages_s)
    families = {f.name: f for f in text_string_to_metric_families(metrics.render().decode())}
    (gaps,) = families["msnet_station_gaps"].samples
    assert gaps.value == 3.0
    assert gaps.labels == {
        "network": "CI", "station": "PAS", "location": "", "instrument": "HH",
    }  # fmt: skip
    sums = {
        s.labels["stage"]: s.value
        for s in families["msnet_pick_latency_seconds"].samples
        if s.name.endswith("_sum")
    }
    parts = {"look_ahead": 0.4, "record": 0.1, "telemetry": 0.5, "wait": 0.1, "network": 0.1}
    assert sums == pytest.approx({"data": 2.0, "compute": 0.4, "total": 2.4} | parts)
    assert families["msnet_redis_up"].samples[0].value == 1.0


def test_a_value_without_a_declared_series_is_a_fault() -> None:
    with pytest.raises(KeyError):
        Metrics(lambda: {"msnet_unheard_of": 1.0}).render()


@pytest.fixture
def server() -> Iterator[HealthServer]:
    reasons = iter(["no server", None])
    with_answers = HealthServer("127.0.0.1", 0, lambda: b"series 1\n", lambda: next(reasons))
    assert with_answers.open()
    yield with_answers
    with_answers.close()


def get(server: HealthServer, path: str, method: str = "GET") -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read()


def test_health_is_told_over_http(server: HealthServer) -> None:
    """Alive at once; ready when data flow, and the reason while they do not."""
    assert get(server, "/healthz") == (200, b'{"alive": true}\n')
    assert get(server, "/readyz") == (503, b'{"ready": false, "reason": "no server"}\n')
    assert get(server, "/readyz") == (200, b'{"ready": true}\n')
    assert get(server, "/metrics") == (200, b"series 1\n")
    assert get(server, "/secrets")[0] == 404


def test_nothing_can_be_changed_over_http(server: HealthServer) -> None:
    assert get(server, "/metrics", "POST")[0] == 405


def test_a_taken_port_is_no_reason_to_stop(server: HealthServer) -> None:
    second = HealthServer("127.0.0.1", server.port, bytes, lambda: None)
    assert not second.open()
    second.close()
