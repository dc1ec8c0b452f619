"""The configuration: every setting with its meaning, unit, bounds and default, and how it is read.

A setting is taken from the first of: command line, environment (`MSNET_STREAM_REDIS__URL` for
`redis.url`), YAML file, default. Everything read is text until the type of the setting gives it a
meaning, so that YAML never turns the network `NO` into false or the location `010` into 8. All
errors are reported at once, each with the line or variable it came from and its key.
"""

import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from platformdirs import user_state_path
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from streamer.config_association import AssociationConfig
from streamer.config_text import Sources, example_lines
from streamer.errors import ConfigError
from streamer.seedid import Nslc
from streamer.stationspec import parse_patterns
from streamer.timebase import parse_iso

SEEDLINK_PORT = 18000
SEEDLINK_TLS_PORT = 18500
ENV_PREFIX = "MSNET_STREAM_"

# Variables with our prefix that are not settings: where the file is, and secrets.
_ENV_NOT_SETTINGS = frozenset(
    {
        "MSNET_STREAM_CONFIG",
        "MSNET_STREAM_REDIS_PASSWORD",
        "MSNET_STREAM_SEEDLINK_PASSWORD",
        "MSNET_STREAM_SEEDLINK_TOKEN",
    }
)


class Server(NamedTuple):
    """A SeedLink server; `tls` as seedlinks:// or the port for it says."""

    host: str
    port: int
    tls: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def split_server(text: str) -> Server:
    """The server that `[seedlink[s]://]host[:port]` names; an IPv6 address stands in brackets.

    Raises ValueError.
    """
    match = re.fullmatch(
        r"(?:seedlink(s)?://)?(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/@\[\]]+))(?::(\d{1,5}))?/?", text
    )
    tls = bool(match and match[1])
    port = int(match[4] or (SEEDLINK_TLS_PORT if tls else SEEDLINK_PORT)) if match else 0
    if match is None or not 0 < port < 65536:
        raise ValueError(f"{text!r} is not host[:port]")
    return Server(match[2] or match[3], port, tls or port == SEEDLINK_TLS_PORT)


def _as_tuple(value: object) -> object:
    """One text where a list is expected (environment, command line) is a list of one."""
    return (value,) if isinstance(value, str) else value


def _servers(texts: tuple[str, ...]) -> tuple[str, ...]:
    servers = tuple(part.strip() for text in texts for part in text.split(",") if part.strip())
    for server in servers:
        split_server(server)
    return servers


