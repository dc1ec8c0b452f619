"""The story of a sample becoming a pick, from top to bottom.

    SeedLink server --packets--> receive --queue `packets`--> ingest --> rings
    rings --every tick--> step: schedule, infer (one thread), pick --> publisher --> Redis stream
    observer: what can be asked about all this, by Prometheus, systemd and the web page
    ledger: what arrived --every few seconds--> checkpoint: what is safe is never asked for again

Every queue is bounded. When `packets` is full the receiver waits and TCP pushes back on the server;
when a ring is full of samples that no step has taken, ingest waits; when the publisher's queue is
full its own rule holds, for Redis never holds up the waveforms; when the steps take all the time
there is, their interval widens. The shutdown goes the way of the data: stop receiving, take in what
arrived, do the steps that are complete, write the checkpoint, publish, close.
"""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import structlog

from streamer import __version__
from streamer.bus.asks import answer_asks
from streamer.bus.heartbeat import HeartbeatKeys
from streamer.bus.publisher import Publisher
from streamer.bus.redis_url import RedisServer
from streamer.checkpoint import Checkpoint, Keeper
from streamer.clock import Clock
from streamer.config import Config
from streamer.errors import DataError, MsnetError
from streamer.health import Watchdog, notify
from streamer.heart import Heart
from streamer.http_health import HealthServer
from streamer.observer import Observer
from streamer.picking.engine import Engine, build_engine
from streamer.picking.pace import Pace
from streamer.picking.track import Response, Step
from streamer.reload import Reloader, Reloads
from streamer.seedid import Nslc
from streamer.seedlink.client import FeedConfig, Packet, SeedLinkFeed, feed_config
from streamer.seedlink.inbox import Inbox
from streamer.seedlink.state import Ledger
from streamer.tasks import EndingGroup, end
from streamer.timings import Timings
from streamer.waveforms.records import PIECE_S, Record, decode
from streamer.waveforms.ring import Verdict

log = structlog.get_logger()

DRAIN_S = 10.0  # for the picks that wait at shutdown; systemd gives 30 s for everything
KEEP_S = 3.0  # for the checkpoint at shutdown, if the disk hangs
SETTLE_S = 5.0  # between looks for new stations
REJECTED_HEAD_BYTES = 64  # of a record, for the log: its header and first blockette
REST = 0.25  # at least, of the time that a round over the stations takes; a tick at most
BURST_PACKETS = 100  # taken in before others get a turn


async def run(
    config: Config,
    feed: FeedConfig,
    publisher: Publisher,
    server: RedisServer,
    before: Checkpoint,
    reloads: Reloads,
    stop: asyncio.Event,
    clock: Clock,
) -> None:
    """Pick the stations of the feed until `stop` is set, then publish what is complete and return.

    Goes on from the checkpoint `before`, and writes others to the state folder. Viewers ask for
    waveforms through `server`.

    Raises what the feed raises when no server can be used or none of the stations exist.
    """
    engine = build_engine(config, clock, before.judged)
    ledger = Ledger(before.positions, before.started)
    keeper = Keeper(config.state_dir, engine, ledger, publisher, clock)
    packets = Inbox(round(config.seedlink.queue_mb * 1e6))
    pace = Pace(config.picking.step_s, time.monotonic)
    observer = Observer(engine, publisher, clock)
    line = Line(engine, packets, ledger, publisher, observer, pace, clock, config)
    receiver = SeedLinkFeed(feed, packets.put, line.announce, clock, line.counts)
    observer.watch(line.totals, packets.qsize, lambda: receiver.connected, reloads)
    keys = HeartbeatKeys(server, config.redis.prefix, config.instance_name)
    heart = Heart(keys, observer, publisher, clock)
    health = HealthServer.at(
        config.metrics.address, observer.metrics.render, observer.why_not_ready
    )

    async def change_stations(new: Config) -> None:
        await receiver.change_stations(feed_config(new).spec)

    reloader = Reloader(config, reloads, {"stations": change_stations})
    log.info("started", version=__version__, model=engine.picker.provenance.model)
    try:
        async with EndingGroup() as tasks:
            receiving = tasks.create_task(receiver.run())
            ingesting = tasks.create_task(line.ingest())
            stepping = tasks.create_task(line.step(lambda: receiver.connected))
            publishing = tasks.create_task(publisher.run())
            keeping = tasks.create_task(keeper.run())
            onlookers = [
                tasks.create_task(each)
                for each in (
                    line.report(),
                    line.settle(),
                    line.tend(receiver),
                    heart.run(),
                    answer_asks(server, config.redis.prefix, observer.answer),
                    reloader.run(),
                )
            ]
            await stop.wait()
            log.info("stopping")
            notify("STOPPING=1")
            await end(receiving)
            await end(*onlookers, keeping)
            await line.drain(DRAIN_S)
            await end(ingesting, stepping)
            await keeper.close(KEEP_S)
            await publisher.drain(DRAIN_S)
            await end(publishing)
    except* MsnetError as failures:
        raise failures.exceptions[0] from None
    finally:
        if health is not None:
            await asyncio.to_thread(health.close)
    log.info("stopped", **line.totals(), **keeper.counts)


