"""The association worker: picks from their Redis stream, events to theirs, until it is stopped.

    own the group -> read -> take (one transaction) -> acknowledge -> settle what is due -> publish

Nothing is acknowledged before it is on disk, and nothing is published that is not: a worker killed
at any instant and started again publishes the same versions, none twice. Redis may go away: the
worker waits, and goes on where it was.
"""

import asyncio
import json
import os
import signal
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import structlog

from streamer import __version__
from streamer.association.network import Network
from streamer.association.observe import WorkerObserver, age_s
from streamer.association.offline import read_network
from streamer.association.parameters import AssociationConfig
from streamer.association.share import Share
from streamer.association.store import Store
from streamer.association.warm_up import warm_up
from streamer.association.watermark import Watermark
from streamer.association.window import NEVER_NS, Window
from streamer.bus.address import server_address
from streamer.bus.consumer import Delivery, PickConsumer
from streamer.bus.redis_streams import PickStream
from streamer.clock import Clock
from streamer.config import Config
from streamer.errors import DataError, MsnetError, StolenError, UnavailableError
from streamer.health import Watchdog, notify
from streamer.http_health import HealthServer
from streamer.metrics import Exporter
from streamer.picks import Pick
from streamer.reload import Reloader, Reloads
from streamer.shutdown import stop_on_signals
from streamer.tasks import end

log = structlog.get_logger()

STORE_NAME = "association.sqlite"
BLOCK_S = 0.5  # longest wait for a pick before the watermark is looked at
CLAIM_S, STATIONS_S, SHARES_S = 30.0, 2.0, 10.0
LEASE_S, RENEW_S = 20.0, 5.0
RETRY_S = 1.0
MOST_DELIVERIES = 5
# Blocks settled, and messages sent, before picks get a turn again.
RUNS, SENT = 10, 100
SECONDS_PER_DAY = 86_400


async def work(config: Config, reread: Callable[[], Config] | None = None) -> None:
    """Associate until SIGTERM or SIGINT.

    At SIGHUP the configuration is read again by `reread`. Raises any MsnetError that keeps it from
    starting.
    """
    service = Service(config, Reloads(reread or (lambda: config)))
    await service.run()


class Service:
    """One process: stands by until it owns the group, then works. Reloads in either state.

    The constructor raises what `read_network` raises.
    """

    def __init__(self, config: Config, reloads: Reloads) -> None:
        self._config = config
        self._reloads = reloads
        self._rules = config.association
        self._network = read_network(self._rules)
        self._worker: Worker | None = None
        self._changing = asyncio.Lock()  # a worker that is being made is not passed over

    async def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        config, reloads = self._config, self._reloads
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloads.asked.set)
        # Before the signals that end it are handled: to end it now takes nothing from anyone.
        log.info("association_warming_up")
        warm_up(self._rules)
        server = server_address(config)
        stop = asyncio.Event()
        stop_on_signals(stop)
        retention_s = config.redis.retention_days * SECONDS_PER_DAY
        consumer = PickConsumer(server, prefix=config.redis.prefix, block_s=BLOCK_S)
        events = PickStream(
            server,
            prefix=config.redis.prefix,
            topic="events",
            retention_s=int(retention_s),
            max_entries=config.redis.max_entries,
            marker_life_s=int(retention_s),
            clock=time.time_ns,
        )
        notify("READY=1")
        log.info("association_started", version=__version__, profile=self._rules.profile,
                 stations=len(self._network.stations))  # fmt: skip
        lease = Lease(consumer)
        reloader = Reloader(config, reloads, {"association": self._change})
        beside = [
            asyncio.create_task(reloader.run()),
            asyncio.create_task(Watchdog({"rounds": lambda: self._pulse(lease)}).run()),
        ]
        try:
            if await lease.acquire(stop):
                store = await asyncio.to_thread(Store, config.state_dir / STORE_NAME)
                try:
                    async with self._changing:
                        window = await asyncio.to_thread(Window, store, self._network, self._rules)
                        self._worker = Worker(
                            config, window, store, consumer, events, lease, reloads, time.time_ns
                        )
                    await self._worker.run(stop)
                finally:
                    store.close()
        finally:
            notify("STOPPING=1")
            await end(*beside)
            await lease.release()
            await consumer.close()
            await events.close()

    async def _change(self, new: Config) -> None:
        """Take up stations, velocity model and rules, as a restart would."""
        rules = new.association
        network = await asyncio.to_thread(read_network, rules)
        if rules.profile != self._rules.profile:
            await asyncio.to_thread(warm_up, rules)
        async with self._changing:
            if self._worker is not None:
                await self._worker.change(network, rules)
            self._network, self._rules = network, rules

    def _pulse(self, lease: "Lease") -> object:
        """Changes while rounds are done, or the lease is waited for; memory is read in between."""
        if self._worker is not None:
            return self._worker.rounds
        return lease.tries if not lease.held else time.monotonic()


