"""The units of systemd: rendered from the templates in deploy/systemd, and put in their place.

System units run as a user that exists only while they do, shut in as far as possible. User units
(`--user`) are for an account without root: the same, without what only root can set up.
"""

import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import structlog
from platformdirs import user_config_path

from streamer.errors import CannotCreateError, ConfigError

log = structlog.get_logger()

UNITS = (
    "msnet-stream@.service",
    "msnet-associate.service",
    "msnet-broker.service",
    "msnet-stream.target",
)
# What DynamicUser=, PrivateTmp= and ProtectHome= hide from a unit.
_HIDDEN = (Path("/home"), Path("/root"), Path("/tmp"), Path("/var/tmp"), Path("/run/user"))

_PICKER = """\
# Picker {instance} of msnet-stream. Every setting: msnet-stream show-config --explain
stations: []            # such as [CI.*.*.HH?]
seedlink:
  servers: []           # such as [seedlink.example.org:18000]
redis:
  url: unix://{socket}
"""
_BROKER = """\
# The Redis server of msnet-broker.service.
redis:
  embedded:
    socket: {socket}
    # port: 6379        # for consumers of other users, on this host alone
"""
_ASSOCIATE = """\
# The association worker of msnet-stream.
redis:
  url: unix://{socket}
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where units and configurations go, and what the units run.

    `program` is the absolute path of `msnet-stream`; `shut_in`: system units with their hardening.
    """

    program: Path
    units: Path
    config: Path
    socket: str
    shut_in: bool

    @classmethod
    def of_system(cls, program: Path) -> "Place":
        """Units of the system, for root to install."""
        return cls(
            program=program,
            units=Path("/etc/systemd/system"),
            config=Path("/etc/msnet-stream"),
            socket="/run/msnet-broker/redis.sock",
            shut_in=True,
        )

    @classmethod
    def of_user(cls, program: Path, user_id: int) -> "Place":
        """Units of the manager of one user."""
        return cls(
            program=program,
            units=user_config_path("systemd") / "user",
            config=user_config_path("msnet-stream"),
            socket=f"/run/user/{user_id}/msnet-broker/redis.sock",
            shut_in=False,
        )


def own_program() -> Path:
    """The `msnet-stream` beside the interpreter that runs this."""
    return Path(sys.executable).parent / "msnet-stream"


def render(place: Place) -> dict[str, str]:
    """The units by file name. Raises ConfigError for a program that a system unit cannot see."""
    program = place.program
    if place.shut_in and any(program.is_relative_to(folder) for folder in _HIDDEN):
        raise ConfigError(
            f"{program} is out of sight of a system unit, which sees no home folders and its own "
            "/tmp: install msnet-stream in /opt/msnet-stream, or use --user"
        )
    templates = files("deploy") / "systemd"
    hardening = (templates / "hardening.conf").read_text().rstrip() if place.shut_in else ""
    values = {"@BIN@": str(program), "@CONFIG@": str(place.config), "@HARDENING@": hardening}
    units = {}
    for name in UNITS:
        text = (templates / name).read_text()
        for mark, value in values.items():
            text = text.replace(mark, value)
        if not place.shut_in:
            text = text.replace("multi-user.target", "default.target")
            text = "".join(
                line for line in text.splitlines(keepends=True) if "network-online" not in line
            )
        units[name] = text
    return units


def configurations(place: Place, instance: str) -> dict[str, str]:
    """What to begin with, by file name: a picker, the broker and the association worker."""
    return {
        f"{instance}.yaml": _PICKER.format(instance=instance, socket=place.socket),
        "broker.yaml": _BROKER.format(socket=place.socket),
        "associate.yaml": _ASSOCIATE.format(socket=place.socket),
    }


def install(place: Place, instance: str) -> list[Path]:
    """Write the units, and the configurations that are not there yet; the files written.

    Raises ConfigError as `render`, CannotCreateError if a file cannot be written.
    """
    units = {place.units / name: text for name, text in render(place).items()}
    configs = {place.config / name: text for name, text in configurations(place, instance).items()}
    written = []
    for path, text in {**units, **configs}.items():
        if path in configs and path.exists():
            continue  # the operator's own
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        except OSError as error:
            raise CannotCreateError(
                f"{path} cannot be written: {error.strerror}; install as root, or with --user"
            ) from error
        written.append(path)
    return written
