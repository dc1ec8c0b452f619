"""A day of a small network through the daemon, many times faster than real time: does it grow?

    python benchmarks/soak.py --hours 24 --speed 60 --stations 20 --plot docs/soak.png

A SeedLink server sends copies of real recordings with times of the last day, and breaks the
connection now and then. Daemon and Redis are those of an operator. Every few seconds the daemon's
memory and descriptors are read from /proc, its queues from its log, and the sizes of what it
writes. The last line is the verdict; the exit code is 1 if anything grew.
"""

import asyncio
import json
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np

from streamer.bench.level import STATIONS, daemon_settings
from streamer.bench.network import Network, load_loops, save_loops
from streamer.bench.processes import Part
from streamer.bench.run import recordings
from streamer.bench.server import HOST, LoadServer
from streamer.bus.broker import BrokerConfig, start_broker
from streamer.errors import UnavailableError

SAMPLE_S = 5.0
RECORD_S = 4.0  # as digitisers fill them
START_S = 60.0
BREAK_S = 7200  # of data between two broken connections
WARM_SHARE = 0.25  # of the run: rings fill, caches and allocators find their size
# Growth from the first to the last third of what is left that counts as growth.
RSS_GROWTH, DESCRIPTOR_GROWTH = 0.03, 2

SECONDS_PER_HOUR = 3600


class PastServer(LoadServer):
    """The network as it was in the last `seconds`, `speed` times faster; connections break."""

    def __init__(self, network: Network, seconds: int, speed: float) -> None:
        super().__init__(network, seconds)
        self._speed = speed
        self._begun_s = 0.0
        self._sequence = 1

    async def serve(self) -> None:
        """Listen on a free port, print it, and serve one client after the other until ended."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                async with asyncio.TaskGroup() as tasks:
                    await self._converse(reader, writer, tasks)
            except* OSError:
                pass
            writer.close()

        server = await asyncio.start_server(accept, HOST, 0)
        address = f"{HOST}:{server.sockets[0].getsockname()[1]}"
        print(json.dumps({"address": address}), flush=True)
        await server.serve_forever()

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        # The last second of the data must not lie ahead of the clock when it is sent.
        self._begun_s = self._begun_s or time.time()
        first = int(self._begun_s - self._seconds * (1 - 1 / self._speed)) - 1
        everybody = range(self._network.stations)
        while self._sent.seconds < self._seconds:
            due_s = self._begun_s + self._sent.seconds / self._speed
            await asyncio.sleep(max(due_s - time.time(), 0))
            second = first + self._sent.seconds
            packets, _ = self._network.packets(second, everybody, self._sequence)
            writer.write(b"".join(packets))
            await writer.drain()
            self._sequence += len(packets)
            self._sent.packets += len(packets)
            self._sent.seconds += 1
            if self._sent.seconds % 60 == 0:
                self._sent.late_s = time.time() - due_s
                print(json.dumps(asdict(self._sent)), flush=True)
            if self._sent.seconds % BREAK_S == 0:
                writer.close()
                return


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: `data_h` hours of data were sent. Sizes in MB of 10^6 bytes; queues in entries."""

    data_h: float
    wall_s: float
    rss_mb: float
    descriptors: int
    threads: int
    spool_mb: float
    log_mb: float
    checkpoint_mb: float
    pending: int
    packets_waiting: int
    epochs: int
    published: int


def look(load: Part, daemon: Part, folder: Path, begun_s: float) -> Sample:
    """The daemon at this moment."""
    daemon.check()
    load.check()
    daemon.read()
    load.read()
    process = Path("/proc", str(daemon.pid))
    status = next((line for line in reversed(daemon.lines) if line["event"] == "status"), {})
    sent = next((line for line in reversed(load.lines) if "seconds" in line), {"seconds": 0})
    return Sample(
        data_h=sent["seconds"] / SECONDS_PER_HOUR,
        wall_s=time.time() - begun_s,
        rss_mb=daemon.usage().rss_mb,
        descriptors=len(list((process / "fd").iterdir())),
        threads=len(list((process / "task").iterdir())),
        spool_mb=_size_mb(folder, "spool*"),
        log_mb=daemon.log_path.stat().st_size / 1e6,
        checkpoint_mb=_size_mb(folder, "checkpoint*"),
        **{
            name: status.get(name, 0)
            for name in ("pending", "packets_waiting", "epochs", "published")
        },
    )


def _size_mb(folder: Path, pattern: str) -> float:
    return sum(path.stat().st_size for path in folder.glob(pattern)) / 1e6


