"""The side-by-side benchmark: what it is asked for, its figures, and its last line."""

import json
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S
from streamer.waveforms.records import Record, encode

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:seisbench")


@pytest.fixture(scope="module")
def benchmark(seisbench_cache):
    """The script as a module; what it imports from its own folder is forgotten afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import streaming

        yield streaming
    for name in ("streaming", "streaming_studies", "contenders"):
        del sys.modules[name]


def report_of(benchmark, **ms):
    rows = [
        {"name": name, "ms_per_station_s": cost, "stations_per_core": 1000 / cost}
        for name, cost in {benchmark.PEER: 2.0, **ms}.items()
    ]
    return {"contenders": benchmark.with_ratios(rows), "limit": {"stations_per_core": 25_000}}


def test_ratios_say_how_many_times_the_stations_of_seisbench_phasenet_merged_are_carried(benchmark):
    line = benchmark.ratio_line(report_of(benchmark, ours=0.1, slow=8.0))
    assert line == (
        "SeisBench PhaseNet classify, stations merged: 1 (500 stations/core); ours 20.00x; "
        "slow 0.25x; limit of the core 50x"
    )


def test_a_row_has_the_median_and_the_best_round_per_station(benchmark):
    row = benchmark.row("any", 10, benchmark.Turns([0.05, 0.01, 0.02], picks=3))
    assert (row["name"], row["ms_per_station_s"], row["min_ms"], row["picks"]) == (
        "any",
        2.0,
        1.0,
        3,
    )
    assert row["stations_per_core"] == 500


def test_the_limit_counts_each_sample_once_and_two_operations_per_multiply_add(benchmark):
    from model.msnet import MSNet, MSNetConfig

    network = MSNet(MSNetConfig(channels=(2, 4), strides=(100,), kernel=1), pruned=True)
    fine = 3 * 2 + (2 * 2) * 2 + 2 * 2  # stem, decoder block, head: at every sample
    between = 2 * 4 * 100 + 4 * 2 * 100  # down and up: once a second
    counted = benchmark.multiply_adds_per_s(network)
    assert counted == 100 * fine + between + 4 * 4


def test_two_stations_and_one_round_give_every_contender_a_row_in_the_json_and_end_with_the_line(
    benchmark, tmp_path
):
    file = tmp_path / "figures.json"
    options = ["--stations", "2", "--rounds", "1", "--json", str(file)]
    result = CliRunner().invoke(benchmark.main, options, catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads(file.read_text())
    assert (report["stations"], report["rounds"]) == (2, 1)
    names = [row["name"] for row in report["contenders"]]
    assert len(names) == len(set(names)) == 6
    assert all(len(row["rounds_ms"]) == 1 for row in report["contenders"])
    assert report["limit"]["stations_per_core"] > 0
    assert report["machine"]["torch"]
    assert result.stdout.splitlines()[-1] == benchmark.ratio_line(report)


@pytest.mark.parametrize(
    "options",
    [
        ["--stations", "0"],
        ["--rounds", "0"],
        ["--data", "no-such-folder"],
        ["--json", "no-such-folder/a"],
    ],
)
def test_an_option_that_makes_no_sense_is_refused_before_anything_is_measured(benchmark, options):
    result = CliRunner().invoke(benchmark.main, options)
    assert result.exit_code == 2
    assert options[0] in result.stderr


def test_synthetic_stations_have_onsets_that_our_picker_finds(benchmark):
    from contenders import Streaming, measure, waves

    (turns,) = measure([Streaming(waves(None), 4)], rounds=60)  # one loop
    assert turns.picks >= 4


def test_the_seconds_of_a_station_continue_each_other_and_begin_elsewhere_for_each_copy(benchmark):
    from contenders import waves

    found = waves(None)
    whole = found.between(5, 100, 103)
    parts = [found.between(5, second, second + 1) for second in range(100, 103)]
    assert np.array_equal(whole, np.concatenate(parts, axis=1))
    assert np.array_equal(found.newest(6, 103, 250)[5], whole[:, -250:])
    assert not np.array_equal(found.between(5 + 16, 100, 103), whole)  # 16 loops: the same one


def test_a_day_in_a_file_is_picked_by_both_and_the_ratio_is_ours_to_reading_and_classifying(
    benchmark,
):
    from contenders import waves
    from streaming_studies import offline

    told = []
    found = offline(waves(None), 0.05, told.append)
    peer_s = found["peer_reading_s"] + found["peer_classify_s"]
    assert found["ratio"] == pytest.approx(peer_s / found["ours_s"])
    assert told[0] == "offline, writing"


def written_recording(path: Path, rate: int = 100) -> np.ndarray:
    """Seven and a half seconds of three components, of which N begins a second later."""
    samples = np.random.default_rng(0).integers(-999, 999, (3, 750), dtype=np.int32)
    with path.open("wb") as file:
        for component, trace, late_s in zip("ZNE", samples, (0, 1, 0), strict=True):
            begin = Record(
                Nslc("XX", "A", "", f"HH{component}"),
                late_s * NS_PER_S,
                Fraction(rate),
                trace[late_s * rate :],
            )
            file.writelines(encode(begin))
    return samples


def test_a_recording_is_repeated_by_whole_seconds_from_where_all_components_are(
    benchmark, tmp_path
):
    from streaming_studies import repeated

    samples = written_recording(tmp_path / "a.mseed")
    day = repeated(tmp_path / "a.mseed", 20)
    assert day.shape == (3, 2000)
    np.testing.assert_array_equal(day, np.tile(samples[:, 100:700], 4)[:, :2000])


def test_a_recording_of_another_rate_is_refused(benchmark, tmp_path):
    from streaming_studies import repeated

    written_recording(tmp_path / "a.mseed", rate=50)
    with pytest.raises(ValueError, match="100 Hz"):
        repeated(tmp_path / "a.mseed", 20)


def test_latencies_are_at_least_the_work_of_a_look_and_a_core_with_two_stations_is_mostly_idle(
    benchmark,
):
    from contenders import waves
    from streaming_studies import latencies

    found = latencies(waves(None), 2, 2, lambda name: None)
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert 0 < found["utilisation"] < 1


def test_the_curves_are_a_png_with_the_slope_of_a_line_through_the_stations(
    benchmark, tmp_path, monkeypatch
):
    import streaming_studies as studies
    from contenders import waves

    monkeypatch.setattr(studies, "CURVE_STATIONS", (1, 2))
    monkeypatch.setattr(studies, "CURVE_WINDOWS_S", (10, 20))
    monkeypatch.setattr(studies, "CURVE_WINDOW_STATIONS", 2)
    found = studies.curves(waves(None), 1, lambda name: None)
    one_ms, two_ms = found["streaming_ms"]
    assert found["streaming_ms_per_station_s"] == pytest.approx(two_ms - one_ms, abs=1e-9)
    assert len(found["full_window_ms_per_station_s"]) == 2
    with (tmp_path / "curves.png").open("wb") as file:
        studies.save_curves(found, file)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
