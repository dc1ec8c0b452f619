"""A crash after a decision of the clock: what was told stays true, and is told by nobody else."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from test_restarts import RECORDS_PER_S, SERVER, Server, checkpoint_of, each_once
from test_stream_equals_batch import T0_S, channels, cut, new_engine, own_weights

from streamer.checkpoint import Checkpoint
from streamer.config import PickingConfig
from streamer.picks import Pick
from streamer.seedlink.state import Ledger
from streamer.timebase import NS_PER_S
from streamer.waveforms.records import Record

STATION = "AAA"
NEVER_S = 10_000

# Without shrinking: what one example takes is too long for it.
QUICK = settings(max_examples=2, deadline=None, phases=[Phase.explicit, Phase.generate])


@pytest.fixture(scope="module")
def picking(tmp_path_factory) -> PickingConfig:
    return PickingConfig(weights=own_weights(tmp_path_factory.mktemp("weights")))


class Life:
    """One life of a daemon; `states` is what the spool has of the messages of all lives."""

    def __init__(
        self, picking: PickingConfig, server: Server, before: Checkpoint, states: Mapping[str, Any]
    ) -> None:
        self.engine, self.clock = new_engine(picking, before.joined(states).judged)
        self.messages: list[Pick] = []
        self.states: dict[str, Any] = dict(states)
        self._ledger = Ledger(before.positions, before.started)
        self._packets = server.after(before.positions)

    def run(self, until_s: float, every: int = 7) -> None:
        """Take what arrives up to a time of the data, with a look at the stations now and then."""
        until_ns = (T0_S + until_s) * NS_PER_S
        while self._packets and arrives_ns(self._packets[0][3]) <= until_ns:
            place, station, number, record = self._packets.pop(0)
            self.clock.advance(arrives_ns(record))
            self.engine.bank.accept(record)
            received_ns = place * NS_PER_S // RECORDS_PER_S
            self._ledger.note(SERVER, station, number, record.start_ns, received_ns)
            self._ledger.note_data(record.nslc.instrument, station, record.end_ns)
            if place % every == 0:
                self.infer(self.engine.scheduler.collect())

    def finish(self) -> None:
        self.infer(self.engine.scheduler.finish())

    def infer(self, batches: list) -> None:
        for batch in batches:
            for said in self.engine.told(batch, self.engine.inference.probabilities(batch)):
                self.messages += said.messages
                self.states[said.instrument] = said.judged.to_json()

    def checkpoint(self) -> Checkpoint:
        self.states.clear()  # older than the checkpoint
        return checkpoint_of(self.engine, self._ledger)


ARRIVES_NS: dict[tuple[str, int], int] = {}


def arrives_ns(record: Record) -> int:
    return ARRIVES_NS[str(record.nslc), record.start_ns]


def arriving(late: Callable[[Record], float | None]) -> Server:
    """Records of two stations; some arrive at a later time of the data, in s, as `late` says."""
    two = [stretch for station, stretch in channels() if station in {STATION, "BBB"}]
    records = [piece for stretch in two for piece in cut(stretch, [100])]
    ARRIVES_NS.clear()
    for record in records:
        at_s = late(record) if record.nslc.station == STATION else None
        at_ns = record.end_ns if at_s is None else round((T0_S + at_s) * NS_PER_S)
        ARRIVES_NS[str(record.nslc), record.start_ns] = max(at_ns, record.end_ns)
    records.sort(key=lambda record: (arrives_ns(record), record.end_ns, record.nslc))
    return Server(records, 1, 1 << 24, one_count=True)


def killed(picking: PickingConfig, server: Server, kept_s: float, killed_s: float) -> list[Pick]:
    """Messages of two lives: a checkpoint, a crash, and then all that is left comes at once."""
    first = Life(picking, server, Checkpoint(), {})
    first.run(kept_s)
    checkpoint = first.checkpoint()
    first.run(killed_s)
    second = Life(picking, server, checkpoint, first.states)
    second.clock.advance((T0_S + NEVER_S) * NS_PER_S)  # nothing takes time
    second.run(NEVER_S)
    second.finish()
    assert len(first.messages) > 10
    assert len(second.messages) > 10
    return first.messages + second.messages


def consistent(messages: list[Pick]) -> None:
    """What is told twice is the same; each pick has one life; no onset has two picks."""
    each_once(messages)
    lives: dict[str, dict[int, Pick]] = {}
    for pick in messages:
        lives.setdefault(pick.id, {})[pick.rev] = pick
    for life in lives.values():
        assert sorted(life) == list(range(len(life)))
        assert [rev for rev, pick in life.items() if pick.final] == [len(life) - 1]
    for times in finals(messages).values():
        assert min(b - a for a, b in itertools.pairwise(times)) > NS_PER_S // 2


def finals(messages: list[Pick]) -> dict[str, list[int]]:
    """Times of the picks of the station that stay, by phase."""
    last = {pick.id: pick for pick in messages if pick.sta == STATION}
    stay = [pick for pick in last.values() if pick.final and pick.status != "retract"]
    return {p: sorted(pick.t_ns for pick in stay if pick.phase == p) for p in "PS"}


@QUICK
@example(components="Z", stop_s=44, kept_s=9, killed_s=7, back_s=3)
@example(components="ZNE", stop_s=47, kept_s=20, killed_s=4, back_s=2)
@given(
    components=st.sampled_from(["Z", "NE", "ZNE"]),
    stop_s=st.integers(40, 55),
    kept_s=st.integers(0, 25),
    killed_s=st.integers(0, 15),
    back_s=st.integers(0, 15),
)
def test_what_was_told_when_the_clock_had_decided_is_not_contradicted_after_a_crash(
    picking, components, stop_s, kept_s, killed_s, back_s
):
    """A component is given up, or a station flushed; after the crash the missing data are there."""
    decided_s = stop_s + (61 if components == "ZNE" else 31)

    def late(record: Record) -> float | None:
        waits = record.nslc.component in components and record.end_ns > (T0_S + stop_s) * NS_PER_S
        return decided_s + back_s if waits else None

    server = arriving(late)
    consistent(killed(picking, server, stop_s + kept_s, decided_s + killed_s))


@QUICK
@example(components="Z", start_s=46, length_s=9, delay_s=39, kept_s=-13, killed_s=16)  # an id twice
@example(components="ZNE", start_s=40, length_s=6, delay_s=45, kept_s=-4, killed_s=1)
@given(
    components=st.sampled_from(["Z", "ZNE"]),
    start_s=st.integers(30, 50),
    length_s=st.integers(1, 10),
    delay_s=st.integers(12, 50),
    kept_s=st.integers(-20, 15),
    killed_s=st.integers(0, 20),
)
def test_onsets_of_late_data_are_told_once_whenever_the_crash_was(
    picking, components, start_s, length_s, delay_s, kept_s, killed_s
):
    """Before, while, or after they are picked once more: the picks are those of one life."""
    stop_s = start_s + length_s
    back_s = stop_s + delay_s

    def late(record: Record) -> float | None:
        inside = start_s <= record.start_ns / NS_PER_S - T0_S < stop_s
        return back_s if inside and record.nslc.component in components else None

    server = arriving(late)
    undisturbed = Life(picking, server, Checkpoint(), {})
    undisturbed.run(NEVER_S)
    undisturbed.finish()
    assert undisturbed.engine.bank.totals()["late_stretches"] == 1
    messages = killed(picking, server, back_s + kept_s, back_s + max(kept_s, 0) + killed_s)
    consistent(messages)
    expected, found = finals(undisturbed.messages), finals(messages)
    for phase, times in expected.items():
        first_ns, stop_ns = ((T0_S + s) * NS_PER_S for s in (start_s, stop_s))
        of_stretch = [t for t in times if first_ns + NS_PER_S // 2 <= t < stop_ns]
        assert [t for t in found[phase] if t in of_stretch] == of_stretch
