"""Programs of others: found on PATH, run in a folder of their own, ended when too slow."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from streamer.errors import ConfigError, MsnetError

OUTPUT_NAME = "output.log"
# What an error quotes of a program's output: its end.
QUOTED_BYTES = 2000


def find_program(name: str, instead: str) -> Path:
    """Path of an executable on PATH. Raises ConfigError, which says what to do `instead`."""
    path = shutil.which(name)
    if path is None:
        raise ConfigError(f"the program {name} is not on PATH: install it, or {instead}")
    return Path(path).absolute()


def run_program(command: Sequence[str | Path], folder: Path, timeout_s: float) -> None:
    """Run a program in `folder`, one thread; its output goes to a file there.

    Raises MsnetError with the end of the output if it fails or is not done in time; then it and
    all that it started are killed.
    """
    name = Path(command[0]).name
    with (folder / OUTPUT_NAME).open("wb") as output:
        try:
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=folder,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise MsnetError(f"{name} cannot be started: {error.strerror}") from error
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise MsnetError(
                f"{name} was not done after {timeout_s:g} s and was ended; {_said(folder)}"
            ) from None
        finally:
            _end(process)
    if code:
        how = f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
        raise MsnetError(f"{name} failed with {how}; {_said(folder)}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill what is left of the program's process group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # all of them have ended
    process.wait()


def _said(folder: Path) -> str:
    output = (folder / OUTPUT_NAME).read_bytes()[-QUOTED_BYTES:]
    text = output.decode(errors="replace").strip()
    return f"it said: {text}" if text else "it said nothing"