def split_address(text: str) -> tuple[str, int]:
    """Host and port of `host:port` to listen at; port 0 is any free one. Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _address(text: str) -> str:
    split_address(text)
    return text


def _start(text: str) -> str:
    if text not in {"now", "earliest"}:
        try:
            parse_iso(text)
        except ValueError:
            raise ValueError(f"{text!r} is neither now, earliest nor an ISO 8601 time") from None
    return text


def _model(text: str) -> str:
    if not re.fullmatch(r"seisbench:\w+/[\w.-]+", text):
        raise ValueError(f"{text!r} is not seisbench:CLASS/WEIGHTS, as seisbench:PhaseNet/original")
    return text


def _pattern(text: str) -> str:
    try:
        patterns = parse_patterns(text)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    if any(pattern.exclude for pattern in patterns):
        raise ValueError(f"{text!r} is negated: a rule says what it is for")
    return text


def _whole_number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


TextTuple = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
UserPath = Annotated[Path, AfterValidator(Path.expanduser)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_means_defaults(cls, value: object) -> object:
        """A section whose keys are all commented out is null in YAML."""
        return {} if value is None else value


class SeedLinkConfig(_Section):
    """Where waveforms come from."""

    servers: Annotated[TextTuple, AfterValidator(_servers)] = Field(
        default=(),
        description="SeedLink servers as host[:port], best first; the port is"
        f" {SEEDLINK_PORT} if left out. seedlinks://host[:port] and port {SEEDLINK_TLS_PORT} mean"
        " TLS.",
    )
    protocol: Literal["auto", "3", "4"] = Field(
        default="auto",
        description="SeedLink version; auto takes version 4 where the server offers it.",
    )
    connect_timeout_s: float = Field(
        default=15,
        gt=0,
        description="Time for connecting and for each answer while negotiating, s.",
    )
    network_timeout_s: float = Field(
        default=120,
        gt=0,
        description="Silence of the server after which the connection is renewed, s.",
    )
    startup_timeout_s: float = Field(
        default=30,
        gt=0,
        description="Give up (exit 69) if no server was reached this long after start, s.",
    )
    start: Annotated[str, AfterValidator(_start)] = Field(
        default="now",
        description="Where a first connection begins: now, earliest (all that the server still"
        " holds) or an ISO 8601 time (UTC). Later connections resume where the last one ended.",
    )
    queue_mb: float = Field(
        default=64,
        gt=0,
        description="Memory for packets between the network and the rings, MB: 200 s of 1000"
        " stations. When it is full the server has to wait.",
    )
    discovery_s: float = Field(
        default=300,
        ge=240,
        description="How often to look for new stations and for a server named before the one in"
        " use, s. Public servers ask for 4 minutes or more.",
    )
    station_timeout_s: float = Field(
        default=600,
        gt=0,
        description="Silence of a station after which it is reported, s.",
    )
    ca_file: UserPath | None = Field(
        default=None,
        description="Certificates (PEM) to trust for TLS instead of those of the system.",
    )
    username: str | None = Field(
        default=None,
        description="User to log in as (version 4). The password comes from password_file, the"
        " systemd credential seedlink-password or MSNET_STREAM_SEEDLINK_PASSWORD.",
    )
    password_file: UserPath | None = Field(
        default=None, description="File that holds the password of username."
    )
    token_file: UserPath | None = Field(
        default=None,
        description="File that holds a token (JWT) to log in with instead; it is read anew for each"
        " connection. Also: credential seedlink-token, MSNET_STREAM_SEEDLINK_TOKEN.",
    )


class SamplingRule(_Section):
    """How channels of one pattern reach the sampling rate of the network."""

    pattern: Annotated[str, AfterValidator(_pattern)] = Field(
        description="Channels, such as CI.* or XX.*.*.GH?."
    )
    mode: Literal["resample", "native"] = Field(
        description="resample: to the rate of the network; native: samples as they are."
    )


class WaveformsConfig(_Section):
    """From records to the samples of a station."""

    buffer_s: float = Field(
        default=120,
        ge=60,
        description="Length of the ring of each channel, s: 0.15 MB for three channels at 100 Hz.",
    )
    component_timeout_s: float = Field(
        default=30,
        gt=0,
        description="Wall time after which a component that stopped is given up, s.",
    )
    silence_flush_s: float = Field(
        default=60,
        gt=0,
        description="Wall time of silence after which the last seconds of a station are picked"
        " without waiting for what follows them, s.",
    )
    bridge_s: float = Field(
        default=0,
        ge=0,
        le=0.1,
        description="Gaps up to this length are bridged by interpolation, and picks near them carry"
        " qual=interp, s; 0 = no sample is ever made up.",
    )
    timing_quality_min: int = Field(
        default=50,
        ge=0,
        le=100,
        description="Picks of records whose timing quality (blockette 1001, %) is lower carry"
        " qual=timing; 0 counts as not known, for many digitisers never set it.",
    )
    sampling: tuple[SamplingRule, ...] = Field(
        default=(),
        description="Rules tried in order, such as [{pattern: XX.*, mode: native}]; channels that"
        " fit none are resampled.",
    )

    def sampling_mode(self, nslc: Nslc) -> Literal["resample", "native"]:
        """Mode of the first rule that fits the channel."""
        for rule in self.sampling:
            if any(pattern.matches(nslc) for pattern in parse_patterns(rule.pattern)):
                return rule.mode
        return "resample"


class PickingConfig(_Section):
    """From samples to picks."""

    weights: UserPath | None = Field(
        default=None,
        description="Network to use (.safetensors with its card); null = the bundled one.",
    )
    model: Annotated[str, AfterValidator(_model)] | None = Field(
        default=None,
        description="Picker of SeisBench to use instead, as seisbench:PhaseNet/original; needs the"
        " extra msnet-stream[seisbench].",
    )
    threshold_p: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Least probability of a P pick; null = the network's own.",
    )
    threshold_s: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Least probability of an S pick; null = the network's own.",
    )
    provisional: bool = Field(
        default=True,
        description="Publish picks about a second after the onset, to be confirmed or retracted"
        " five seconds later; false = only final picks.",
    )
    step_s: Annotated[Literal[1, 2, 5], BeforeValidator(_whole_number)] = Field(
        default=1,
        description="Advance of the network; larger costs less and picks later, s. When the machine"
        " cannot keep up it widens to 2 and 5, and narrows again.",
    )
    tick_ms: int = Field(
        default=50,
        gt=0,
        le=1000,
        description="How often stations are looked at for a step to do, ms.",
    )
    batch_stations: int = Field(
        default=256, ge=1, description="Stations in one call of the network, at most."
    )
    urgent: Annotated[
        tuple[Annotated[str, AfterValidator(_pattern)], ...], BeforeValidator(_as_tuple)
    ] = Field(
        default=(),
        description="Patterns of stations that are served first and, when the machine cannot keep"
        " up and the others advance in wider steps, still every second.",
    )

    def is_urgent(self, nslc: Nslc) -> bool:
        """Whether a pattern of `urgent` fits the channel."""
        return any(
            pattern.matches(nslc) for text in self.urgent for pattern in parse_patterns(text)
        )

    @model_validator(mode="after")
    def _one_network(self) -> "PickingConfig":
        if self.model is not None and self.weights is not None:
            raise ValueError("weights and model are given: use one of them")
        return self


class EmbeddedRedisConfig(_Section):
    """The broker started when `redis.url` is `embedded:`."""

    port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Loopback TCP port for other consumers; null = none.",
    )
    durability: Literal["everysec", "always"] = Field(
        default="everysec", description="How often the append-only file is synced to disk."
    )
    maxmemory_mb: int = Field(
        default=1024, ge=1, description="Memory of the broker at most, MB; a pick takes 0.6 kB."
    )
    socket: UserPath | None = Field(
        default=None,
        description="Unix socket where it listens; null = in the state folder. Picker, worker and"
        " broker of one host name the same one.",
    )


class RedisConfig(_Section):
    """Where picks go."""

    url: str = Field(
        default="embedded:",
        repr=False,  # may hold a password
        description="embedded:, redis://host:6379/0, rediss://..., unix:///path?db=0 or"
        " redis+sentinel://host1:26379,host2:26379/service/0.",
    )
    password_file: UserPath | None = Field(
        default=None, description="File that holds the password."
    )
    prefix: str = Field(
        default="msnet",
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="First part of every key: picks are on <prefix>:picks.",
    )
    retention_days: float = Field(
        default=7, gt=0, description="Age at which picks leave the stream, days."
    )
    max_entries: int = Field(
        default=1_000_000, ge=1, description="Picks kept on the stream, at most."
    )
    embedded: EmbeddedRedisConfig = Field(
        default=EmbeddedRedisConfig(), description=EmbeddedRedisConfig.__doc__
    )


class SpoolConfig(_Section):
    """Where picks wait for Redis, in the state folder."""

    max_mb: float = Field(
        default=512,
        gt=0,
        description="Size, MB, of about 1400 picks each; beyond it the oldest are given up.",
    )


class MetricsConfig(_Section):
    """What can be asked about the running daemon over HTTP."""

    listen: Annotated[str, AfterValidator(_address)] | None = Field(
        default="127.0.0.1:9108",
        description="Address of /metrics (Prometheus), /healthz and /readyz as host:port; null ="
        " none. Anybody who reaches it may read.",
    )
    worker: Annotated[str, AfterValidator(_address)] | None = Field(
        default="127.0.0.1:9109",
        description="The same of the association worker.",
    )

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of `listen`."""
        return None if self.listen is None else split_address(self.listen)

    @property
    def worker_address(self) -> tuple[str, int] | None:
        """Host and port of `worker`."""
        return None if self.worker is None else split_address(self.worker)


