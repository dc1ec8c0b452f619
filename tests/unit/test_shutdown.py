"""A service that is asked to end does so well, by force after a while, or when asked twice."""

import json
import signal
import subprocess
import sys

import pytest

SERVICE = """
import asyncio, sys
from streamer import shutdown
from streamer.log import configure_logging

async def endless():
    await asyncio.Event().wait()

async def main():
    stop = asyncio.Event()
    shutdown.stop_on_signals(stop)
    stuck = asyncio.create_task(endless())
    print("ready", flush=True)
    await stop.wait()
    print("stopping", flush=True)
    if sys.argv[1] == "stuck":
        await stuck

shutdown.SHUTDOWN_S = float(sys.argv[2])
configure_logging("info", "json")
asyncio.run(main())
"""


def service(ends: str, after_s: float) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-c", SERVICE, ends, str(after_s)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_that_can_ends_well(number: signal.Signals) -> None:
    process = service("well", 60)
    process.send_signal(number)
    _, log = process.communicate(timeout=60)
    assert (process.returncode, log) == (0, "")


def test_one_that_hangs_is_ended_by_force_and_says_what_it_waited_for() -> None:
    process = service("stuck", 0.1)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    line = json.loads(log)
    assert (line["event"], line["after_s"]) == ("shutdown_overrun", 0.1)
    assert "endless" in str(line["tasks"])


def test_a_second_signal_ends_it_at_once() -> None:
    process = service("stuck", 60)
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "stopping\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
