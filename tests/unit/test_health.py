"""What systemd is told: only if it listens, and a ping only while all parts move."""

import asyncio
import os
import socket
from itertools import count
from pathlib import Path

import pytest

from streamer.health import Watchdog, notify, notify_reloading, watchdog_timeout_s


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The socket on which systemd listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listener


def heard(manager: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(manager.recv(4096).decode())
        except BlockingIOError:
            return messages


def test_states_go_to_the_manager_as_they_are(manager: socket.socket) -> None:
    assert notify("READY=1\nSTATUS=3 stations")
    assert heard(manager) == ["READY=1\nSTATUS=3 stations"]


def test_without_a_manager_or_with_one_that_is_gone_nothing_happens(tmp_path: Path) -> None:
    assert not notify("READY=1", {})
    assert not notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "gone")})


def test_an_abstract_address_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0msnet-test-{os.getpid()}")
        assert notify("READY=1", {"NOTIFY_SOCKET": f"@msnet-test-{os.getpid()}"})
        assert listener.recv(100) == b"READY=1"


def test_reloading_says_when_it_began(manager: socket.socket) -> None:
    notify_reloading()
    assert heard(manager)[0].startswith("RELOADING=1\nMONOTONIC_USEC=")


@pytest.mark.parametrize(
    ("environ", "timeout_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_asked_of_this_process_only(
    environ: dict[str, str], timeout_s: float | None
) -> None:
    assert watchdog_timeout_s(environ) == timeout_s


def test_a_ping_needs_every_part_to_have_moved(manager: socket.socket) -> None:
    steps, packets = iter([1, 2, 2, 2, 3]), iter([1, 2, 3, 4, 5])
    watchdog = Watchdog({"steps": lambda: next(steps), "packets": lambda: next(packets)})
    assert [watchdog.ping() for _ in range(5)] == [True, True, False, False, True]
    assert heard(manager) == ["WATCHDOG=1"] * 3


def test_the_loop_pings_several_times_within_the_timeout(manager: socket.socket) -> None:
    asked = asyncio.Event()
    counter = count()

    def pulse() -> int:
        moved = next(counter)
        if moved == 3:
            asked.set()
        return moved

    async def until_asked() -> None:
        watching = asyncio.create_task(Watchdog({"loop": pulse}).run(0.03))
        await asyncio.wait_for(asked.wait(), 5)
        watching.cancel()

    asyncio.run(until_asked())
    assert heard(manager).count("WATCHDOG=1") >= 3


def test_nothing_runs_where_no_ping_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    asyncio.run(Watchdog({}).run())
