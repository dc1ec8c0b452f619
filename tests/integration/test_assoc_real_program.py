"""The REAL program as an engine: against one that replays stored outputs, and the real one."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from real_stand_in import stand_in

from streamer.association import real_program
from streamer.association.parameters import RealParameters
from streamer.association.pickfiles import PickRow, pick_table, read_picks
from streamer.association.real_files import (
    read_real_catalogue,
    read_real_picks,
    read_real_stations,
)
from streamer.association.real_program import RealProgram
from streamer.association.stations import Station, read_stations
from streamer.association.velocity import LayeredModel
from streamer.errors import ConfigError, DataError, MsnetError

# Four events in five minutes around the last midnight of November, as the program found them in
# these picks (version of August 2021).
STORED = Path(__file__).parent / "real_program"
CRUST = LayeredModel.from_layers([(0.0, 5.5, 3.1), (6.0, 6.2, 3.55), (20.0, 7.0, 4.0)])
MIDNIGHT_NS = 1_701_388_800 * 10**9


@pytest.fixture(scope="module")
def stations():
    return read_stations(STORED / "stations.csv")


@pytest.fixture(scope="module")
def rows():
    return read_picks(STORED / "picks.csv")[0]


@pytest.fixture
def program(tmp_path, stations):
    codes = {("XX", f"S{n:04d}"): (one.lat, one.lon) for n, one in enumerate(stations)}
    return stand_in(tmp_path, STORED / "phase_sel.txt", (2023, 11, 30), codes)


def engine(stations, program, timeout_s=30.0):
    return RealProgram(stations, CRUST, RealParameters(), program, timeout_s)


def owners(table, event):
    return {table.ids[row].split("-")[0] for row in event.picks}


def assert_as_stored(table, events):
    assert [owners(table, event) for event in events] == [{"e0"}, {"e1"}, {"e2"}, {"e3"}]
    # The program's own days are those of a November with 31 days; ours are not.
    times_s = [event.node.time_s + table.epoch_ns / 1e9 - MIDNIGHT_NS / 1e9 for event in events]
    assert times_s == pytest.approx([-80.375, -5.619, 11.988, 159.584], abs=1e-6)
    assert [len(event.picks) for event in events] == [26, 27, 27, 25]
    for event in events:
        travel = table.time_s[event.picks] - event.node.time_s
        assert np.all((travel > 0) & (np.abs(event.residual_s) < 2))


def test_events_come_back_with_their_picks_over_the_end_of_a_month(stations, rows, program):
    table = pick_table(rows, stations)
    assert_as_stored(table, engine(stations, program).associate(table))


def test_every_event_is_found_once_whatever_the_windows(stations, rows, program, monkeypatch):
    """Windows of two minutes, overlapping by half: what two of them see is told once."""
    monkeypatch.setattr(real_program, "SHORTEST_WINDOW_S", 120.0)
    monkeypatch.setattr(real_program, "WINDOW_OVERLAPS", 1.5)
    table = pick_table(rows, stations)
    runs = []
    run_program = real_program.run_program

    def counted(command, folder, timeout_s):
        runs.append(folder)
        run_program(command, folder, timeout_s)

    monkeypatch.setattr(real_program, "run_program", counted)
    assert_as_stored(table, engine(stations, program).associate(table))
    assert len(runs) > 3
    assert not any(folder.exists() for folder in runs)


def test_a_window_ends_before_a_station_has_more_picks_than_the_program_holds(
    stations, rows, program, monkeypatch
):
    monkeypatch.setattr(real_program, "MOST_PICKS", 9)
    monkeypatch.setattr(RealProgram, "_run", lambda self, table, window: sizes.append(window) or [])
    sizes: list = []
    table = pick_table(rows, stations)
    engine(stations, program).associate(table)
    assert len(sizes) > 1
    for window in sizes:
        path = 2 * table.station[window].astype(int) + table.phase[window]
        assert np.bincount(path).max() <= 9
    assert set(np.concatenate(sizes)) == set(range(len(table)))


def test_a_station_with_too_many_picks_for_any_window_is_named(stations, program, monkeypatch):
    monkeypatch.setattr(real_program, "MOST_PICKS", 50)
    crowd = [
        PickRow(stations[3].code, "P", MIDNIGHT_NS + i * 10**8, 0.5, 1.0, str(i)) for i in range(99)
    ]
    with pytest.raises(DataError, match=r"takes 50 picks of a station and phase, and XX\.S03 has"):
        engine(stations, program).associate(pick_table(crowd, stations))


def test_a_failure_says_what_the_program_said(stations, rows, program, monkeypatch):
    monkeypatch.setenv("STAND_IN", "fail")
    with pytest.raises(MsnetError, match=r"exit code 3; it said: (?s:.*)malloc memory error"):
        engine(stations, program).associate(pick_table(rows, stations))


def test_a_program_without_a_result_is_no_quiet_day(stations, rows, program, monkeypatch):
    monkeypatch.setenv("STAND_IN", "silent")
    with pytest.raises(DataError, match=r"wrote no phase_sel\.txt"):
        engine(stations, program).associate(pick_table(rows, stations))


def test_a_slow_program_is_ended_with_all_it_started(
    stations, rows, program, monkeypatch, tmp_path
):
    monkeypatch.setenv("STAND_IN", "hang")
    monkeypatch.setenv("STAND_IN_PIDS", str(tmp_path / "pids"))
    with pytest.raises(MsnetError, match=r"not done after 2 s and was ended; it said: Max"):
        engine(stations, program, timeout_s=2).associate(pick_table(rows, stations))
    for pid in (tmp_path / "pids").read_text().split():
        assert _ends(int(pid))


def _ends(pid: int) -> bool:
    """Whether the process is no more (or a zombie that its new parent has not yet reaped)."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_what_the_program_cannot_express_is_refused(stations, program, monkeypatch):
    mine = [*stations, Station("XX", "DEEP", 46.0, 7.5, -0.4)]
    with pytest.raises(ConfigError, match=r"no sensors below sea level, such as XX\.DEEP"):
        engine(mine, program)
    monkeypatch.setattr(real_program, "MOST_STATIONS", 10)
    with pytest.raises(ConfigError, match="16 stations: the program REAL takes 10 at most"):
        engine(stations, program)


