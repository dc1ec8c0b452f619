"""A small host of its own: a real systemd as process 1 of new namespaces, with our units in it.

It has its own processes, network, /run, /tmp, /var, /etc and /opt, and sees the rest of this
machine read-only. Made by root alone; ends with the context.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SYSTEMD = Path("/lib/systemd/systemd")
REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = Path("/opt/msnet-stream/bin/msnet-stream")
CONFIG = Path("/etc/msnet-stream")
UNIT_FOLDER = Path("/opt/units")
LOG = Path("/var/log/units.log")
BOOT_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0

# Nothing of this machine can be written inside: its units (which empty /tmp at a boot, for one) are
# out of sight, its disks are read-only, and what a host writes to is memory of its own.
# /opt/python and /opt/site: units cannot see home folders, where an interpreter may lie.
_BOOT = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /opt
mkdir -p /opt/python /opt/site /opt/source /opt/etc /opt/units {program.parent}
mount --bind {python} /opt/python
mount --bind {site} /opt/site
mount --bind {source} /opt/source
cat > {program} <<'END'
#!/bin/sh
export LD_LIBRARY_PATH=/opt/python/lib PYTHONPATH=/opt/source:/opt/site PYTHONDONTWRITEBYTECODE=1
exec /opt/python/bin/python3 -m streamer.cli "$@"
END
chmod 755 {program}
cp -a /etc/. /opt/etc
mkdir -p /opt/etc/msnet-stream /opt/etc/credstore
mount --bind /opt/etc /etc
for folder in /run /tmp /var; do mount -t tmpfs tmpfs $folder; done
mkdir -p /var/lib /var/cache /var/log /var/tmp
mount -o remount,bind,ro /
mount -t proc proc /proc
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for unit in idle sysinit basic shutdown multi-user network-online time-sync; do
    printf '[Unit]\\nDefaultDependencies=no\\n' > /opt/units/$unit.target
done
mkdir /opt/units/service.d
printf '[Service]\\nStandardOutput=append:{log}\\nStandardError=append:{log}\\n' \\
    > /opt/units/service.d/log.conf
mount --make-rshared /
ip link set lo up
export container=lxc SYSTEMD_UNIT_PATH=/opt/units
unset NOTIFY_SOCKET
exec {systemd} --system --unit=idle.target --log-target=console
"""


@dataclass(frozen=True)
class Host:
    """Commands inside. `pid`: of its process 1, as seen from outside."""

    pid: int

    def run(self, *command: object, check: bool = True) -> str:
        """What a command prints. Raises CalledProcessError with all of its output."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-m", "-p", "-n", "-i", "-u", *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}\n{self.tail()}")
        return done.stdout

    def ctl(self, *arguments: object, check: bool = True) -> str:
        """`systemctl`."""
        return self.run("systemctl", *arguments, check=check)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit."""
        text = self.ctl("show", unit, *(f"-p{name}" for name in properties))
        return dict(line.partition("=")[::2] for line in text.splitlines())

    def write(self, path: Path, text: str, mode: int = 0o644) -> None:
        """A file inside."""
        inside = self.inside(path)
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.write_text(text)
        inside.chmod(mode)

    def wait(self, unit: str, timeout_s: float = 60.0, **wanted: str) -> None:
        """Until the properties of a unit are as wanted."""
        self.wait_for(lambda: self.show(unit, *wanted) == wanted, timeout_s)

    def wait_for(self, condition: Callable[[], object], timeout_s: float = 60.0) -> None:
        """Until `condition` is truthy."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s, self.tail()
            time.sleep(0.1)

    def said(self) -> str:
        """All that the units have said; nothing before the first has started."""
        log = self.inside(LOG)
        return log.read_text(errors="replace") if log.exists() else ""

    def forget(self) -> None:
        """Begin anew with what the units say."""
        if (log := self.inside(LOG)).exists():
            os.truncate(log, 0)

    def tail(self) -> str:
        """The newest of what the units said."""
        return self.said()[-3000:]

    def inside(self, path: Path) -> Path:
        """Where a path inside is for us."""
        return Path(f"/proc/{self.pid}/root") / path.relative_to("/")


def why_not() -> str | None:
    """What this machine lacks; None if a host can be made."""
    if os.geteuid() != 0:
        return "only root can make namespaces for a systemd"
    lacking = [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]
    if lacking or not SYSTEMD.exists():
        return f"missing: {', '.join([*lacking, *([] if SYSTEMD.exists() else [str(SYSTEMD)])])}"
    probe = ["unshare", "--mount", "--cgroup", "--pid", "--net", "--fork", "true"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        return "unshare is refused here"
    return None if _cgroup_root() else "no cgroup2 file system is mounted"


@contextmanager
def systemd_host(folder: Path) -> Iterator[Host]:
    """Boot, and end everything when the context is left."""
    root = _cgroup_root()
    assert root is not None
    group, log = root / f"msnet-test-{os.getpid()}", folder / "systemd.log"
    group.mkdir()
    script = _BOOT.format(
        program=PROGRAM,
        python=sys.base_prefix,
        site=sysconfig.get_path("purelib"),
        source=REPOSITORY,
        systemd=SYSTEMD,
        log=LOG,
    )
    namespaces = ["--mount", "--cgroup", "--pid", "--net", "--uts", "--ipc"]
    enter = f"echo $$ > {group}/cgroup.procs; exec unshare {' '.join(namespaces)} --fork"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["bash", "-c", f'{enter} --kill-child=SIGKILL bash -c "$1"', "boot", script],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield _booted(process, log)
    finally:
        process.kill()
        process.wait(STOP_TIMEOUT_S)
        _remove(group)


def _booted(process: "subprocess.Popen[bytes]", log: Path) -> Host:
    deadline_s = time.monotonic() + BOOT_TIMEOUT_S
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while time.monotonic() < deadline_s and process.poll() is None:
        pids = children.read_text().split()
        if pids:
            host = Host(int(pids[0]))
            if host.ctl("is-system-running", check=False).strip() in ("running", "degraded"):
                return host
        time.sleep(0.05)
    raise AssertionError(f"systemd does not boot: {log.read_text(errors='replace')[-2000:]}")


def _cgroup_root() -> Path | None:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    return None


def _remove(group: Path) -> None:
    """The emptied control groups, innermost first."""
    deadline_s = time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < deadline_s:
        try:
            for below in sorted(group.rglob("*/"), reverse=True):
                below.rmdir()
            group.rmdir()
            return
        except OSError:  # processes that are still dying
            time.sleep(0.1)
