"""The data phase of one connection: bytes -> packets handed on, and what is noticed on the way.

Left out, counted and told: what was not asked for (a server that refuses a SELECT sends all
channels of the station), what was here before, bytes that are no packet. A damaged record is handed
on like any other: whoever decodes it rejects it, and its neighbours lose nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

import structlog

from streamer.clock import Clock
from streamer.seedid import Nslc
from streamer.seedlink.discovery import info_item, parse_listing
from streamer.seedlink.link import Link
from streamer.seedlink.packets import (
    Frame,
    InfoAnswer,
    LinkError,
    Packet,
    PacketSplitter,
    channel_of,
)
from streamer.seedlink.progress import Hole, Progress
from streamer.seedlink.watch import StationWatch
from streamer.stationspec import StationSpec
from streamer.timebase import NS_PER_S, iso

log = structlog.get_logger()

# Public servers ask for no more than one sign of life in four minutes.
KEEPALIVE_S = 240.0
# Between looks for silent stations.
LOOK_S = 5.0
# Packets trickle in one by one, and a wake-up costs more than all else that is done for one: they
# are read after a pause, together, unless there is plenty.
PAUSE_S = 0.01
PLENTY_BYTES = 1 << 15
# Names in one line of the log.
SHOWN = 20
# Channels that were not asked for and are remembered as told.
_MAX_TOLD = 1000


@dataclass(frozen=True, kw_only=True)
class Intent:
    """What is wanted of any server, and how long to wait for it, s."""

    spec: StationSpec
    network_timeout_s: float
    discovery_s: float


class Receiver:
    """Hands the packets of `link` to `deliver` until the server ends the session."""

    def __init__(
        self,
        link: Link,
        server: str,
        started: str,
        intent: Intent,
        deliver: Callable[[Packet], Awaitable[None]],
        progress: Progress,
        watch: StationWatch,
        counts: Counter[str],
        clock: Clock,
    ) -> None:
        self._link = link
        self._server = server
        self._started = started
        self._intent = intent
        self._deliver = deliver
        self._progress = progress
        self._watch = watch
        self._counts = counts
        self._clock = clock
        self._splitter = PacketSplitter(v4=link.v4)
        self._answer = InfoAnswer(v4=link.v4)
        self._wanted: dict[bytes, bool] = {}
        self._asked: frozenset[str] = frozenset()
        self._known: frozenset[Nslc] = frozenset()
        self._told: set[bytes] = set()
        self._info_item = info_item(intent.spec, v4=link.v4)
        self._skipped = 0

    async def run(self, asked: Collection[str], known: Collection[Nslc]) -> None:
        """Receive; `asked` are the stations asked for, `known` the channels seen in INFO.

        Raises LinkError if packets cease, the server refuses or closes, or has new channels.
        """
        self._asked, self._known = frozenset(asked), frozenset(known)
        loop = asyncio.get_running_loop()
        latest_s = now_s = loop.time()
        look_s, discover_s = now_s + LOOK_S, now_s + self._intent.discovery_s
        ask_s = self._next_question(now_s, discover_s)
        data = self._link.buffered()
        while True:
            if await self._take_all(data, self._clock(), now_s):
                latest_s = loop.time()
            if self._splitter.ended:
                return
            if loop.time() >= latest_s + self._intent.network_timeout_s:
                raise LinkError("no data within the network timeout")
            if len(data) < PLENTY_BYTES:
                await self._link.pause(PAUSE_S)
            until_s = min(latest_s + self._intent.network_timeout_s, look_s, ask_s)
            data = await self._link.arrived(until_s)
            now_s = loop.time()
            if now_s >= ask_s:
                discover = now_s >= discover_s
                self._link.ask_info(self._info_item if discover else "ID")
                discover_s = now_s + self._intent.discovery_s if discover else discover_s
                ask_s = self._next_question(now_s, discover_s)
            if now_s >= look_s:
                look_s = now_s + LOOK_S
                self._tell_silent(now_s)

    @staticmethod
    def _next_question(now_s: float, discover_s: float) -> float:
        return min(now_s + KEEPALIVE_S, discover_s)

    async def _take_all(self, data: bytes, received_ns: int, now_s: float) -> bool:
        """Hand on the packets that `data` completes; whether there was one with data."""
        any_data = False
        try:
            for frame in self._splitter.feed(data):
                if frame.is_info:
                    self._look_at_info(frame)
                else:
                    any_data = True
                    await self._take(frame, received_ns, now_s)
        finally:
            self._tell_skipped()
        return any_data

    async def _take(self, frame: Frame, received_ns: int, now_s: float) -> None:
        key = frame.key
        if channel_of(key) is None:  # damaged: to be rejected where it is decoded
            key = b""
        wanted = self._wanted.get(key)
        if wanted is None:
            wanted = self._wants(key)
        if not wanted:
            self._leave_out(key)
            return
        if self._progress.is_new(key, frame.payload):
            hole = self._progress.goes_on(key, frame.payload)
            if hole is not None:
                self._tell_hole(hole)
            station = frame.station
            origin = self._server, station, frame.sequence, self._started
            await self._deliver(Packet(frame.payload, received_ns, *origin))
            self._counts["packets"] += 1
        else:
            self._counts["packets_duplicate"] += 1
        if frame.station in self._asked:
            self._progress.took(self._server, frame)
            silent_s = self._watch.heard(frame.station, now_s)
            if silent_s is not None:
                station = frame.station.replace("_", ".")
                log.info("station_back", station=station, silent_s=round(silent_s))

    def _wants(self, key: bytes) -> bool:
        nslc = channel_of(key)
        wanted = nslc is None or self._intent.spec.matches(nslc)
        if len(self._wanted) < 2 * len(self._known) + _MAX_TOLD:
            self._wanted[key] = wanted
        return wanted

    def _leave_out(self, key: bytes) -> None:
        self._counts["packets_unasked"] += 1
        if key not in self._told and len(self._told) < _MAX_TOLD:
            self._told.add(key)
            log.info("channel_unasked", server=self._server, nslc=str(channel_of(key)))

    def _look_at_info(self, frame: Frame) -> None:
        """A new station needs a new connection. Raises LinkError if there is one."""
        text = self._answer.add(frame)
        if text is None:
            return
        listing = parse_listing(text, v4=self._link.v4)
        fresh = {n for n in listing.channels if self._intent.spec.matches(n)} - self._known
        if fresh:
            names = sorted(map(str, fresh))
            log.info("channels_new", server=self._server, channels=names[:SHOWN], count=len(names))
            raise LinkError("the server has new channels")

    def _tell_hole(self, hole: Hole) -> None:
        self._counts["holes"] += 1
        log.warning(
            "seedlink_hole",
            server=self._server,
            nslc=str(channel_of(hole.key)),
            begin=iso(hole.begin_ns),
            end=iso(hole.end_ns),
            length_s=round((hole.end_ns - hole.begin_ns) / NS_PER_S, 3),
        )

    def _tell_skipped(self) -> None:
        skipped = self._splitter.skipped_bytes - self._skipped
        if skipped:
            self._skipped += skipped
            self._counts["bytes_skipped"] += skipped
            head = self._splitter.skipped_head.hex()
            log.warning("seedlink_garbage", server=self._server, skipped_bytes=skipped, head=head)

    def _tell_silent(self, now_s: float) -> None:
        for name, silent_s in self._watch.fallen_silent(now_s):
            station = name.replace("_", ".")
            log.warning("station_silent", station=station, silent_s=round(silent_s))
