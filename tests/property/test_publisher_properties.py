"""Whatever server and daemon do, in whatever order: every pick is on the stream once."""

import asyncio
import itertools
from collections.abc import Sequence
from unittest.mock import patch

from bus_picks import NOW_NS, make_pick
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streamer.bus import publisher as publisher_module
from streamer.bus.publisher import Publisher
from streamer.bus.redis_streams import PublishResult
from streamer.bus.spool import Row, Spool
from streamer.errors import UnavailableError
from streamer.picks import Pick

BATCH = 4

TROUBLE = st.one_of(
    st.tuples(st.just("none"), st.just(0)),
    st.tuples(st.just("repeat"), st.integers(1, 9)),  # so many of the last picks come again
    st.tuples(st.just("refuse"), st.integers(1, 3)),  # so many attempts fail
    st.tuples(st.just("no reply"), st.integers(1, 3)),  # or they work, but no answer comes
    st.tuples(st.just("lose"), st.integers(1, 12)),  # the server loses its last entries
    st.tuples(st.just("restart"), st.just(0)),  # of the daemon
)
# Trouble, then so many new picks, then so many attempts to publish.
ROUNDS = st.lists(st.tuples(TROUBLE, st.integers(0, 9), st.integers(0, 4)), max_size=10)
Round = tuple[tuple[str, int], int, int]


class Stream:
    """The rules of the Redis stream, in memory: markers go with the entries that are lost."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str]] = []
        self.refusals = self.silences = 0
        self._last_id = 0

    async def publish(self, picks: Sequence[Pick], after: Row | None = None) -> PublishResult:
        self._maybe_refuse()
        intact = after is None or (after.entry, after.pick.name) in self.entries
        there = {name: entry for entry, name in self.entries}
        duplicates = 0
        for pick in picks:
            if pick.name in there:
                duplicates += 1
                continue
            self._last_id += 1
            there[pick.name] = f"{self._last_id}-0"
            self.entries.append((there[pick.name], pick.name))
        if self.silences:
            self.silences -= 1
            raise UnavailableError("no reply")
        return PublishResult([there[pick.name] for pick in picks], duplicates, intact)

    async def missing(self, rows: Sequence[Row]) -> list[Row]:
        self._maybe_refuse()
        return [row for row in rows if (row.entry, row.pick.name) not in self.entries]

    def _maybe_refuse(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise UnavailableError("refused")


async def play(rounds: Sequence[Round], stream: Stream) -> int:
    """Do the rounds, then let all be published; returns how many picks were submitted."""
    clock = itertools.count(NOW_NS).__next__
    spool = Spool(None, 10, clock)

    def begin() -> Publisher:
        return Publisher(stream, spool, batch=BATCH, clock=clock)

    publisher, made = begin(), 0
    for (trouble, count), new, attempts in rounds:
        if trouble == "repeat":
            submit(publisher, max(made - count, 0), made)
        elif trouble == "refuse":
            stream.refusals = count
        elif trouble == "no reply":
            stream.silences = count
        elif trouble == "lose":
            del stream.entries[-count:]
        elif trouble == "restart":
            await publisher.secure()
            publisher = begin()
        submit(publisher, made, made + new)
        made += new
        for _ in range(attempts):
            await publisher._store()
            await publisher._send()
    assert await publisher.drain(5) == 0
    stream.refusals = stream.silences = 0
    publisher._verified = False  # as every few seconds when nothing waits
    await publisher._send()
    assert await publisher.drain(5) == 0
    await publisher.close()
    return made


def submit(publisher: Publisher, first: int, end: int) -> None:
    for number in range(first, end):
        publisher.submit(make_pick(number))


# A loss is seen, and the daemon restarted before the server tells what is missing.
@example([(("none", 0), 1, 1), (("lose", 1), 1, 1), (("refuse", 1), 0, 1), (("restart", 0), 0, 0)])
@settings(max_examples=100, deadline=None)
@given(ROUNDS)
def test_every_pick_is_on_the_stream_once(rounds: list[Round]) -> None:
    """Refusals, lost replies, lost entries, repetitions and restarts in any order."""
    stream = Stream()
    with patch.object(publisher_module, "_BACKOFF_FIRST_S", 0.0), capture_logs():
        made = asyncio.run(play(rounds, stream))
    names = [name for _, name in stream.entries]
    assert sorted(names) == [make_pick(number).name for number in range(made)]
    if not any(trouble == "lose" for (trouble, _), _, _ in rounds):
        assert names == sorted(names), "in the order in which they were made"
