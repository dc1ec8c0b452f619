"""The real command line as processes: replay server and daemon, on obspy's own recordings."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from streamer.bus.redis_streams import read_picks
from streamer.bus.redis_url import parse_redis_url
from streamer.demo.recordings import load_recordings
from streamer.picks import Pick, latest
from streamer.waveforms.records import Record, encode

TIMEOUT_S = 60.0
COMMAND = [sys.executable, "-m", "streamer.cli"]


def msnet_stream(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    """One command from start to end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@contextmanager
def replaying(*arguments: object) -> Iterator[str]:
    """A replay server; gives its HOST:PORT."""
    process = subprocess.Popen(
        [*COMMAND, "replay", *map(str, arguments), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
        assert process.stdout is not None
        process.stdout.close()


class Daemon:
    """`msnet-stream run` with its log, and unless told otherwise its state, in `folder`."""

    def __init__(self, folder: Path, *arguments: object, **environment: str) -> None:
        self.log_path = folder / "daemon.log"
        with self.log_path.open("ab") as output:
            self.process = subprocess.Popen(
                [*COMMAND, "run", *map(str, arguments)],
                env={**os.environ, "STATE_DIRECTORY": str(folder / "state"), **environment},
                stdout=output,
                stderr=output,
            )

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.wait()

    def events(self, name: str) -> list[dict[str, object]]:
        """The log events of one name so far."""
        lines = [line for line in self.log_path.read_text().splitlines() if line.startswith("{")]
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Until `condition` is truthy; the daemon must live on."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while not condition():
            assert self.process.poll() is None, self.log_path.read_text()
            assert time.monotonic() < deadline_s, self.log_path.read_text()
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_S)


def messages_of(url: str) -> list[Pick]:
    """All that is on the stream of a server, without login."""
    return read_picks(parse_redis_url(url, environ={}))


def picks_of(url: str) -> list[Pick]:
    """The picks on the stream of a server, each as it stands."""
    return latest(messages_of(url))


def write_archive(folder: Path, record_bytes: dict[str, int], skip: range = range(0)) -> Path:
    """The demo recordings as miniSEED, one file per channel.

    `record_bytes` gives the record length by station (512 otherwise); records whose number is in
    `skip` are left out: a gap.
    """
    folder.mkdir()
    for number, record in enumerate(load_recordings()):
        size = record_bytes.get(record.nslc.station, 512)
        pieces = [
            data
            for position, data in enumerate(encode(_as_counts(record), size))
            if position not in skip
        ]
        (folder / f"{number:02d}.mseed").write_bytes(b"".join(pieces))
    return folder


def _as_counts(record: Record) -> Record:
    """Whole numbers, so that Steim packs records of many lengths."""
    return Record(record.nslc, record.start_ns, record.rate, record.samples.astype("int32"))


def essence(picks: list[Pick]) -> list[tuple[str, str, int, str | None, int | None]]:
    """What two runs over the same samples must agree on, besides the probability."""
    return sorted((p.id, p.cha, p.t_ns, p.qual, p.n_comp) for p in picks)
