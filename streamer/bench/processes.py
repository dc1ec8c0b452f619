"""The processes of a level: how they are started, what they print, what Linux tells of them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from streamer.errors import MsnetError, UnavailableError

Line = dict[str, Any]  # one line of JSON

POLL_S = 0.1
STOP_TIMEOUT_S = 30.0  # the daemon ends itself before


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds since the start of a process, its memory and the largest it ever had (MB)."""

    cpu_s: float
    rss_mb: float
    peak_rss_mb: float


class Part:
    """A process of ours whose lines of JSON go to a file; other lines are left out.

    As a context it is ended when the context is left, by force if need be.
    """

    def __init__(
        self,
        module: str,
        arguments: list[str],
        folder: Path,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.name = module.rpartition(".")[2]
        self.log_path = folder / f"{self.name}.log"
        with self.log_path.open("w", encoding="utf-8") as log_file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                env={**os.environ, **settings},
            )
        self._reader = self.log_path.open(encoding="utf-8")
        self._rest = ""
        self.lines: list[Line] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.close()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def stop(self) -> None:
        """SIGTERM, and wait. Raises UnavailableError if it does not end well."""
        self._process.terminate()
        try:
            code = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            code = None
        if code != 0:
            raise UnavailableError(f"{self.name} did not end well ({code}): see {self.log_path}")
        self.read()

    def wait_for(self, wanted: Callable[[Line], bool], timeout_s: float) -> Line:
        """The first line that is wanted, of those printed so far or from now on.

        Raises UnavailableError if the process ends or `timeout_s` pass before.
        """
        deadline_s = time.monotonic() + timeout_s
        seen = 0
        while True:
            self.check()
            self.read()
            for line in self.lines[seen:]:
                if wanted(line):
                    return line
            seen = len(self.lines)
            if time.monotonic() > deadline_s:
                raise UnavailableError(
                    f"{self.name} did not get there in {timeout_s:.0f} s: see {self.log_path}"
                )
            time.sleep(POLL_S)

    def check(self) -> None:
        """Raises UnavailableError if the process has ended by itself."""
        if self._process.poll() is not None:
            raise UnavailableError(
                f"{self.name} ended with code {self._process.returncode}: see {self.log_path}"
            )

    def usage(self) -> Usage:
        """What Linux counts for it (proc(5))."""
        process = Path("/proc", str(self.pid))
        # Behind the name, which may hold anything: field 3 is the first, 14 and 15 are the times.
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        rss_mb, peak_mb = (int(status[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM"))
        return Usage(ticks / os.sysconf("SC_CLK_TCK"), rss_mb, peak_mb)

    def pin(self, cores: set[int]) -> None:
        """Let it, and what it starts from now on, run on these cores only."""
        os.sched_setaffinity(self.pid, cores)

    def read(self) -> None:
        """Take in the lines that have been printed."""
        text = self._rest + self._reader.read()
        *complete, self._rest = text.split("\n")
        for line in complete:
            if line.startswith("{"):
                self.lines.append(json.loads(line))


def refuse_other_systems() -> None:
    """Raises MsnetError where there is no /proc to read."""
    if not Path("/proc/self/stat").exists():
        raise MsnetError("bench reads CPU time and memory from /proc: it needs Linux")
