"""The units under a real systemd as process 1: start, watchdog, kill, wrong settings, stop."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from daemon_parts import write_archive
from systemd_host import CONFIG, PROGRAM, UNIT_FOLDER, Host, systemd_host, why_not

from streamer.systemd import Place, configurations, render

PICKER, WORKER = "msnet-stream@main", "msnet-associate"
ARCHIVE = Path("/var/archive")
REPLAY = f"""
[Service]
ExecStart={PROGRAM} replay {ARCHIVE} --port 18000 --speed 20
"""
# What an operator waits for half a minute, a test does not.
IMPATIENT = """
[Service]
TimeoutAbortSec=2
RestartSec=100ms
"""
# Only where something hangs: all others may be late.
WATCHFUL = """
[Service]
WatchdogSec=10
"""
SETTINGS = """
stations: ['*']
seedlink: {servers: ['127.0.0.1:18000']}
redis: {url: unix:///run/msnet-broker/redis.sock, password_file: null}
log: {status_s: 1}
"""


# Another prefix: picks would make it compile for half a minute, in which it heeds no signal.
ASSOCIATION = """
redis: {url: unix:///run/msnet-broker/redis.sock, password_file: null, prefix: quiet}
association: {stations: /etc/msnet-stream/stations.csv,
              velocity_model: /etc/msnet-stream/model.csv}
log: {status_s: 1}
"""
STATIONS = "net,sta,lat,lon,elev_km\nBW,UH1,48.08,11.64,0.6\nBW,UH2,48.1,11.6,0.6\n"
LAST_STATION = "BW,UH3,48.05,11.7,0.6\n"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, needed: None) -> Iterator[Host]:
    """A host with our units, a SeedLink server and a picker that is configured."""
    folder = tmp_path_factory.mktemp("systemd")
    archive = write_archive(folder / "archive", {})
    place = dataclasses.replace(Place.of_system(PROGRAM), units=UNIT_FOLDER)
    with systemd_host(folder) as host:
        files = {place.units / name: text for name, text in render(place).items()}
        files |= {CONFIG / name: text for name, text in configurations(place, "main").items()}
        files[CONFIG / "main.yaml"] = SETTINGS
        files[CONFIG / "associate.yaml"] = ASSOCIATION
        files[CONFIG / "stations.csv"] = STATIONS + LAST_STATION
        files[CONFIG / "model.csv"] = "top_km,vp_km_s,vs_km_s\n-1,5.8,3.4\n"
        files[place.units / "replay.service"] = REPLAY
        for unit in ("msnet-stream@", "msnet-associate"):
            files[place.units / f"{unit}.service.d/impatient.conf"] = IMPATIENT
        for path, text in files.items():
            host.write(path, text)
        for file in archive.iterdir():
            (host.inside(ARCHIVE) / file.name).parent.mkdir(exist_ok=True)
            (host.inside(ARCHIVE) / file.name).write_bytes(file.read_bytes())
        host.write(Path("/etc/credstore/msnet-redis-password"), "unused by a socket", 0o600)
        host.ctl("daemon-reload")
        yield host


@pytest.fixture(scope="module")
def needed(lacking: Callable[[str], NoReturn]) -> None:
    """Skips, or fails in CI, where no such host can be made."""
    if reason := why_not():
        lacking(reason)


@pytest.fixture(autouse=True)
def _first_words(host: Host) -> None:
    """Tests come in any order: what other tests had the units say is no concern of theirs."""
    host.forget()


@pytest.fixture
def running(host: Host) -> Iterator[Host]:
    """The picker of the host runs, for the first time as it knows; stopped afterwards."""
    host.run("rm", "-rf", "/var/lib/private/msnet-stream/main")
    host.ctl("start", "msnet-broker")
    host.ctl("restart", "replay")
    host.ctl("start", PICKER)
    yield host
    host.ctl("stop", PICKER, "replay")


@pytest.fixture
def working(host: Host) -> Iterator[Host]:
    """The association worker of the host runs; stopped afterwards."""
    host.ctl("start", "msnet-broker")
    host.ctl("start", WORKER)
    yield host
    host.ctl("stop", WORKER)


@pytest.fixture(params=[("running", PICKER), ("working", WORKER)], ids=["picker", "worker"])
def service(request: pytest.FixtureRequest) -> tuple[Host, str]:
    """A host with a service that runs there, and its name."""
    fixture, unit = request.param
    return request.getfixturevalue(fixture), unit


def events(host: Host, name: str) -> list[dict[str, object]]:
    found = [json.loads(line) for line in host.said().splitlines() if line.startswith("{")]
    return [event for event in found if event["event"] == name]


def test_start_waits_until_the_service_is_ready(host: Host) -> None:
    """Behind `systemctl start` the broker answers, and the picker has found its stations."""
    host.ctl("start", "msnet-broker")
    assert host.inside(Path("/run/msnet-broker/redis.sock")).is_socket()
    host.ctl("start", "replay")
    before = len(events(host, "started"))
    host.ctl("start", PICKER)
    assert host.show(PICKER, "ActiveState", "SubState") == {
        "ActiveState": "active",
        "SubState": "running",
    }
    assert len(events(host, "started")) == before + 1
    host.ctl("stop", PICKER, "replay")


def test_the_service_is_a_user_of_its_own_with_its_folder_and_credential(running: Host) -> None:
    """No root, no home; the state folder is its own and the password is for its eyes alone."""
    pid = running.show(PICKER, "MainPID")["MainPID"]
    status = running.run("cat", f"/proc/{pid}/status")
    uid = next(line.split()[1] for line in status.splitlines() if line.startswith("Uid:"))
    assert int(uid) >= 61184  # DynamicUser: 61184 to 65519
    assert running.run("stat", "-c", "%u", "/var/lib/private/msnet-stream/main").strip() == uid
    environ = running.inside(Path(f"/proc/{pid}/environ")).read_text()
    folder = dict(v.partition("=")[::2] for v in environ.split("\0"))["CREDENTIALS_DIRECTORY"]
    assert running.run("ls", folder).split() == ["redis-password"]


def test_one_that_hangs_is_started_again(service: tuple[Host, str]) -> None:
    """No step, no ping: systemd aborts it after WatchdogSec and starts another."""
    host, unit = service
    drop_in = UNIT_FOLDER / f"{unit}.service.d/watchful.conf"
    host.write(drop_in, WATCHFUL)
    host.ctl("daemon-reload")
    host.ctl("restart", unit)
    host.ctl("kill", "--signal=SIGSTOP", "--kill-whom=main", unit)
    host.wait(unit, NRestarts="1", ActiveState="active")
    host.inside(drop_in).unlink()
    host.ctl("daemon-reload")


def test_one_that_is_killed_is_started_again(service: tuple[Host, str]) -> None:
    host, unit = service
    pid = host.show(unit, "MainPID")["MainPID"]
    host.ctl("kill", "--signal=SIGKILL", "--kill-whom=main", unit)
    host.wait(unit, NRestarts="1", ActiveState="active")
    assert host.show(unit, "MainPID")["MainPID"] != pid


def test_a_stop_publishes_what_is_complete(running: Host) -> None:
    """SIGTERM: exit 0 with nothing pending, and systemd calls it a success."""
    running.wait_for(
        lambda: any(int(str(e.get("published", 0))) for e in events(running, "status"))
    )
    running.ctl("stop", PICKER)
    assert running.show(PICKER, "Result", "ActiveState") == {
        "Result": "success",
        "ActiveState": "inactive",
    }
    assert events(running, "stopped")[-1]["pending"] == 0


def test_a_reload_changes_the_stations_and_survives_a_wrong_file(running: Host) -> None:
    """SIGHUP: the same process goes on, with the new list or, if the file is wrong, the old one."""
    pid, before = running.show(PICKER, "MainPID"), len(events(running, "reloaded"))
    running.write(CONFIG / "main.yaml", SETTINGS.replace("['*']", "['BW.UH1', 'BW.UH2']"))
    running.ctl("reload", PICKER)
    running.wait_for(lambda: len(events(running, "reloaded")) > before)
    assert events(running, "reloaded")[-1]["changed"] == ["stations"]
    running.wait_for(lambda: events(running, "seedlink_connected")[-1]["channels"] == 2)
    running.write(CONFIG / "main.yaml", SETTINGS.replace("stations:", "station:"))
    running.ctl("reload", PICKER)
    running.wait_for(lambda: events(running, "reload_failed"))
    assert "did you mean 'stations'" in str(events(running, "reload_failed")[-1]["error"])
    assert running.show(PICKER, "MainPID") == pid
    running.write(CONFIG / "main.yaml", SETTINGS)


def test_start_waits_until_the_worker_is_ready_and_a_stop_is_a_success(host: Host) -> None:
    """SIGTERM: it leaves its lease, so that another one need not wait, and exits 0."""
    started, stopped = len(events(host, "association_started")), len(events(host, "stopped"))
    host.ctl("start", "msnet-broker")
    host.ctl("start", WORKER)
    assert host.show(WORKER, "ActiveState")["ActiveState"] == "active"
    assert len(events(host, "association_started")) == started + 1
    host.wait_for(lambda: events(host, "metrics_listening"))
    host.ctl("stop", WORKER)
    assert host.show(WORKER, "Result", "ActiveState") == {
        "Result": "success",
        "ActiveState": "inactive",
    }, host.tail()
    assert len(events(host, "stopped")) == stopped + 1


def test_a_reload_of_the_worker_takes_up_stations_and_survives_a_wrong_file(working: Host) -> None:
    """SIGHUP: the same process goes on; a file that cannot be used leaves the old in force."""
    pid, changes = working.show(WORKER, "MainPID"), len(events(working, "stations_changed"))
    working.write(CONFIG / "stations.csv", STATIONS)
    failed = len(events(working, "reload_failed"))
    working.ctl("reload", WORKER)
    working.wait_for(lambda: len(events(working, "reload_failed")) > failed)
    assert "2 stations" in str(events(working, "reload_failed")[-1]["error"])
    working.write(CONFIG / "stations.csv", STATIONS + LAST_STATION)
    reloaded = len(events(working, "reloaded"))
    working.write(CONFIG / "associate.yaml", ASSOCIATION.replace("log:", "agency: ZZ\nlog:"))
    working.ctl("reload", WORKER)
    working.wait_for(lambda: len(events(working, "reloaded")) > reloaded)
    assert events(working, "restart_required")[-1]["settings"] == ["agency"]
    working.write(CONFIG / "associate.yaml", ASSOCIATION)
    assert working.show(WORKER, "MainPID") == pid
    assert len(events(working, "stations_changed")) == changes


@pytest.mark.parametrize(
    ("unit", "config"), [("msnet-stream@wrong", "wrong.yaml"), (WORKER, "associate.yaml")]
)
def test_wrong_settings_stay_down(host: Host, unit: str, config: str) -> None:
    """Exit 78 is not tried again: it would be wrong for ever."""
    host.write(CONFIG / config, "seedlink: {sever: here}\n")
    host.ctl("start", unit, check=False)
    assert host.show(unit, "ActiveState", "ExecMainStatus", "NRestarts") == {
        "ActiveState": "failed",
        "ExecMainStatus": "78",
        "NRestarts": "0",
    }
    assert "did you mean 'servers'" in host.tail()
    host.write(CONFIG / "associate.yaml", ASSOCIATION)


def test_all_runs_as_another_user_with_the_drop_in_of_the_documents(host: Host) -> None:
    """`sysop.conf` of docs/deployment.md, on a host that has run without it before."""
    text = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text()
    drop_in = text.partition("```ini\n")[2].partition("```")[0]
    assert "User=sysop" in drop_in
    for file, line in (("passwd", "sysop:x:4711:4711::/home/sysop:/bin/sh\n"),
                       ("group", "sysop:x:4711:\n")):  # fmt: skip
        path = Path("/etc") / file
        host.write(path, host.inside(path).read_text() + line)
    host.ctl("stop", "msnet-broker")
    units = ("msnet-broker.service", "msnet-stream@.service", "msnet-associate.service")
    paths = [UNIT_FOLDER / f"{unit}.d/sysop.conf" for unit in units]
    for path in paths:
        host.write(path, drop_in)
    host.ctl("daemon-reload")
    host.ctl("start", "msnet-broker")
    host.ctl("restart", "replay")
    host.ctl("start", PICKER, WORKER)
    for unit in ("msnet-broker", PICKER, WORKER):
        pid = host.show(unit, "MainPID")["MainPID"]
        assert host.run("stat", "-c", "%U", f"/proc/{pid}").strip() == "sysop"
    host.ctl("stop", WORKER, PICKER, "replay", "msnet-broker")
    for path in paths:
        host.inside(path).unlink()
    host.ctl("daemon-reload")
