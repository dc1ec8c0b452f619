"""The record section: a picture of waveforms with picks, and the groups of picks it zooms in on."""

from fractions import Fraction

import numpy as np
import pytest
from bus_picks import make_pick

from streamer.errors import CannotCreateError
from streamer.picks import Pick
from streamer.section import RecordSection, event_groups, save_section
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S
from streamer.waveforms.records import Record

T0_NS = 1_600_000_000 * NS_PER_S


def pick(station: str, at_s: float, phase: str = "P") -> Pick:
    t_ns = T0_NS + round(at_s * NS_PER_S)
    return make_pick(
        0, id=f"{station}{phase}{at_s}", net="XX", sta=station, loc="", phase=phase, t_ns=t_ns
    )


def record(station: str, start_s: float, length_s: float) -> Record:
    samples = np.random.default_rng(0).normal(size=round(length_s * 100)).astype(np.float32)
    nslc = Nslc("XX", station, "", "HHZ")
    return Record(nslc, T0_NS + round(start_s * NS_PER_S), Fraction(100), samples)


def ids(groups: list[list[Pick]]) -> list[list[str]]:
    return [[one.id for one in group] for group in groups]


def test_picks_that_follow_each_other_on_several_stations_are_a_group():
    near = [pick("A", 10), pick("B", 12), pick("A", 16, "S"), pick("B", 20, "S")]
    far = [pick("B", 40), pick("C", 41)]
    assert event_groups([far[1], near[2], near[0], far[0], near[3], near[1]]) == [near, far]


def test_picks_of_one_station_alone_are_no_group():
    assert event_groups([pick("A", 10), pick("A", 11, "S"), pick("B", 30)]) == []
    assert event_groups([]) == []


def test_five_seconds_without_a_pick_end_a_group():
    picks = [pick("A", 0), pick("B", 1), pick("A", 6), pick("B", 7)]
    assert ids(event_groups(picks)) == [["AP0", "BP1"], ["AP6", "BP7"]]


def png_size(path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


@pytest.mark.parametrize("events", [0, 1, 3])
def test_a_picture_is_written_whatever_the_number_of_events(tmp_path, events):
    """Also of records shorter than the high-pass is long."""
    records = [record("A", 0, 60), record("B", 0, 30), record("B", 31, 0.3)]
    picks = [pick(s, 10 + 15 * n + d) for n in range(events) for d, s in ((0, "A"), (1, "B"))]
    path = tmp_path / "section.png"
    save_section(RecordSection(records, picks, "a title"), path)
    assert png_size(path) == (1440, 960)


def test_picks_are_drawn(tmp_path):
    """The picture changes where the phase of a pick changes, for it has another colour."""
    pictures = []
    for phase in "PS":
        path = tmp_path / phase
        save_section(RecordSection([record("A", 0, 10)], [pick("A", 5, phase)], "t"), path)
        pictures.append(path.read_bytes())
    assert pictures[0] != pictures[1]


def test_a_picture_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(CannotCreateError, match=r"no/section\.png"):
        save_section(RecordSection([record("A", 0, 1)], [], "t"), tmp_path / "no" / "section.png")
