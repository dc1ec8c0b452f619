"""`msnet-stream demo --association`: events found live in the picks of a network that never was.

The picks of a generated network go through Redis faster than real time, with their latencies and
with the heartbeats of a picker, while the real command `msnet-stream associate` publishes events.
As we know what happened, the map shows the true places too, and the score is exact.
"""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from streamer.association.message import Event, latest_events
from streamer.association.scoring import Score, score
from streamer.association.synthetic import Scenario, Synthetic
from streamer.bus.heartbeat import HeartbeatKeys
from streamer.bus.reading import Entry, read_entries
from streamer.bus.redis_streams import PickStream
from streamer.bus.redis_url import RedisServer
from streamer.demo.parts import START_TIMEOUT_S, Parts, output_folder
from streamer.errors import UnavailableError
from streamer.export.event_formats import event_table
from streamer.export.event_map import EventMap, Place, save_map
from streamer.export.sources import as_events
from streamer.tasks import end
from streamer.timebase import NS_PER_S

SPEED, QUICK_SPEED = 30.0, 120.0  # times real time
WORKER = "associate"
BEAT_S = 0.25  # of wall time
POLL_S = 0.2
# Of wall time: for the worker to compile its loops and find the first event that cannot be missed,
# and for the last ones to settle.
WARM_UP_S, SETTLE_S = 120.0, 60.0
SURE_PICKS = 20
AFTERWARDS_S = 600  # of scenario time
INSTANCE = "demo"
ORDINARY = Scenario()
SHOWN_EVENTS = 16
WRITTEN = ("picks.jsonl", "events.jsonl", "events.png", "stations.csv", "velocity.csv")


