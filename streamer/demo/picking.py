"""`msnet-stream demo`: the real daemon on real recordings, as separate processes, to look at.

The recordings come with obspy: 230 s of four stations (UH1 to UH4) of the Bavarian network, with
geothermal microearthquakes near 16:24:33 and 16:27:30 UTC on 27 May 2010.
"""

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
import webbrowser
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from streamer.bus.connect import open_client
from streamer.bus.redis_streams import read_picks
from streamer.bus.redis_url import RedisServer
from streamer.demo.parts import START_TIMEOUT_S, Parts, output_folder
from streamer.demo.recordings import RECORDINGS, load_recordings, recordings_folder
from streamer.errors import UnavailableError
from streamer.output import pick_table, write_picks
from streamer.picks import Pick, latest
from streamer.section import RecordSection, event_groups, save_section
from streamer.timebase import NS_PER_S, iso
from streamer.waveforms.records import Record

STATIONS = "BW.UH?"
SPEED, QUICK_SPEED = 8.0, 40.0  # times real time
RECORD_SECONDS = 1.0  # short records, as low-latency digitisers send them
BUFFER_S = 600  # all of the recordings, for the record sections of the page
SETTLE_S = 3.0  # of wall time after the last record: the last blocks go through
POLL_S = 0.2
SHOWN_PICKS = 18
WRITTEN = ("picks.jsonl", "record-section.png", "events.jsonl", "events.png")


def run_demo(output: Path | None, *, quick: bool = False, keep_running: bool = False) -> None:
    """Run the demo and print what it found. Raises MsnetError if a part of it fails."""
    folder = output_folder(output, WRITTEN[0])
    records = load_recordings()
    console = Console()
    console.print(
        "[bold]msnet-stream demo[/]: four stations, two microearthquakes, one SeedLink server, "
        "one daemon, one Redis stream"
    )
    with contextlib.ExitStack() as cleanup:
        parts = Parts(folder, cleanup)
        daemon = _start(parts, QUICK_SPEED if quick else SPEED)
        page = _start_page(parts)
        if page and not quick and _has_desktop():
            webbrowser.open(page)
        console.print(f"Web page: {page or 'needs starlette and uvicorn, the extra [web]'}")
        _watch(parts, records, QUICK_SPEED if quick else SPEED, console)
        if not keep_running:
            parts.stop(daemon)
        picks = _read(parts.server)
        _write_results(folder, records, picks)
        _tell(console, picks)
        _show_events(console, parts, picks)
        console.print(f"Redis: {parts.url}  stream msnet:picks")
        console.print(f"Written to {folder}: {', '.join(WRITTEN)} and the logs")
        if keep_running:
            socket = parts.server.path
            console.print("Still running; Ctrl-C ends it. In another terminal, for instance:")
            query = f"  redis-cli -s {socket} XREVRANGE msnet:picks + - COUNT 1"
            console.print(query, soft_wrap=True)
            with contextlib.suppress(KeyboardInterrupt):
                daemon.wait()


def _start(parts: Parts, speed: float) -> "subprocess.Popen[str]":
    """Start broker, SeedLink server and daemon; the daemon."""
    parts.start_broker()
    replay = parts.launch(
        "replay", "replay", recordings_folder() / RECORDINGS, "--port", 0, "--speed", speed,
        "--record-seconds", RECORD_SECONDS, piped=True,
    )  # fmt: skip
    address = _first_line(replay, parts.log_of("replay"))
    settings = parts.state_dir / "demo.yaml"
    from streamer.demo.places import write_inventory

    inventory = write_inventory(parts.state_dir / "stations.csv")
    settings.write_text(f"inventory: [{inventory}]\nwaveforms: {{buffer_s: {BUFFER_S}}}\n")
    return parts.launch(
        "daemon", "run", "--stations", STATIONS, "--server", address, "--redis", parts.url,
        "--state-dir", parts.state_dir, "--config", settings,
    )  # fmt: skip