class Lease:
    """The right to work for the group; renewed in the background while it is held."""

    def __init__(self, consumer: PickConsumer) -> None:
        self._consumer = consumer
        self._token = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"
        self._until_s = 0.0
        self.lost = False
        self.tries = 0

    @property
    def held(self) -> bool:
        """Whether it is certain that no other one works."""
        return time.monotonic() < self._until_s

    async def acquire(self, stop: asyncio.Event) -> bool:
        """Wait for it as a standby; False if stopped meanwhile. Redis need not be there yet."""
        told = None
        while not stop.is_set():
            self.tries += 1
            try:
                await self._consumer.connect()
                if await self.renew():
                    return True
                state = "association_standby"
            except UnavailableError as error:
                state = "redis_down"
                if told != state:
                    log.warning("redis_down", error=str(error))
            if state == "association_standby" and told != state:
                log.info("association_standby")
            told = state
            await _pause(stop, RETRY_S)
        return False

    async def renew(self) -> bool:
        """Whether it is ours for another while."""
        asked_s = time.monotonic()
        if not await self._consumer.own(self._token, LEASE_S):
            self._until_s = 0.0
            return False
        self._until_s = asked_s + LEASE_S
        return True

    async def keep(self) -> None:
        """Renew it until cancelled, or until another one has it."""
        while not self.lost:
            await asyncio.sleep(RENEW_S)
            try:
                self.lost = not await self.renew()
            except UnavailableError:
                continue  # nobody else gets it either

    async def release(self) -> None:
        """Leave it to a standby at once, if Redis is there to be told."""
        if self.held:
            self._until_s = 0.0
            with suppress(UnavailableError):  # it ends by itself
                await self._consumer.release(self._token)


