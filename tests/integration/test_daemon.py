"""The daemon as an operator runs it: real processes, real sockets, real Redis."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bus_servers import ServerProcess
from daemon_parts import (
    Daemon,
    essence,
    messages_of,
    msnet_stream,
    picks_of,
    replaying,
    write_archive,
)

from streamer.latency import STAGES
from streamer.picks import Pick
from streamer.timebase import NS_PER_S

MAIL_SERVER = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    server.accept()[0].send(b"220 mail ready\\r\\n" * 9)
"""
SETTINGS = "waveforms: {silence_flush_s: 2, component_timeout_s: 20}\n"


def offline_picks(*arguments: object) -> list[Pick]:
    """What `pick` writes as JSON lines."""
    result = msnet_stream("pick", *arguments, "--format", "jsonl")
    assert result.returncode == 0, result.stderr
    return [Pick.from_fields(json.loads(line)) for line in result.stdout.splitlines()]


def published(daemon: Daemon, url: str, count: int) -> list[Pick]:
    """The picks on the stream once at least `count` are final, after an orderly end."""
    daemon.wait_for(lambda: sum(pick.final for pick in picks_of(url)) >= count)
    assert daemon.stop() == 0, daemon.log_path.read_text()
    return picks_of(url)


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(SETTINGS)
    return path


@pytest.mark.parametrize("record_seconds", [0.37, 7.3])
def test_the_stream_gives_the_picks_of_the_files_whatever_the_records(
    tmp_path: Path, settings: Path, redis_server_binary: str, record_seconds: float
) -> None:
    """Invariant 1: `run` over a replayed archive with a gap equals `pick` over its files."""
    sizes = {"UH1": 256, "UH2": 4096, "UH4": 1024}
    archive = write_archive(tmp_path / "archive", sizes, skip=range(5, 8))
    expected = offline_picks(archive)
    assert {pick.phase for pick in expected} == {"P", "S"}
    redis = ServerProcess(redis_server_binary, tmp_path)
    url = f"unix://{redis.socket}"
    try:
        with replaying(archive, "--speed", "max", "--record-seconds", record_seconds) as server:
            arguments = ("--stations", "BW.*", "--server", server, "--redis", url, "-c", settings)
            with Daemon(tmp_path, *arguments) as daemon:
                streamed = published(daemon, url, len(expected))
                messages = messages_of(url)
    finally:
        redis.kill()
    assert essence(streamed) == essence(expected)
    for pick in streamed:
        life = [message for message in messages if message.id == pick.id]
        assert [message.rev for message in life] == list(range(pick.rev + 1))
        assert [message.final for message in life] == [0] * pick.rev + [1]
    assert any(pick.rev for pick in streamed), "no pick was published before it was final"
    by_id = {pick.id: pick.prob for pick in expected}
    assert all(abs(pick.prob - by_id[pick.id]) <= 1e-4 for pick in streamed)


def test_the_order_of_files_does_not_matter_to_pick(tmp_path: Path) -> None:
    """The same files named in another order, one of them twice, give the same picks."""
    archive = write_archive(tmp_path / "archive", {})
    files = sorted(archive.iterdir())
    (tmp_path / "copy.mseed").write_bytes(files[0].read_bytes())
    shuffled = offline_picks(*files[::-1], tmp_path / "copy.mseed")
    assert essence(shuffled) == essence(offline_picks(archive))


def test_picks_are_messages_with_the_documented_fields(tmp_path: Path, settings: Path) -> None:
    """The embedded broker is the default, and any Redis client reads flat fields from it."""
    archive = write_archive(tmp_path / "archive", {})
    state = tmp_path / "state"
    url = f"unix://{state.resolve() / 'broker' / 'redis.sock'}"
    picks: list[Pick] = []

    def some_arrived() -> bool:
        picks[:] = picks_of(url)
        return len(picks) >= 4

    with replaying(archive, "--speed", "max") as server:
        arguments = ("--stations", "BW.UH3", "--server", server, "--state-dir", state)
        with Daemon(tmp_path, *arguments, "-c", settings) as daemon:
            daemon.wait_for(lambda: daemon.events("seedlink_connected"))
            daemon.wait_for(some_arrived)
            assert daemon.stop() == 0
    required = "v id rev status net sta loc cha phase time t_ns prob model model_sha cfg agency"
    for pick in picks:
        fields = pick.to_fields()
        assert set(required.split()) | {"author", "made_ns", "data_ns", "final"} <= set(fields)
        assert fields["id"].startswith(f"BW.UH3..SH.{pick.phase}.2010")
        assert pick.cha == ("SHZ" if pick.phase == "P" else "SHN")
        assert pick.made_ns >= pick.data_ns > pick.t_ns
        stages = pick.stages_s
        assert list(stages) == list(STAGES)
        assert min(stages.values()) >= 0
        assert sum(stages.values()) == pytest.approx((pick.made_ns - pick.t_ns) / NS_PER_S)


