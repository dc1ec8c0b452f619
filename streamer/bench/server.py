"""The load: a SeedLink v3 server with one client, in a process of its own.

    python -m streamer.bench.server --stations 400 --seconds 30 LOOPS.npz

It prints lines of JSON: its address, then after each second of sending what was sent so far and how
late the packets were (a client that does not keep up makes us wait). Behind the last line it stays
until it is ended: the client sees silence and not a lost connection.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from streamer import __version__
from streamer.bench.network import RATE, Network, load_loops
from streamer.seedlink.handshake import Handshake
from streamer.seedlink.info import ServerInfo, info_v3
from streamer.seedlink.protocol import CommandError, LineSplitter
from streamer.timebase import NS_PER_S
from streamer.waveforms.stations import SLOT_COUNT

SOFTWARE = f"SeedLink v3.1 (msnet-stream bench/{__version__})"
HOST = "127.0.0.1"

# All packets due within this time leave together: finer costs more calls than a network has
# concentrators, coarser would show in the latencies.
SLOT_S = 0.005
BURST_S = 0.02  # a concentrator that forwards the whole network once a second

_READ_BYTES = 4096


@dataclass(slots=True)
class Sent:
    """Totals of the load. `station_s`: seconds of all components of one station.

    `late_s` is how late the latest packet of the last second was.
    """

    seconds: int = 0
    packets: int = 0
    station_s: float = 0.0
    late_s: float = 0.0
    cpu_s: float = 0.0


class LoadServer:
    """Answers one client like any SeedLink v3 server, then sends it `seconds` of the network."""

    def __init__(self, network: Network, seconds: int) -> None:
        self._network = network
        self._seconds = seconds
        self._sent = Sent()

    async def serve(self) -> None:
        """Listen on a free port, print it, and serve one client until it leaves."""
        ended = asyncio.Event()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                async with asyncio.TaskGroup() as tasks:
                    await self._converse(reader, writer, tasks)
                    ended.set()
            except* OSError:  # the client left
                ended.set()

        server = await asyncio.start_server(accept, HOST, 0)
        async with server:
            address = f"{HOST}:{server.sockets[0].getsockname()[1]}"
            print(json.dumps({"address": address}), flush=True)
            await ended.wait()

    async def _converse(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        tasks: asyncio.TaskGroup,
    ) -> None:
        """Obey commands until the client leaves; whatever it subscribes to, it gets everything."""
        handshake = Handshake(SOFTWARE, "msnet-stream bench", self._network.station_ids)
        lines = LineSplitter()
        sending: asyncio.Task[None] | None = None
        while data := await reader.read(_READ_BYTES):
            for command in lines.feed(data):
                if command.name == "INFO":
                    for packet in self._info(command.arguments):
                        writer.write(packet)
                elif not handshake.ready:
                    try:
                        writer.write(handshake.handle(command))
                    except CommandError as error:
                        writer.write(handshake.refusal(error))
            await writer.drain()
            if handshake.ready and sending is None:
                sending = tasks.create_task(self._send(writer))
        if sending is not None:
            sending.cancel()

    def _info(self, arguments: tuple[str, ...]) -> list[bytes]:
        now_ns = time.time_ns()
        server = ServerInfo(SOFTWARE, "", now_ns, self._network.info(now_ns), ())
        return info_v3(arguments[0].upper() if arguments else "ID", server, now_ns)

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        """One second of the network after the other, beginning with the second that begins next."""
        # The first packets hold the second before the one they are sent in: nothing of it is early.
        begin = time.time_ns() // NS_PER_S + 1
        for second in range(begin, begin + self._seconds):
            self._sent.late_s = 0.0
            for moment_s, stations in self._slots():
                await asyncio.sleep(second + moment_s - time.time())
                packets, samples = self._network.packets(second, stations, self._sent.packets)
                writer.write(b"".join(packets))
                await writer.drain()
                self._sent.packets += len(packets)
                self._sent.station_s += samples / float(RATE) / SLOT_COUNT
                self._sent.late_s = max(self._sent.late_s, time.time() - second - moment_s)
            self._sent.seconds += 1
            self._sent.cpu_s = time.process_time()
            print(json.dumps(asdict(self._sent)), flush=True)

    def _slots(self) -> Iterator[tuple[float, range]]:
        """The slots of a second that have stations: when they end, and which stations."""
        for number in range(round(1 / SLOT_S)):
            stations = self._network.between(number * SLOT_S, (number + 1) * SLOT_S)
            if stations:
                yield (number + 1) * SLOT_S, stations


@click.command()
@click.argument("loops", type=click.Path(path_type=Path))
@click.option("--stations", type=int, required=True)
@click.option("--seconds", type=int, required=True)
@click.option("--record-seconds", type=float, default=1.0)
@click.option("--burst", is_flag=True)
def main(loops: Path, stations: int, seconds: int, record_seconds: float, burst: bool) -> None:
    """Serve a synthetic network, made of the loops in a file, to one client."""
    network = Network(load_loops(loops), stations, record_seconds, BURST_S if burst else 1.0)
    asyncio.run(LoadServer(network, seconds).serve())


if __name__ == "__main__":
    main()
