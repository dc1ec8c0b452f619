"""The processes of a demonstration, and the folder for what it writes."""

import contextlib
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from streamer.bus.broker import BrokerConfig, start_broker
from streamer.bus.redis_url import RedisServer
from streamer.errors import CannotCreateError, UnavailableError

START_TIMEOUT_S = 60.0  # a cold disk takes this long to import torch


@dataclass
class Parts:
    """A broker and commands of ours, with their logs in `folder`; all end with `cleanup`."""

    folder: Path
    cleanup: contextlib.ExitStack
    processes: list["subprocess.Popen[str]"] = field(default_factory=list)

    def start_broker(self) -> None:
        """Start a broker with a state folder of its own."""
        self.state_dir = Path(tempfile.mkdtemp(prefix="msnet-demo-"))
        self.cleanup.callback(shutil.rmtree, self.state_dir, ignore_errors=True)
        broker = start_broker(BrokerConfig(state_dir=self.state_dir))
        self.cleanup.callback(broker.stop)
        self.server: RedisServer = broker.server
        self.url = broker.url

    def launch(self, name: str, *arguments: object, piped: bool = False) -> "subprocess.Popen[str]":
        """Start `msnet-stream ARGUMENTS` with its log in NAME.log; `piped` leaves its output."""
        with self.log_of(name).open("w", encoding="utf-8") as log_file:
            process = subprocess.Popen(
                [sys.executable, "-m", "streamer.cli", *map(str, arguments)],
                stdout=subprocess.PIPE if piped else log_file,
                stderr=log_file,
                text=True,
            )
        self.processes.append(process)
        self.cleanup.callback(_end, process)
        return process

    def log_of(self, name: str) -> Path:
        """The log file of a command."""
        return self.folder / f"{name}.log"

    def logged(self, name: str, event: str) -> bool:
        """Whether a command has logged an event."""
        return event in self.log_of(name).read_text(encoding="utf-8")

    def check(self) -> None:
        """Raises UnavailableError if a process ended by itself."""
        for process in self.processes:
            if process.poll() is not None:
                raise UnavailableError(
                    f"a part of the demo ended with code {process.returncode}: see the logs in "
                    f"{self.folder}"
                )

    def stop(self, process: "subprocess.Popen[str]") -> None:
        """End a command the way systemd does, so that everything complete is published."""
        self.processes.remove(process)
        process.terminate()
        if process.wait(START_TIMEOUT_S) != 0:
            raise UnavailableError(f"a part of the demo failed: see the logs in {self.folder}")


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    process.wait()
    if process.stdout:
        process.stdout.close()


def output_folder(output: Path | None, first_file: str) -> Path:
    """The folder to write to, tried with one file. Raises CannotCreateError."""
    folder = output or Path("demo-output")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / first_file).touch()
    except OSError as error:
        raise CannotCreateError(
            f"cannot write to {folder}: {error.strerror}; choose another folder with --output"
        ) from error
    return folder
