"""Invariant 2, without sockets, disks and clocks: killed at any record, any number of times."""

from bisect import bisect_right
from collections import defaultdict

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from seisbench_weights import write_weights
from test_stream_equals_batch import (
    T0_S,
    channels,
    cut,
    in_one_go,
    infer,
    interleaved,
    new_engine,
    own_weights,
    told,
)

from streamer.checkpoint import Checkpoint
from streamer.config import PickingConfig
from streamer.picking.engine import Engine
from streamer.picks import Pick
from streamer.seedid import Instrument
from streamer.seedlink.state import Ledger, Need
from streamer.timebase import NS_PER_S
from streamer.waveforms.records import Record

RECORDS_PER_S = 20  # as they arrive
SERVER = "server:18000"


class Reference:
    """A network, and the messages it gives of the archive in one go."""

    def __init__(self, picking: PickingConfig) -> None:
        self.picking = picking
        self.messages = in_one_go(picking)

    def __repr__(self) -> str:
        return f"<{len(self.messages)} messages>"


@pytest.fixture(scope="module", params=["msnet", "windows of PhaseNet"])
def reference(request: pytest.FixtureRequest, tmp_path_factory, seisbench_cache) -> Reference:
    if request.param == "msnet":
        return Reference(PickingConfig(weights=own_weights(tmp_path_factory.mktemp("weights"))))
    return Reference(PickingConfig(model=write_weights(seisbench_cache, "PhaseNet")))


class Server:
    """Numbered records in the order in which they arrive; goes on as real servers do.

    With `one_count` all stations are numbered together, and all go on at the newest number given.
    """

    def __init__(self, records: list[Record], first: int, wrap: int, *, one_count: bool) -> None:
        counts: dict[str, int] = defaultdict(lambda: first)
        self.packets: list[tuple[str, int, Record]] = []
        for record in records:
            station = f"{record.nslc.network}_{record.nslc.station}"
            count = "" if one_count else station
            self.packets.append((station, counts[count] % wrap, record))
            counts[count] += 1
        self._one_count = one_count

    def after(self, positions: dict[str, dict[str, object]]) -> list[tuple[int, str, int, Record]]:
        """Packets with their place in the order of arrival, beginning behind the positions."""
        places: dict[tuple[str, int], int] = {
            (station, number): place for place, (station, number, _) in enumerate(self.packets)
        }
        by_number = {number: place for (_, number), place in places.items()}
        given = positions.get(SERVER, {})
        begin: dict[str, int] = {}
        for station, position in given.items():
            if self._one_count:
                begin[station] = by_number.get(position.sequence, -1)
            else:
                begin[station] = self._place_of(station, position.sequence)
        newest = max(begin.values(), default=-1)
        return [
            (place, *packet)
            for place, packet in enumerate(self.packets)
            if place > (newest if self._one_count else begin.get(packet[0], -1))
        ]

    def _place_of(self, station: str, sequence: int) -> int:
        """The last packet of the station up to this number."""
        own = [(n, place) for place, (name, n, _) in enumerate(self.packets) if name == station]
        at = bisect_right(own, (sequence, len(self.packets)))
        return own[at - 1][1] if at else -1


def checkpoint_of(engine: Engine, ledger: Ledger) -> Checkpoint:
    def need(instrument: Instrument) -> Need | None:
        needed = engine.scheduler.needed_from_ns(instrument)
        return None if needed is None else Need(*needed)

    ledger.advance(need)
    return Checkpoint(ledger.positions(), {}, engine.judged())


class Life:
    """One life of a daemon: from a checkpoint up to its end."""

    def __init__(self, reference: Reference, server: Server, checkpoint: Checkpoint) -> None:
        before = Checkpoint.from_json(checkpoint.to_json(0)).judged  # as after a way by the disk
        self.engine, self._clock = new_engine(reference.picking, before)
        self.ledger = Ledger(checkpoint.positions, checkpoint.started)
        self.packets = server.after(checkpoint.positions)
        self.messages: list[Pick] = []

    def run(self, stop: int, every: int, keep_every: int) -> Checkpoint | None:
        """Take the packets before place `stop`; the last checkpoint."""
        kept = None
        for count, (place, station, number, record) in enumerate(self.packets):
            if place >= stop:
                break
            self._take(place, station, number, record)
            if count % every == 0:
                self.messages += infer(self.engine, self.engine.scheduler.collect())
            if count % keep_every == keep_every - 1:
                kept = self.checkpoint()
        return kept

    def checkpoint(self) -> Checkpoint:
        return checkpoint_of(self.engine, self.ledger)

    def finish(self) -> None:
        self.messages += infer(self.engine, self.engine.scheduler.finish())

    def _take(self, place: int, station: str, number: int, record: Record) -> None:
        self._clock.advance(record.end_ns)
        while not self.engine.scheduler.has_room(record):
            self.messages += infer(self.engine, self.engine.scheduler.collect())
        self.engine.bank.accept(record)
        received_ns = place * NS_PER_S // RECORDS_PER_S
        self.ledger.note(SERVER, station, number, record.start_ns, received_ns)
        self.ledger.note_data(record.nslc.instrument, station, record.end_ns)