def _start_page(parts: Parts) -> str | None:
    """Start the web page; its address, None where its libraries are not installed."""
    if any(importlib.util.find_spec(name) is None for name in ("starlette", "uvicorn")):
        return None
    page = parts.launch("web", "web", "--redis", parts.url, "--port", 0, piped=True)
    return _first_line(page, parts.log_of("web"))


def _has_desktop() -> bool:
    """Whether a browser has a screen to open on; else `webbrowser` may take the terminal."""
    return sys.platform == "darwin" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ))


def _first_line(process: "subprocess.Popen[str]", log_path: Path) -> str:
    line = process.stdout.readline().strip() if process.stdout else ""
    if not line:
        raise UnavailableError(f"{log_path.stem} did not start: see {log_path}")
    return line


def _watch(parts: Parts, records: list[Record], speed: float, console: Console) -> None:
    """Show picks as they appear on the stream, until the replay is over."""
    start_ns = min(record.start_ns for record in records)
    span_s = (max(record.end_ns for record in records) - start_ns) / NS_PER_S
    progress = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    task = progress.add_task("starting the daemon (loads torch)", total=span_s)
    began_s: float | None = None
    launched_s = time.monotonic()
    shown = Group(progress, Table())
    with Live(shown, console=console, refresh_per_second=5, transient=True) as live:
        while began_s is None or time.monotonic() - began_s < span_s / speed + SETTLE_S:
            parts.check()
            if began_s is None:
                if parts.logged("daemon", "seedlink_connected"):
                    began_s = time.monotonic()
                elif time.monotonic() - launched_s > START_TIMEOUT_S:
                    raise UnavailableError(f"the daemon does not start: see {parts.folder}")
            else:
                data_s = min((time.monotonic() - began_s) * speed, span_s)
                clock = iso(start_ns + int(data_s * NS_PER_S))[11:19]
                progress.update(task, completed=data_s, description=f"data time {clock} UTC")
            picks = _read(parts.server)
            title = f"msnet:picks, {len(picks)} picks"
            live.update(Group(progress, pick_table(picks[-SHOWN_PICKS:], title)))
            time.sleep(POLL_S)


def _read(server: RedisServer) -> list[Pick]:
    return latest(read_picks(server))


def _write_results(folder: Path, records: list[Record], picks: list[Pick]) -> None:
    with (folder / "picks.jsonl").open("w", encoding="utf-8") as file:
        write_picks(picks, "jsonl", file)
    save_section(
        RecordSection(
            records, picks, "Geothermal microearthquakes, 27 May 2010, picked by msnet-stream"
        ),
        folder / "record-section.png",
    )


def _tell(console: Console, picks: list[Pick]) -> None:
    console.print(pick_table(picks, "Picks on the Redis stream msnet:picks"))
    for group in event_groups(picks):
        stations = sorted({pick.sta for pick in group if pick.phase == "P"})
        console.print(
            f"[bold]event near {iso(group[0].t_ns)[11:19]} UTC[/]: P on {', '.join(stations)}; "
            f"{sum(pick.phase == 'S' for pick in group)} S"
        )


def _show_events(console: Console, parts: Parts, picks: list[Pick]) -> None:
    """Associate and locate; the compiled loops are built the first time, which takes a while."""
    from streamer.demo.places import STATIONS as PLACES
    from streamer.demo.places import locate_demo, tell_events
    from streamer.export.event_map import EventMap, save_map

    with console.status("associating and locating (compiles its loops the first time)"):
        events = locate_demo(picks)
    tell_events(console, events, picks)
    with open_client(parts.server) as client:  # for the page
        for event in events:
            client.xadd("msnet:events", event.to_fields())
    folder = parts.folder
    with (folder / "events.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(event.to_json() + "\n" for event in events)
    title = "Geothermal microearthquakes located with four stations"
    save_map(
        EventMap(events=events, stations=PLACES, title=title, errors=True), folder / "events.png"
    )
