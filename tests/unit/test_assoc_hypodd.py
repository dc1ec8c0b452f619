"""hypoDD: files, ph2dt's rules of pairing, and the programs (a stand-in) run and read back."""

import os
import stat
import sys
from dataclasses import replace

import numpy as np
import pytest
from assoc_synthetic import CRUST, source, square_network
from export_scene import EVENT

from streamer.association import hypodd
from streamer.association.geodesy import distances_km
from streamer.association.message import Arrival
from streamer.association.parameters import HypoddParameters
from streamer.errors import ConfigError, DataError, MsnetError
from streamer.timebase import NS_PER_S, iso

START_NS = 1_704_067_199 * NS_PER_S  # one second before the year 2024
RELOCATED = (
    "        1  42.812870   13.215164     4.861      154.2     4162.7     -973.6     52.0     47.9 "
    "    60.5 2016 10 14  0  0  9.140  0.90     0     0    86    63 -9.000  0.039   1\n"
)


def event_at(number, east_km, north_km, depth_km, stations, weight=1.0):
    """Straight rays at 6 and 3.5 km/s to all stations."""
    place = source(0.0, east_km, north_km, depth_km)
    t_ns = START_NS + number * 60 * NS_PER_S
    arrivals = []
    for station in stations:
        lat, lon = np.array([station.lat]), np.array([station.lon])
        away = distances_km(np.array([place.lat]), np.array([place.lon]), lat, lon)[0, 0]
        for phase, speed in (("P", 6.0), ("S", 3.5)):
            at_ns = t_ns + round(np.hypot(away, depth_km) / speed * NS_PER_S)
            arrivals.append(
                Arrival(
                    pick_id=f"{number}{station.sta}{phase}", net=station.net, sta=station.sta,
                    phase=phase, time=iso(at_ns), residual_s=0.0, distance_km=away,
                    azimuth_deg=0.0, weight=weight, prob=1.0,
                )
            )  # fmt: skip
    return replace(
        EVENT, id=f"e{number}", t_ns=t_ns, time=iso(t_ns), lat=place.lat, lon=place.lon,
        depth_km=depth_km, arrivals=tuple(arrivals),
    )  # fmt: skip


@pytest.fixture(scope="module")
def stations():
    return square_network()


@pytest.fixture(scope="module")
def line(stations):
    """Six events, 2 km apart from west to east."""
    return [event_at(n, 2.0 * n - 5, 0.0, 8.0, stations) for n in range(6)]


def numbers(pairs):
    return [(pair.first, pair.second) for pair in pairs]


def test_an_event_pairs_with_the_nearest_until_it_has_enough_neighbours(line, stations):
    rules = HypoddParameters(most_neighbours=2, greatest_separation_km=4.5)
    found = numbers(hypodd.pairs(line, stations, rules))
    # 1 looks at 2 and 3; 2 has 1 already and takes 3; 3 has both; 4 takes 3, then 5; and so on.
    assert found[:3] == [(1, 2), (1, 3), (2, 3)]
    assert len(set(found)) == len(found)
    assert all(abs(a - b) <= 2 for a, b in found)


def test_pairs_need_enough_links_and_have_those_of_the_nearest_stations(line, stations):
    assert not list(hypodd.pairs(line, stations, HypoddParameters(least_links=33)))
    for pair in hypodd.pairs(line, stations, HypoddParameters(most_links=9)):
        assert len(pair.links) == 9
    near = HypoddParameters(greatest_distance_km=12.0, least_links=1)
    links = {link[0] for pair in hypodd.pairs(line, stations, near) for link in pair.links}
    assert 0 < len(links) < 16


def test_picks_of_little_weight_and_impossible_differences_are_left_out(line, stations):
    light = event_at(7, 0.0, 0.5, 8.0, stations, weight=0.2)
    assert not list(hypodd.pairs([line[0], light], stations, HypoddParameters(least_weight=0.3)))
    wild = replace(
        line[1],
        arrivals=tuple(replace(a, time=iso(line[1].t_ns)) if a.phase == "P" else a
                       for a in line[1].arrivals),
    )  # fmt: skip
    (pair,) = hypodd.pairs([line[0], wild], stations, HypoddParameters())
    assert {link[4] for link in pair.links} == {"S"}


def test_station_labels_have_seven_letters_and_are_each_of_one_station():
    codes = [("AA", "ROC"), ("BB", "ROC"), ("AA", "LONGNAME1"), ("AA", "LONGNAME2"), ("CC", "X")]
    labels = hypodd.station_labels(codes)
    assert labels["AA", "ROC"] == "ROC"
    assert len(set(labels.values())) == 5
    assert max(map(len, labels.values())) <= 7