@settings(max_examples=6, deadline=None)
@given(
    kills=st.lists(st.integers(20, 100), min_size=1, max_size=6),
    sizes=st.lists(st.integers(60, 900), min_size=1, max_size=4),
    lag_s=st.integers(0, 8),
    every=st.integers(1, 60),
    keep_every=st.integers(5, 200),
    one_count=st.booleans(),
    first=st.sampled_from([0, 1, 900, 16_777_000]),
    seed=st.integers(0, 1000),
)
# All that is left is taken at the end, from what was judged before to what was not.
@example(
    kills=[100], sizes=[900], lag_s=8, every=46, keep_every=5, one_count=False, first=900, seed=700
)
def test_a_daemon_killed_at_any_records_makes_the_messages_of_one_that_never_was(
    reference, kills, sizes, lag_s, every, keep_every, one_count, first, seed
):
    """None is lost, and what is made twice is the same message, which the spool knows."""
    records = interleaved([*sizes, 200], lag_s, 0, seed)
    # Numbers of three bytes come round again; those of one station each never in this test.
    server = Server(records, first, 1 << (24 if one_count else 64), one_count=one_count)
    checkpoint = Checkpoint()
    messages: list[Pick] = []
    for kill in sorted(kills):
        life = Life(reference, server, checkpoint)
        checkpoint = life.run(kill * len(records) // 100, every, keep_every) or checkpoint
        messages += life.messages
    life = Life(reference, server, checkpoint)
    life.run(len(records), every, keep_every)
    life.finish()
    same_in_the_end(messages + life.messages, reference.messages)


def each_once(messages: list[Pick]) -> dict[tuple[str, int], tuple[object, ...]]:
    """What is told more than once is the same each time."""
    unique = {(pick.id, pick.rev): told(pick) for pick in messages}
    assert all(told(pick) == unique[pick.id, pick.rev] for pick in messages)
    return unique


def same_in_the_end(messages: list[Pick], expected: list[Pick]) -> None:
    assert each_once(messages) == {(pick.id, pick.rev): told(pick) for pick in expected}


@settings(max_examples=5, deadline=None)
@given(
    flush_s=st.integers(40, 120),
    kept_after=st.integers(0, 60),
    killed_after=st.integers(0, 60),
    every=st.integers(1, 30),
)
def test_a_flush_before_the_crash_is_neither_lost_nor_told_again(
    reference, flush_s, kept_after, killed_after, every
):
    """All stations fall silent, give out what they have, and go on; some records later it dies."""
    records = [piece for _, stretch in channels() for piece in cut(stretch, [100])]
    records.sort(key=lambda record: (record.end_ns, record.nslc))
    flush = sum(record.end_ns <= (T0_S + flush_s) * NS_PER_S for record in records)
    server = Server(records, 1, 1 << 24, one_count=True)

    def silent_at_the_flush(killed: int, kept: int) -> tuple[Life, Checkpoint]:
        life = Life(reference, server, Checkpoint())
        life.run(flush, every, len(records))
        life.finish()
        life.packets = life.packets[flush:]
        life.run(flush + kept, every, len(records))
        checkpoint = life.checkpoint()
        life.packets = life.packets[kept:]
        life.run(killed, every, len(records))
        return life, checkpoint

    undisturbed, _ = silent_at_the_flush(len(records), 0)
    undisturbed.finish()
    first, checkpoint = silent_at_the_flush(flush + kept_after + killed_after, kept_after)
    second = Life(reference, server, checkpoint)
    second.run(len(records), every, len(records))
    second.finish()
    same_in_the_end(first.messages + second.messages, undisturbed.messages)