def test_an_interrupt_drains_the_daemon(tmp_path: Path) -> None:
    """Ctrl-C drains and exits 0, as SIGTERM does."""
    archive = write_archive(tmp_path / "archive", {})
    with replaying(archive) as server:
        arguments = ("--stations", "BW.*", "--server", server, "--state-dir", tmp_path / "state")
        with Daemon(tmp_path, *arguments) as daemon:
            daemon.wait_for(lambda: daemon.events("seedlink_connected"))
            assert daemon.stop(signal.SIGINT) == 0
    assert daemon.events("stopped")


def test_broken_records_are_counted_and_the_rest_is_picked(tmp_path: Path, settings: Path) -> None:
    """Damaged headers in a file are told with a count; every other sample is still picked."""
    archive = write_archive(tmp_path / "archive", {})
    damaged = sorted(archive.iterdir())[0]
    data = bytearray(damaged.read_bytes())
    data[512 * 20 : 512 * 20 + 48] = b"\xff" * 48
    damaged.write_bytes(bytes(data))
    result = msnet_stream("pick", archive, "--format", "jsonl", "-c", settings)
    assert result.returncode == 0
    rejected = [json.loads(line) for line in result.stderr.splitlines()]
    assert [event["event"] for event in rejected] == ["record_rejected"]
    assert rejected[0]["file"].endswith(damaged.name)
    assert len(result.stdout.splitlines()) > 5


def test_a_password_is_asked_for_and_taken_from_the_environment(
    tmp_path: Path, redis_server_binary: str
) -> None:
    """A Redis that wants a password: without it a clear message and exit 77, with it picks."""
    archive = write_archive(tmp_path / "archive", {})
    redis = ServerProcess(redis_server_binary, tmp_path)
    with redis.plain() as client:
        client.config_set("requirepass", "s3cret")
    url = f"unix://{redis.socket}"
    try:
        with replaying(archive) as server:
            arguments = ("--stations", "BW.*", "--server", server, "--redis", url)
            refused = msnet_stream("run", *arguments, STATE_DIRECTORY=str(tmp_path / "state"))
            assert refused.returncode == 77
            assert "MSNET_STREAM_REDIS_PASSWORD" in refused.stderr
            with Daemon(tmp_path, *arguments, MSNET_STREAM_REDIS_PASSWORD="s3cret") as daemon:
                daemon.wait_for(lambda: daemon.events("seedlink_connected"))
                assert daemon.stop() == 0
            assert "s3cret" not in daemon.log_path.read_text()
    finally:
        redis.kill()


def test_stations_that_match_nothing_name_what_there_is(tmp_path: Path) -> None:
    """Exit 78 and the nearest names, instead of a daemon that waits for ever."""
    archive = write_archive(tmp_path / "archive", {})
    with replaying(archive) as server:
        result = msnet_stream(
            "run", "--stations", "BW.UH9", "--server", server, "--state-dir", tmp_path / "state"
        )
    assert result.returncode == 78
    assert "BW.UH9" in result.stderr
    assert "BW.UH1" in result.stderr.splitlines()[-1]


def test_a_server_that_is_not_there_or_no_seedlink_ends_the_start(tmp_path: Path) -> None:
    """Exit 69 after the start-up time, naming the server and what to check."""
    with subprocess.Popen(
        [sys.executable, "-c", MAIL_SERVER], stdout=subprocess.PIPE, text=True
    ) as stranger:
        assert stranger.stdout is not None
        address = f"127.0.0.1:{stranger.stdout.readline().strip()}"
        for server in ("127.0.0.1:1", address):
            result = msnet_stream(
                "run", "--stations", "BW.*", "--server", server, "--state-dir", tmp_path / "state",
                MSNET_STREAM_SEEDLINK__STARTUP_TIMEOUT_S="1",
                MSNET_STREAM_SEEDLINK__CONNECT_TIMEOUT_S="1",
            )  # fmt: skip
            assert result.returncode == 69
            assert server in result.stderr.splitlines()[-1]
            assert "SeedLink server" in result.stderr.splitlines()[-1]
        stranger.kill()


def test_the_demo_finds_both_events(tmp_path: Path) -> None:
    """P of both microearthquakes on at least three stations, P and S on UH3, within 0.2 s."""
    result = msnet_stream("demo", "--quick", "--output", tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    picks = [
        Pick.from_fields(json.loads(line))
        for line in (tmp_path / "picks.jsonl").read_text().splitlines()
    ]
    assert (tmp_path / "record-section.png").stat().st_size > 10_000
    assert "msnet:picks" in result.stdout
    first, second = 1_274_977_473_150, 1_274_977_650_420  # P on UH3, POSIX ms
    for p_ms, uh4_ms in ((first, 1_274_977_474_120), (second, 1_274_977_651_370)):
        event = [pick for pick in picks if 0 <= pick.t_ns // 10**6 - p_ms + 500 <= 3500]
        assert len({pick.sta for pick in event if pick.phase == "P"}) >= 3
        residuals_ms = {
            (station, phase): min(
                abs(pick.t_ns // 10**6 - at_ms)
                for pick in event
                if (pick.sta, pick.phase) == (station, phase)
            )
            for station, phase, at_ms in (
                ("UH3", "P", p_ms),
                ("UH3", "S", p_ms + 1170),
                ("UH4", "P", uh4_ms),
            )
        }
        assert max(residuals_ms.values()) <= 200, residuals_ms
