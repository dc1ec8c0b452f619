"""What `msnet-stream bench` makes of its measurements: verdicts, quantiles, summary, plot."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from streamer.bench.level import Level, Plan, processing_ms, quantiles, stages_ms
from streamer.bench.run import growing, recordings, report, run_bench, save_plot, summary, table
from streamer.errors import CannotCreateError, NoInputError
from streamer.seedlink.handshake import MAX_STATIONS

LIMIT_MS = 200.0
GOOD = Level(
    stations=100,
    seconds=20.0,
    cpu_ms=0.5,
    stages_ms={"decode": 0.1, "inference": 0.3},
    cores=0.05,
    load_cores=0.01,
    processing_ms={"p50": 60.0, "p95": 110.0, "p99": 120.0},
    picks_ms={"p50": 70.0, "p95": 130.0, "p99": 140.0},
    picks=12,
    peak_rss_mb=300.0,
    blocks_sent=2800,
    blocks_inferred=2800,
    late_s=0.1,
    step_s=1,
)


def status(second, inference_s, latency_ms):
    return {
        "event": "status",
        "timestamp": f"2026-11-22T10:00:{second:02d}.500000Z",
        "timings": {"cpu_s": {"inference": inference_s}, "latency_ms": latency_ms},
    }


def test_a_level_that_keeps_up_has_no_problem():
    assert GOOD.problem(LIMIT_MS) == ""


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"late_s": 1.5}, "packets wait 1.5 s to be taken"),
        ({"blocks_inferred": 2797}, "3 of 2800 blocks lost"),
        ({"faults": {"gap": 2, "picks_dropped": 1}}, "2 gap, 1 picks_dropped"),
        ({"step_s": 2}, "steps widened to 2 s"),
        ({"processing_ms": {"p50": 1.0, "p95": 201.0, "p99": 300.0}}, "p95 above 200 ms"),
        ({"processing_ms": {}}, "p95 above 200 ms"),
    ],
)
def test_a_level_is_too_much_when_anything_waits_is_lost_widened_or_late(change, problem):
    assert replace(GOOD, **change).problem(LIMIT_MS) == problem


def test_stages_are_the_cpu_time_between_the_first_and_the_last_line_per_station_second():
    lines = [status(10, 2.0, {}), status(12, 2.7, {}), status(14, 3.0, {})]
    assert stages_ms(lines, stations=50) == {"inference": pytest.approx(1000 / (50 * 4))}
    assert stages_ms(lines[:1], stations=50) == {}


def test_the_processing_latency_is_the_median_of_the_intervals_that_began_in_the_measurement():
    values = (900.0, 100.0, 300.0, 120.0)
    lines = [status(n, 0.0, {"p50": value / 2, "p95": value}) for n, value in enumerate(values)]
    lines.insert(2, status(9, 0.0, {}))  # nothing was due in it
    assert processing_ms(lines) == {"p50": 60.0, "p95": 120.0}


def test_quantiles_of_nothing_are_none():
    assert quantiles([]) == {}
    assert quantiles([float(n) for n in range(101)]) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}


def test_levels_double_up_to_what_one_connection_can_ask_for():
    levels = list(growing())
    assert levels[0] == 50
    assert all(b == 2 * a for a, b in pairwise(levels[:-1]))
    assert levels[-1] == MAX_STATIONS


def test_the_summary_is_about_the_largest_level_that_was_carried():
    largest = replace(GOOD, stations=400, cpu_ms=0.4)
    too_many = replace(GOOD, stations=800, late_s=20.0)
    text = summary([GOOD, largest, too_many], LIMIT_MS)
    assert text.splitlines() == [
        "CPU us per station-second: decode 100, inference 300; 2500 stations per core",
        "400 stations carried: processing latency p95 110 ms, nothing lost, 300 MB",
    ]


def test_the_summary_says_why_not_even_the_first_level_was_carried():
    text = summary([replace(GOOD, step_s=5)], LIMIT_MS)
    assert text.endswith("100 stations are too many: steps widened to 5 s")


def test_the_report_holds_plan_and_levels_as_json():
    plan = Plan(loops=[np.zeros((3, 100), np.int32)], seconds=5)
    made = json.loads(json.dumps(report(plan, [GOOD]), default=str))
    assert made["plan"]["seconds"] == 5
    assert made["levels"][0]["stations_per_core"] == 2000
    assert made["levels"][0]["problem"] == ""


def test_the_plot_is_a_png_also_when_a_level_has_no_latencies(tmp_path):
    file = tmp_path / "bench.png"
    save_plot([GOOD, replace(GOOD, stations=200, processing_ms={})], LIMIT_MS, file)
    assert file.read_bytes().startswith(b"\x89PNG")


def test_a_table_has_a_row_for_each_level():
    assert table([GOOD, replace(GOOD, picks_ms={}, processing_ms={})], LIMIT_MS).row_count == 2


def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(tmp_path):
    with pytest.raises(CannotCreateError, match="no-such-folder"):
        run_bench(Plan(loops=[]), 10, json_path=tmp_path / "no-such-folder" / "bench.json")


def test_without_a_name_the_recordings_of_the_demo_are_copied_and_a_wrong_name_is_told(tmp_path):
    assert recordings([])[0].shape[0] == 3
    with pytest.raises(NoInputError, match="none"):
        recordings([tmp_path / "none"])