class Worker:
    """One active worker: the loop around the window."""

    def __init__(
        self,
        config: Config,
        window: Window,
        store: Store,
        consumer: PickConsumer,
        events: PickStream,
        lease: Lease,
        reloads: Reloads,
        clock: Clock,
        steady: Clock = time.monotonic_ns,
    ) -> None:
        settings = window.rules
        self.counts: Counter[str] = Counter()
        self._window = window
        self._store = store
        self._consumer = consumer
        self._events = events
        self._lease = lease
        self._clock = clock
        self._steady = steady
        self._status_s = config.log.status_s
        self._watermark = Watermark(
            window.station_codes, settings.hold_s, settings.unheard_lateness_s
        )
        self._due = {"claim": 0.0, "stations": 0.0, "shares": 0.0}
        self._stations: dict[str, dict[str, Any]] = {}
        self._shown: set[str] = set()
        self._shares: dict[tuple[str, str], Share] = {}
        self._lag: int | None = None
        self._observer = WorkerObserver(
            counts=lambda: self.counts + self._window.counts,
            watermark_age_s=lambda: age_s(self._window.watermark_ns, self._clock()),
            shares=lambda: self._shares,
            collapsed=lambda: self._window.shares.collapsed,
            lag=lambda: self._lag,
            reloads=reloads,
        )
        self._health_address = config.metrics.worker_address
        self._wanted: tuple[Network, AssociationConfig, asyncio.Future[None]] | None = None
        self.rounds = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; Redis that goes away is waited for."""
        reporting = asyncio.create_task(self._report())
        keeping = asyncio.create_task(self._lease.keep())
        exporter = Exporter(self._observer.read)
        health = HealthServer.at(
            self._health_address, exporter.render, self._observer.why_not_ready
        )
        down_since_s: float | None = None
        try:
            while not stop.is_set():
                self.rounds += 1
                if self._wanted is not None:
                    await self._renew(*self._wanted)
                    self._wanted = None
                try:
                    await self._round()
                except UnavailableError as error:
                    if down_since_s is None:
                        down_since_s = time.monotonic()
                        log.warning("redis_down", error=str(error))
                    await _pause(stop, RETRY_S)
                    await self._reconnect()
                else:
                    if down_since_s is not None:
                        log.info("redis_up", down_s=round(time.monotonic() - down_since_s, 1))
                        down_since_s = None
            with suppress(UnavailableError):
                await self._publish_shares()
        finally:
            await end(reporting, keeping)
            if health is not None:
                await asyncio.to_thread(health.close)
        log.info("stopped", **self.totals())

    async def change(self, network: Network, rules: AssociationConfig) -> None:
        """Go on with these after the round at hand. Raises what `Window` raises, and then does not.

        Of a worker that ends meanwhile nothing is heard any more.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wanted = network, rules, done
        await done

    async def _renew(
        self, network: Network, rules: AssociationConfig, done: "asyncio.Future[None]"
    ) -> None:
        """Another window on the same memory: what a restart would do, without an end."""
        try:
            window = await asyncio.to_thread(Window, self._store, network, rules)
        except MsnetError as error:
            done.set_exception(error)
            return
        self.counts += self._window.counts
        self._window = window
        self._watermark.follow(window.station_codes, rules.hold_s, rules.unheard_lateness_s)
        done.set_result(None)

    async def _reconnect(self) -> None:
        with suppress(UnavailableError):  # the next round says so again
            await self._consumer.connect()

    async def _round(self) -> None:
        """Read, take, acknowledge, settle a little, publish."""
        if self._lease.lost:
            log.error("association_lease_lost")
            raise StolenError("another association worker has taken over; this one ends")
        await self._publish()
        if self._is_due("stations", STATIONS_S):
            self._stations = await self._consumer.stations()
        # Asked before the picks are read: what was picked before it was said has been read then.
        heard_ns, steady_ns = self._clock(), self._steady()
        deliveries = await self._consumer.read()
        if self._is_due("claim", CLAIM_S):
            deliveries += await self._consumer.claim()
        await self._take(deliveries, heard_ns, steady_ns)
        if self._is_due("shares", SHARES_S):
            await self._publish_shares()

    async def _take(self, deliveries: Sequence[Delivery], now_ns: int, steady_ns: int) -> None:
        heard_ns = self._watermark.heard(now_ns, self._stations)
        picks = []
        for delivery in deliveries:
            try:
                pick = _pick(delivery)
            except DataError as error:
                await self._bury(delivery, str(error))
                continue
            self._watermark.published(min(pick.made_ns, delivery.entered_ns), steady_ns)
            picks.append((pick, delivery.entered_ns, self._watermark.unheard(steady_ns)))
        if heard_ns is not None:
            # What is still in the stream may be older than what the heartbeats say.
            end_ns = heard_ns if self._consumer.drained else NEVER_NS
            picks = [(pick, entered_ns, NEVER_NS) for pick, entered_ns, _ in picks]
        else:
            end_ns = self._watermark.unheard(steady_ns)
        await asyncio.to_thread(self._commit, picks, end_ns)
        await self._consumer.acknowledge([delivery.entry for delivery in deliveries])
        await self._publish()

    def _commit(self, picks: Sequence[tuple[Pick, int, int]], end_ns: int) -> None:
        """One transaction: all that these picks and their watermarks change, one by one.

        So the result does not depend on which of them come in one batch.
        """
        window = self._window
        with self._store.transaction():
            for pick, entered_ns, watermark_ns in picks:
                window.take(pick, entered_ns)
                while window.advance(watermark_ns):
                    continue
            window.advance(end_ns, RUNS)
            window.save()

    async def _bury(self, delivery: Delivery, reason: str) -> None:
        self.counts["dead_letters"] += 1
        log.warning("pick_unreadable", entry=delivery.entry, error=reason)
        await self._consumer.bury(delivery, reason)

    async def _publish(self) -> None:
        while rows := self._store.unsent(SENT):
            if not self._lease.held:
                return
            await self._events.publish(rows)
            self._store.sent(rows[-1].n)
            self.counts["messages"] += len(rows)

    async def _publish_shares(self) -> None:
        shares = self._shares = self._window.shares.shares()
        self._lag = await self._consumer.lag()
        for (station, phase), share, collapsed in self._window.shares.changes(shares):
            event = "station_share_collapsed" if collapsed else "station_share_recovered"
            values = {"phase": phase, "share_1h": share.share_1h, "share_24h": share.share_24h}
            if collapsed:
                log.warning("station_share_collapsed", station=station, **values)
            else:
                log.info("station_share_recovered", station=station, **values)
            self.counts[event] += 1
        texts = {
            f"{station}.{phase}": json.dumps(share.fields())
            for (station, phase), share in shares.items()
        }
        await self._consumer.put_shares(texts, sorted(self._shown - texts.keys()))
        self._shown = set(texts)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(self._status_s)
            log.info("status", **self.totals())

    def totals(self) -> dict[str, object]:
        """All counters, and how far behind the clock the watermark is."""
        behind_s = age_s(self._window.watermark_ns, self._clock())
        return {
            "watermark_behind_s": None if behind_s is None else round(behind_s, 1),
            "stations_not_waited_for": self._watermark.held_back,
            **dict(sorted((self.counts + self._window.counts).items())),
        }

    def _is_due(self, name: str, every_s: float) -> bool:
        now_s = time.monotonic()
        if now_s < self._due[name]:
            return False
        self._due[name] = now_s + every_s
        return True


def _pick(delivery: Delivery) -> Pick:
    """Raises DataError with the reason why a message is none."""
    if delivery.fields is None:
        raise DataError("the entry was trimmed before it was read")
    if delivery.times > MOST_DELIVERIES:
        raise DataError(f"delivered {delivery.times} times and never done with")
    return Pick.from_fields(delivery.fields)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