def run(hours: float, speed: float, stations: int) -> tuple[list[Sample], dict[str, object]]:
    """The samples, and the daemon's last counters."""
    folder = Path(tempfile.mkdtemp(prefix="msnet-soak-"))
    seconds = round(hours * SECONDS_PER_HOUR)
    samples: list[Sample] = []
    with ExitStack() as cleanup:
        broker = start_broker(BrokerConfig(state_dir=folder))
        cleanup.callback(broker.stop)
        save_loops(recordings(()), folder / "loops.npz")
        load = Part(
            "benchmarks.soak",
            ["serve", str(folder / "loops.npz"), str(stations), str(seconds), str(speed)],
            folder,
        )
        cleanup.enter_context(load)
        address = load.wait_for(lambda line: "address" in line, START_S)["address"]
        options = [
            "run", "--stations", STATIONS, "--server", address, "--redis", broker.url,
            "--state-dir", str(folder), "--log-level", "info",
        ]  # fmt: skip
        daemon = Part("streamer.cli", options, folder, daemon_settings(PREFIX, START_S))
        cleanup.enter_context(daemon)
        daemon.wait_for(lambda line: line.get("event") == "seedlink_connected", START_S)
        begun_s = time.time()
        while not samples or samples[-1].data_h < hours:
            time.sleep(SAMPLE_S)
            samples.append(look(load, daemon, folder, begun_s))
            print(json.dumps(asdict(samples[-1])), file=sys.stderr, flush=True)
        time.sleep(2 * SAMPLE_S)
        daemon.stop()
    stopped = next(line for line in daemon.lines if line["event"] == "stopped")
    return samples, stopped


PREFIX = "msnet-soak"


def verdict(samples: list[Sample], stopped: dict[str, object]) -> list[str]:
    """What grew or was lost; empty if nothing."""
    warm = samples[int(len(samples) * WARM_SHARE) :]
    third = max(len(warm) // 3, 1)
    early, late = warm[:third], warm[-third:]

    def median(name: str, part: list[Sample]) -> float:
        return float(np.median([getattr(sample, name) for sample in part]))

    faults = []
    rss = median("rss_mb", early), median("rss_mb", late)
    if rss[1] > rss[0] * (1 + RSS_GROWTH):
        faults.append(f"memory grew from {rss[0]:.0f} to {rss[1]:.0f} MB")
    for name in ("descriptors", "threads"):
        counts = median(name, early), median(name, late)
        if counts[1] > counts[0] + DESCRIPTOR_GROWTH:
            faults.append(f"{name} grew from {counts[0]:.0f} to {counts[1]:.0f}")
    faults += [
        f"{stopped[name]} {name}"
        for name in ("picks_dropped", "records_rejected", "missing_samples", "checkpoints_failed")
        if stopped.get(name)
    ]
    return faults


def save_plot(samples: list[Sample], title: str, path: Path) -> None:
    """Memory, descriptors, queues and sizes by hours of data."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = (
        ("memory (MB)", ("rss_mb",)),
        ("descriptors, threads", ("descriptors", "threads")),
        ("queues (entries)", ("packets_waiting", "pending", "epochs")),
        ("files (MB)", ("spool_mb", "log_mb", "checkpoint_mb")),
    )
    figure = Figure(figsize=(9, 7), layout="constrained")
    FigureCanvasAgg(figure)
    hours = [sample.data_h for sample in samples]
    for axes, (label, names) in zip(figure.subplots(2, 2, sharex=True).flat, panels, strict=True):
        for name in names:
            axes.plot(hours, [getattr(sample, name) for sample in samples], label=name, lw=1)
        axes.set(ylabel=label, ylim=(0, None), xlim=(0, None))
        axes.legend(fontsize="small", loc="lower right")
    for axes in figure.axes[2:]:
        axes.set_xlabel("hours of data")
    figure.suptitle(title, fontsize="medium")
    figure.savefig(path, dpi=110)


@click.group(invoke_without_command=True)
@click.option("--hours", default=24.0, show_default=True, help="Length of the data.")
@click.option("--speed", default=60.0, show_default=True, help="Times real time, if it can.")
@click.option("--stations", default=20, show_default=True)
@click.option("--plot", type=click.Path(path_type=Path))
@click.option("--json", "json_path", type=click.Path(path_type=Path))
@click.pass_context
def main(
    context: click.Context,
    hours: float,
    speed: float,
    stations: int,
    plot: Path | None,
    json_path: Path | None,
) -> None:
    """Run the soak and tell whether anything grew."""
    if context.invoked_subcommand:
        return
    samples, stopped = run(hours, speed, stations)
    faults = verdict(samples, stopped)
    wall_s = samples[-1].wall_s
    title = (
        f"{stations} stations, {samples[-1].data_h:.1f} h of data in {wall_s / 60:.0f} minutes, "
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}"
    )
    if plot:
        save_plot(samples, title, plot)
    if json_path:
        report = {"samples": [asdict(sample) for sample in samples], "stopped": stopped}
        json_path.write_text(json.dumps(report) + "\n")
    last = samples[-1]
    print(
        f"{title}: {last.rss_mb:.0f} MB, {last.descriptors} descriptors, "
        f"{last.published} messages: {'; '.join(faults) or 'nothing grew, nothing was lost'}"
    )
    sys.exit(bool(faults))


@main.command(hidden=True)
@click.argument("loops", type=click.Path(path_type=Path))
@click.argument("stations", type=int)
@click.argument("seconds", type=int)
@click.argument("speed", type=float)
def serve(loops: Path, stations: int, seconds: int, speed: float) -> None:
    """The server, in a process of its own."""
    network = Network(load_loops(loops), stations, RECORD_S)
    asyncio.run(PastServer(network, seconds, speed).serve())


if __name__ == "__main__":
    try:
        main()
    except UnavailableError as error:
        sys.exit(str(error))