def test_files_have_the_columns_that_hypodd_reads(line, stations, tmp_path):
    high = [replace(line[0], depth_km=-0.5), *line[1:]]
    deeper_km = hypodd.write_files(tmp_path, high, stations, CRUST, HypoddParameters())
    assert deeper_km == pytest.approx(0.5)
    phases = (tmp_path / "phase.dat").read_text().splitlines()
    assert phases[0].split()[:9] == [
        "#", "2023", "12", "31", "23", "59", "59.000", f"{high[0].lat:.5f}", f"{high[0].lon:.5f}",
    ]  # fmt: skip
    assert float(phases[0].split()[9]) == pytest.approx(0.0)
    assert phases[1].split()[3] == "P"
    times = (tmp_path / "dt.ct").read_text().splitlines()
    assert times[0].split()[0] == "#"
    label, first_s, second_s, weight, phase = times[1].split()
    assert label in {one.sta for one in stations}
    assert (float(weight), phase) == (1.0, "P")
    assert abs(float(first_s) - float(second_s)) < 1.0
    events = (tmp_path / "event.sel").read_text().splitlines()
    assert events[0].split()[:2] == ["20231231", "23595900"]
    assert len(events) == 6
    control = (tmp_path / "hypoDD.inp").read_text().splitlines()
    data = [text for text in control if not text.startswith("*")]
    assert data[0] == ""  # no cross-correlation times
    assert data[-4].split()[0] == "3"  # layers
    assert data[-3].split() == ["0.000", "6.500", "20.500"]


PROGRAM = """#!{python} -SE
import sys
print("starting")
if {fail}: sys.exit("no space left")
with open("hypoDD.reloc", "w") as file:
    for line in open("event.sel"):
        date, time, lat, lon, depth, mag, *_, number = line.split()
        lat = float(lat) + 0.001
        file.write(f"{{number}} {{lat:.6f}} {{lon}} {{depth}} 0 0 0 12.0 ****** 30.0 "
                   f"{{date[:4]}} {{date[4:6]}} {{date[6:]}} {{time[:2]}} {{time[2:4]}} "
                   f"{{int(time[4:]) / 100}} 0.9 0 0 8 8 -9 0.03 1\\n")
"""


def install(folder, monkeypatch, fail=False):
    program = folder / "hypoDD"
    program.write_text(PROGRAM.format(python=sys.executable, fail=fail))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_relocations_of_the_program_come_back(line, stations, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    deeper_km = hypodd.write_files(tmp_path, line, stations, CRUST, HypoddParameters())
    moved = hypodd.with_relocations(line, hypodd.run_hypodd(tmp_path, deeper_km))
    assert len(moved) == 6
    for before, after in zip(line, moved, strict=True):
        assert after.lat == pytest.approx(before.lat + 0.001, abs=1e-4)
        assert after.depth_km == pytest.approx(before.depth_km, abs=1e-3)
        assert abs(after.t_ns - before.t_ns) < 0.02 * NS_PER_S
        assert after.relocated_by == "hypodd"
        assert after.lon_error_km == pytest.approx(0.012)
        assert after.lat_error_km == before.lat_error_km  # the program had none


def test_a_failure_of_the_program_is_told_in_its_words(line, stations, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, fail=True)
    hypodd.write_files(tmp_path, line, stations, CRUST, HypoddParameters())
    with pytest.raises(MsnetError, match=r"hypoDD failed with exit code 1; (?s:.*)no space left"):
        hypodd.run_hypodd(tmp_path, 0.0)


def test_without_the_program_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="use the method dd"):
        hypodd.run_hypodd(tmp_path, 0.0)
    with pytest.raises(ConfigError, match="leave the pairing"):
        hypodd.run_ph2dt(tmp_path)


def test_a_line_of_the_fortran_program_is_read(tmp_path):
    path = tmp_path / "hypoDD.reloc"
    path.write_text(RELOCATED)
    (row,) = hypodd.read_relocated(path, deeper_km=1.0)
    assert row[:4] == pytest.approx([1, 42.812870, 13.215164, 3.861])
    assert row[4] == pytest.approx(1476403209.14)
    assert row[5:] == pytest.approx([0.052, 0.0479, 0.0605])
    path.write_text(RELOCATED + "broken\n")
    with pytest.raises(DataError, match="line 2 is not hypoDD's: 1 columns instead of 24"):
        hypodd.read_relocated(path)


def test_all_relocations_of_a_day_are_read(shared_assoc):
    rows = hypodd.read_relocated(shared_assoc / "real_demo" / "out_stalta" / "hypoDD_fortran.reloc")
    assert len(rows) == 773
    assert np.all(np.isfinite(rows))