def rest_s(tick_s: float, round_s: float) -> float:
    """How long to wait after a round that took `round_s`, with a round each tick at best.

    The next batch is the larger and the cheaper for it, so that a machine that is nearly full finds
    its balance; what arrives is taken in meanwhile.
    """
    return min(max(tick_s - round_s, REST * round_s), tick_s)


class Line:
    """The stretch from packets to the publisher: loops around one engine."""

    def __init__(
        self,
        engine: Engine,
        packets: Inbox,
        ledger: Ledger,
        publisher: Publisher,
        observer: Observer,
        pace: Pace,
        clock: Clock,
        config: Config,
    ) -> None:
        self._engine = engine
        self._packets = packets
        self._ledger = ledger
        self._publisher = publisher
        self._observer = observer
        self._pace = pace
        self._clock = clock
        self._tick_s = config.picking.tick_ms / 1000
        self._status_s = config.log.status_s
        self._timings = Timings()
        self.counts: Counter[str] = Counter()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._round_done = asyncio.Event()  # set and cleared after each look at the stations
        self._announced = asyncio.Event()  # a server is there and has some of the stations
        self._finishing = False
        self._finished = asyncio.Event()
        self._progress = 0  # of the steps: looks at the stations, and batches

    def announce(self, channels: list[Nslc]) -> None:
        """Make a station wait for the channels that were asked for."""
        for nslc in channels:
            try:
                self._engine.bank.declare(nslc)
            except DataError as error:
                self.counts["channels_rejected"] += 1
                log.warning("channel_rejected", nslc=str(nslc), error=str(error))
        self._announced.set()

    async def ingest(self) -> None:
        """Packets -> records -> rings. What cannot be used is counted and logged, never fatal."""
        while True:
            burst = [await self._packets.get()]
            while len(burst) < BURST_PACKETS and not self._packets.empty():
                burst.append(self._packets.get_nowait())
            with self._timings.stage("decode"):
                records = list(map(self._decode, burst))
            taking = self._take_all(burst, records)
            while self._goes_on(taking):
                await self._round_done.wait()
            await asyncio.sleep(0)

    def _decode(self, packet: Packet) -> Record | None:
        try:
            record = decode(packet.data)
        except DataError as error:
            self._reject(packet, error)
            return None
        self.counts["records"] += 1
        return record

    def _reject(self, packet: Packet, error: DataError) -> None:
        self.counts["records_rejected"] += 1
        log.warning(
            "record_rejected",
            server=packet.server,
            station=packet.station.replace("_", "."),
            sequence=packet.sequence,
            error=str(error),
            head=packet.data[:REJECTED_HEAD_BYTES].hex(),
        )

    def _goes_on(self, taking: Iterator[None]) -> bool:
        """Let the rings take what they have room for; whether something waits for room."""
        with self._timings.stage("rings"):
            return next(taking, ...) is not ...

    def _take_all(self, packets: list[Packet], records: list[Record | None]) -> Iterator[None]:
        """Put them into the rings; gives way while there is no room."""
        for packet, record in zip(packets, records, strict=True):
            taken = False
            if record is not None:
                taken = yield from self._take(record, packet)
            self._note(packet, record, taken=taken)
            self._packets.task_done()

    def _take(self, record: Record, packet: Packet) -> Generator[None, None, bool]:
        """The same for one; whether it has a place there."""
        verdict = None
        for piece in record.pieces(PIECE_S):
            while not self._engine.scheduler.has_room(piece):
                yield
            try:
                verdict = self._engine.bank.accept(piece, packet.received_ns)
            except DataError as error:
                self._reject(packet, error)
                return False
        return verdict is not Verdict.FUTURE

    def _note(self, packet: Packet, record: Record | None, *, taken: bool) -> None:
        """It is in the rings, or will never be: a restart may go on behind it some time."""
        self._ledger.note(
            packet.server,
            packet.station,
            packet.sequence,
            None if record is None else record.start_ns,
            packet.received_ns,
            packet.started,
        )
        if record is not None and taken:
            self._ledger.note_data(record.nslc.instrument, packet.station, record.end_ns)

    async def step(self, connected: Callable[[], bool]) -> None:
        """Every tick: collect the steps that are due, infer in the thread, pick, hand over."""
        while not self._finished.is_set():
            began = time.monotonic()
            finishing = self._finishing
            self._engine.scheduler.listen(connected=connected())
            self._engine.scheduler.step_blocks = self._pace.step_s
            most_blocks = await self._round(least_blocks=1 if finishing else None)
            self._pace.note(time.monotonic() - began if most_blocks else 0.0)
            self._progress += 1
            self._round_done.set()
            self._round_done.clear()
            if finishing and not most_blocks:
                self._finished.set()
            elif most_blocks <= self._pace.step_s:  # nobody has to catch up: a batch may gather
                await asyncio.sleep(rest_s(self._tick_s, time.monotonic() - began))

    async def _round(self, least_blocks: int | None) -> int:
        """One look at all stations; blocks of the longest step that was due, 0 without one."""
        loop = asyncio.get_running_loop()
        with self._timings.stage("steps"):
            ended = least_blocks is not None
            batches = self._engine.scheduler.collect(least_blocks, ended=ended)
        for batch in batches:
            began, turn_ns = time.monotonic(), self._clock()
            responses = await loop.run_in_executor(self._thread, self._infer, batch)
            self._observer.batch_done(batch, responses, time.monotonic() - began)
            self._progress += 1
            with self._timings.stage("picks"):
                for told in self._engine.told(batch, responses):
                    done_ns = self._clock()
                    picks = [replace(p, turn_ns=turn_ns, done_ns=done_ns) for p in told.messages]
                    judged = told.judged and told.judged.to_json()
                    self._publisher.submit(*picks, source=told.instrument, state=judged)
                    for pick in picks:
                        log.debug("pick", station=f"{pick.net}.{pick.sta}", pick_id=pick.id)
                        self._observer.pick_made(pick)
            self.counts["steps"] += len(batch)
            self.counts["blocks"] += sum(step.blocks for step in batch)
            now_ns = self._clock()
            for step in batch:
                self._timings.passed(step.arrived_ns, now_ns)
        return max((batch[0].blocks or 1 for batch in batches), default=0)

    def _infer(self, batch: list[Step]) -> list[Response]:
        with self._timings.stage("inference"):
            return self._engine.inference.probabilities(batch)

    async def drain(self, timeout_s: float) -> None:
        """Let everything received reach the publisher; gives up after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._packets.join()
                self._finishing = True
                await self._finished.wait()
        except TimeoutError:
            log.warning("drain_incomplete", packets=self._packets.qsize(), timeout_s=timeout_s)

    async def report(self) -> None:
        """A line now and then for whoever reads the log."""
        while True:
            await asyncio.sleep(self._status_s)
            totals = self.totals()
            log.info("status", **totals, timings=self._timings.report())
            notify("STATUS={stations} stations, {published} picks published".format(**totals))

    async def tend(self, receiver: SeedLinkFeed) -> None:
        """Tell systemd that stations have been found, and from then on that the work goes on."""
        await self._announced.wait()
        notify("READY=1")
        pulses = {"steps": lambda: self._progress, "receiver": receiver.pulse}
        await Watchdog(pulses).run()

    async def settle(self) -> None:
        """Keep the garbage collector from what lives as long as the daemon.

        With thousands of stations each of its full rounds would stop everything for 0.2 s.
        """
        settled = 0
        while True:
            await asyncio.sleep(SETTLE_S)
            if len(self._engine.bank.stations) != settled:
                settled = len(self._engine.bank.stations)
                gc.collect()
                gc.freeze()

    def totals(self) -> dict[str, int]:
        """The counters of all stages since the start."""
        counts = self.counts + self._engine.bank.totals() + self._engine.picker.counts
        return {
            "stations": len(self._engine.bank.stations),
            "step_s": self._pace.step_s,
            "packets_waiting": self._packets.qsize(),
            "epochs": self._ledger.epochs,
            "published": self._publisher.published,
            "pending": self._publisher.pending,
            "picks_dropped": self._publisher.dropped,
            "inbox_full": self._packets.times_full,
            **{str(name): count for name, count in sorted(counts.items())},
        }