def run_association_demo(
    output: Path | None, *, quick: bool = False, scenario: Scenario = ORDINARY
) -> None:
    """Run it and print how well the events agree. Raises MsnetError if a part of it fails."""
    folder = output_folder(output, WRITTEN[0])
    console = Console()
    console.print(
        f"[bold]msnet-stream demo --association[/]: {scenario.stations} stations, "
        f"{scenario.events} earthquakes in {scenario.duration_s / 60:.0f} minutes, one worker"
    )
    made = _until_now(Synthetic.make(scenario))
    write_network(made, folder)
    with contextlib.ExitStack() as cleanup:
        parts = Parts(folder, cleanup)
        parts.start_broker()
        worker = parts.launch(
            WORKER, WORKER, "--redis", parts.url, "--state-dir", parts.state_dir, "--stations",
            folder / "stations.csv", "--velocity-model", folder / "velocity.csv",
        )  # fmt: skip
        with console.status("starting the worker (compiles its loops the first time)"):
            _wait_until(parts, lambda: parts.logged(WORKER, "association_started"))
        asyncio.run(_feed(parts, made, QUICK_SPEED if quick else SPEED, console))
        events = latest_events(_events(parts.server))
        delays_s = _delays_s(parts.server)
        parts.stop(worker)
    with (folder / "events.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(event.to_json() + "\n" for event in events)
    result = score(made, events)
    _draw(made, events, result, folder / "events.png")
    _tell(console, events, result, delays_s)
    console.print(f"Written to {folder}: {', '.join(WRITTEN)} and the log of the worker")


def _until_now(made: Synthetic) -> Synthetic:
    """The scenario moved to where its last pick is published now: none lies in the future."""
    return made.shifted(time.time_ns() - max(pick.made_ns for pick in made.picks))


def write_network(made: Synthetic, folder: Path) -> None:
    """What the command needs (stations.csv, velocity.csv), and picks.jsonl to try it offline."""
    rows = [f"{s.net},{s.sta},{s.lat},{s.lon},{s.elev_km}\n" for s in made.stations]
    (folder / "stations.csv").write_text("net,sta,lat,lon,elev_km\n" + "".join(rows))
    layers = zip(made.model.top_km, made.model.vp_km_s, made.model.vs_km_s, strict=True)
    (folder / "velocity.csv").write_text(
        "top_km,vp_km_s,vs_km_s\n" + "".join(f"{top},{vp},{vs}\n" for top, vp, vs in layers)
    )
    lines = [json.dumps(pick.to_fields()) + "\n" for pick in made.picks]
    (folder / "picks.jsonl").write_text("".join(lines))


async def _feed(parts: Parts, made: Synthetic, speed: float, console: Console) -> None:
    """Publish the picks in their order and time, and show events until all are settled."""
    feed = Feed(parts.server, made, speed)
    progress = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    task = progress.add_task("picks", total=len(made.picks))
    await feed.connect()
    with Live(progress, console=console, refresh_per_second=5, transient=True) as live:
        publishing = asyncio.create_task(feed.run())
        try:
            while not publishing.done():
                await asyncio.sleep(POLL_S)
                parts.check()
                feed.events = latest_events(await asyncio.to_thread(_events, parts.server))
                progress.update(task, completed=feed.published, description=feed.said)
                title = f"msnet:events, {len(feed.events)} events"
                shown = event_table(feed.events[-SHOWN_EVENTS:], title)
                live.update(Group(progress, shown))
            await publishing
        finally:
            await end(publishing)
            await feed.close()


class Feed:
    """Stands in for a picker: publishes picks when they are due, and heartbeats.

    Scenario time runs `speed` times as fast as the clock, once the first event is there: the worker
    compiles its loops when it first needs them. `events` is what the worker has published, for the
    feed to know when it may begin and when it is done.
    """

    def __init__(self, server: RedisServer, made: Synthetic, speed: float) -> None:
        self._stream = PickStream(server, clock=time.time_ns)
        self._heartbeat = HeartbeatKeys(server, "msnet", INSTANCE)
        self._made = made
        self._picks = made.picks
        self._stations = sorted({pick.nslc[:-1] for pick in made.picks})
        self._speed = speed
        self.published = 0
        self.events: list[Event] = []
        self.said = "picks"

    async def connect(self) -> None:
        """Raises UnavailableError."""
        await self._stream.connect()

    async def run(self) -> None:
        """Publish all of it. Raises UnavailableError if no events come or they do not settle."""
        start_ns = self._first_event_ns()
        self.said = "the first event (the worker compiles its loops the first time)"
        await self._until(lambda: bool(self.events), start_ns, WARM_UP_S)
        self.said = f"{self._speed:g} x real time"
        began_s = time.monotonic()
        while self.published < len(self._picks):
            passed_s = (time.monotonic() - began_s) * self._speed
            await self._publish(start_ns + round(passed_s * NS_PER_S))
            await asyncio.sleep(BEAT_S)
        self.said = "all picks are out; the last events settle"
        # The heartbeats are minutes later, so that the windows of the last events close.
        later_ns = time.time_ns() + AFTERWARDS_S * NS_PER_S
        if not await self._until(self._all_settled, later_ns, SETTLE_S):
            raise UnavailableError(f"events not settled after {SETTLE_S:g} s: see the worker's log")

    async def close(self) -> None:
        """Close the connections."""
        await self._stream.close()
        await self._heartbeat.close()

    def _all_settled(self) -> bool:
        return bool(self.events) and all(event.status == "final" for event in self.events)

    def _first_event_ns(self) -> int:
        """When the picks of the first event that cannot be missed are out."""
        owner = self._made.owner
        sizes = Counter(owner.values())
        sure = [n for n, size in sorted(sizes.items()) if n >= 0 and size >= SURE_PICKS]
        if not sure:
            return self._picks[0].made_ns
        return max(pick.made_ns for pick in self._picks if owner[pick.id] == sure[0])

    async def _until(self, is_so: Callable[[], bool], now_ns: int, limit_s: float) -> bool:
        """Stand still in scenario time until something is so; whether it was in time."""
        deadline_s = time.monotonic() + limit_s
        while not is_so() and time.monotonic() < deadline_s:
            await self._publish(now_ns)
            await asyncio.sleep(BEAT_S)
        return is_so()

    async def _publish(self, now_ns: int) -> None:
        """What is due at this time of the scenario, and how far that goes."""
        end = self.published
        while end < len(self._picks) and self._picks[end].made_ns <= now_ns:
            end += 1
        if end > self.published:
            await self._stream.publish(self._picks[self.published : end])
            self.published = end
        waiting = self._picks[end:]
        await self._beat(min((pick.t_ns for pick in waiting), default=now_ns))

    async def _beat(self, through_ns: int) -> None:
        """Say that every pick with an onset before `through_ns` is out."""
        now_ns = time.time_ns()
        station = {"instance": INSTANCE, "time_ns": now_ns, "through_ns": through_ns}
        health = {
            "time_ns": str(now_ns),
            "through_ns": str(through_ns),
            "stations": str(len(self._stations)),
            "connected": "1",
        }
        await self._heartbeat.beat(health, dict.fromkeys(self._stations, json.dumps(station)))


def _wait_until(parts: Parts, is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not is_so():
        parts.check()
        if time.monotonic() > deadline_s:
            raise UnavailableError(f"the worker does not start: see {parts.folder}")
        time.sleep(POLL_S)


def _entries(server: RedisServer, stream: str) -> Iterator[Entry]:
    return read_entries(server, f"msnet:{stream}")


def _events(server: RedisServer) -> list[Event]:
    return list(as_events(_entries(server, "events")))


def _delays_s(server: RedisServer) -> list[float]:
    """Seconds from the publication of an event's last pick to that of its first version."""
    entered = {message["id"]: _ms(entry) for entry, message in _entries(server, "picks")}
    delays = []
    for entry, message in _entries(server, "events"):
        event = Event.from_fields(message)
        if event.version == 1 and event.status == "preliminary":
            last_ms = max(entered[arrival.pick_id] for arrival in event.arrivals)
            delays.append((_ms(entry) - last_ms) / 1000)
    return delays


def _ms(entry_id: str) -> int:
    return int(entry_id.partition("-")[0])


def _draw(made: Synthetic, events: Sequence[Event], result: Score, path: Path) -> None:
    true = [
        (event, Place(true.lat, true.lon, true.depth_km)) for event, true in result.matched
    ]  # fmt: skip
    missed = [Place(true.lat, true.lon, true.depth_km) for true in result.missed]
    title = (
        f"{len(events)} events found; recall {result.recall:.2f}, precision {result.precision:.2f}"
    )
    save_map(
        EventMap(
            events=events,
            stations=made.stations,
            title=title,
            true=true,
            missed=missed,
            false=result.false,
        ),
        path,
    )


def _tell(
    console: Console, events: Sequence[Event], result: Score, delays_s: Sequence[float]
) -> None:
    console.print(event_table(events, "Events on the Redis stream msnet:events"))
    epicentre_km, depth_km = result.median_errors_km()
    console.print(
        f"[bold]found {result.possible - len(result.missed)} of {result.possible}[/] that have "
        f"picks enough (recall {result.recall:.2f}); {len(result.false)} false "
        f"(precision {result.precision:.2f})"
    )
    console.print(f"median error: epicentre {epicentre_km:.2f} km, depth {depth_km:.2f} km")
    if delays_s:
        p50, p95 = np.percentile(delays_s, [50, 95])
        console.print(
            f"first version after the pick that completes it: median {p50:.2f} s, p95 {p95:.2f} s"
        )