def test_a_missing_program_is_named(stations, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="REAL is not on PATH"):
        RealProgram(stations, CRUST, RealParameters())


def test_a_stored_run_of_the_program_comes_back_whole(shared_assoc, tmp_path):
    """The first four hours of a day, over which windows of one hour slide."""
    folder = shared_assoc / "real_syn"
    catalogue = folder / "out_homo" / "phase_sel.txt"
    stations = read_real_stations(folder / "station.dat")
    codes = {one.code: (one.lat, one.lon) for one in stations}
    day_ns = 1_476_403_200 * 10**9
    rows = read_real_picks(folder / "pk", stations, day_ns)
    table = pick_table((row for row in rows if row.t_ns < day_ns + 14_400 * 10**9), stations)
    stand = stand_in(tmp_path, catalogue, (2016, 10, 14), codes)
    found = RealProgram(stations, CRUST, RealParameters(), stand, 60.0).associate(table)
    stored = [
        event
        for event in read_real_catalogue(catalogue)
        if max(time_s for *_, time_s in event.picks) < 14_400
    ]
    assert len(found) == len(stored) > 20
    for ours, theirs in zip(found, stored, strict=True):
        assert ours.node.time_s + table.epoch_ns / 1e9 == pytest.approx(
            theirs.time_s + day_ns / 1e9, abs=1e-6
        )
        assert len(ours.picks) == len(theirs.picks)


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("REAL") is None, reason="the program REAL is not on PATH")
def test_the_real_program_finds_what_it_found_before(stations, rows):
    table = pick_table(rows, stations)
    found = RealProgram(stations, CRUST, RealParameters(), timeout_s=60.0).associate(table)
    assert_as_stored(table, found)


def test_the_command_finds_the_same_events_through_the_program(program, tmp_path):
    """Block by block, as the worker does, and located with magnitudes like all events."""
    layers = [(0.0, 5.5, 3.1), (6.0, 6.2, 3.55), (20.0, 7.0, 4.0)]
    text = "".join(f"- {{top_km: {t}, vp_km_s: {p}, vs_km_s: {s}}}\n" for t, p, s in layers)
    (tmp_path / "model.yaml").write_text("layers:\n" + text)
    done = subprocess.run(
        [sys.executable, "-m", "streamer.cli", "associate", "--engine", "real-program", "--picks",
         STORED / "picks.csv", "--stations", STORED / "stations.csv", "--velocity-model",
         tmp_path / "model.yaml"],
        capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    owners = [{a["pick_id"].split("-")[0] for a in event["arrivals"]} for event in events]
    assert owners == [{"e0"}, {"e1"}, {"e2"}, {"e3"}]
    assert [len(event["arrivals"]) for event in events] == [26, 27, 27, 25]
    assert {event["profile"] for event in events} == {"real"}