class LogConfig(_Section):
    """What is logged to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level shown."
    )
    format: Literal["auto", "json", "console", "logfmt"] = Field(
        default="auto", description="auto: console on a terminal, json elsewhere."
    )
    status_s: float = Field(
        default=60, gt=0, description="Time between lines with the counters of all stages, s."
    )


class Config(_Section):
    """All settings."""

    stations: TextTuple = Field(
        default=(),
        description="Channels to pick, such as CI.*, NO..HH?, IU_KONO:BHE BHN or @stations.xml."
        " Quote what begins with * or ! and, within [ ], what holds a ?.",
    )
    state_dir: UserPath = Field(
        default_factory=lambda: user_state_path("msnet-stream"),
        examples=["/var/lib/msnet-stream"],
        description="Folder for checkpoints, spool and broker; default: $STATE_DIRECTORY, else"
        " ~/.local/state/msnet-stream.",
    )
    instance: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_.@-]+$",
        description="Name of this picker in heartbeats and on status pages; null = name of the"
        " state folder and host.",
    )
    agency: str = Field(
        default="XX", pattern=r"^[A-Za-z0-9_.-]+$", description="Agency code written on every pick."
    )
    author: str | None = Field(
        default=None, description="Author written on every pick; null = program, version and host."
    )
    inventory: Annotated[tuple[UserPath, ...], BeforeValidator(_as_tuple)] = Field(
        default=(),
        examples=[["stations.xml"]],
        description="Files that say where the sensors are and what a count means, for lat, lon,"
        " elev and amp of picks: StationXML, FDSN station text, or csv (net, sta, lat, lon, ...).",
    )
    seedlink: SeedLinkConfig = Field(default=SeedLinkConfig(), description=SeedLinkConfig.__doc__)
    waveforms: WaveformsConfig = Field(
        default=WaveformsConfig(), description=WaveformsConfig.__doc__
    )
    picking: PickingConfig = Field(default=PickingConfig(), description=PickingConfig.__doc__)
    redis: RedisConfig = Field(default=RedisConfig(), description=RedisConfig.__doc__)
    spool: SpoolConfig = Field(default=SpoolConfig(), description=SpoolConfig.__doc__)
    metrics: MetricsConfig = Field(default=MetricsConfig(), description=MetricsConfig.__doc__)
    association: AssociationConfig = Field(
        default=AssociationConfig(), description=AssociationConfig.__doc__
    )
    log: LogConfig = Field(default=LogConfig(), description=LogConfig.__doc__)

    @property
    def instance_name(self) -> str:
        """`instance`, or what stands for it."""
        if self.instance is not None:
            return self.instance
        name = f"{self.state_dir.name or 'root'}@{socket.gethostname()}"
        return re.sub(r"[^A-Za-z0-9_.@-]", "-", name)


def read_sources(
    path: Path | None, overrides: Mapping[str, object], environ: Mapping[str, str]
) -> Sources:
    """What the file at `path` (if any), `environ` and the command line say, not yet validated.

    `overrides` maps dotted keys (`redis.url`) to values; None and empty tuples mean "not given", as
    does an empty environment variable. Raises ConfigError if the file is no YAML, NoInputError if
    it cannot be read.
    """
    sources = Sources()
    if path is not None:
        sources.read_file(path)
    if environ.get("STATE_DIRECTORY") and "state_dir" not in sources.values:
        # systemd separates several folders with colons
        sources.put("state_dir", environ["STATE_DIRECTORY"].split(":")[0], "STATE_DIRECTORY")
    for name, text in sorted(environ.items()):
        if name.startswith(ENV_PREFIX) and name not in _ENV_NOT_SETTINGS and text:
            key = name.removeprefix(ENV_PREFIX).lower().replace("__", ".")
            sources.put(key, text, name)
    for key, value in overrides.items():
        if value is not None and value != ():
            sources.put(key, value, "command line")
    return sources


def load_config(
    path: Path | None, overrides: Mapping[str, object], environ: Mapping[str, str]
) -> Config:
    """The configuration that `read_sources` tells.

    Raises what that raises, and ConfigError with one line per error.
    """
    return read_sources(path, overrides, environ).validate(Config)


def example_yaml() -> str:
    """An example configuration: every key with its meaning, bounds and default."""
    head = (
        "# Configuration of msnet-stream: all settings, with their defaults.\n"
        f"# Any of them can also be set in the environment, such as {ENV_PREFIX}REDIS__URL.\n"
    )
    return head + "\n".join(example_lines(Config)) + "\n"
