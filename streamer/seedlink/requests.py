"""What to ask for: channels and positions -> the commands of each station, in v3 or v4.

Pure. The ways to say where a station goes on form a ladder: a server that refuses the first is
asked by the next. Number and time together are best: where the number is no longer stored, or has
come round (v3 has 24 bits), the time finds the place.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from streamer.seedid import Nslc
from streamer.seedlink.protocol import SEQUENCE_MASK_V3, station_id, stream_id
from streamer.timebase import NS_PER_S, iso, parse_iso

# Requests by time reach back this far before the last record: servers start one packet too late,
# and a slow channel may be behind the others of its station. What comes twice is left out again.
OVERLAP_NS = 60 * NS_PER_S
# "Everything", for servers that take DATA ALL to mean the next packet (ringserver).
EARLIEST_NS = 315_532_800 * NS_PER_S  # 1980


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a station is: number of its last packet (None: of no use here), start of its record.

    The time is UTC ns, None if it is not known.
    """

    sequence: int | None
    time_ns: int | None


@dataclass(frozen=True, slots=True)
class StationRequest:
    """The commands of one station; `data` are tried in order until one is accepted.

    `selects` are (selector, command).
    """

    name: str
    station: str
    selects: tuple[tuple[str, str], ...]
    data: tuple[str, ...]


def plan(
    wanted: Iterable[Nslc],
    standings: Mapping[str, Standing],
    *,
    v4: bool,
    by_time: bool = False,
    start: str = "now",
) -> list[StationRequest]:
    """What to ask for each station of `wanted`, in alphabetical order.

    A station goes on where it stands, by time rather than by number if `by_time`. One that is new
    begins at `start` (`now`, `earliest` or an ISO 8601 time).
    """
    stations: dict[str, list[Nslc]] = {}
    for nslc in sorted(wanted):
        stations.setdefault(station_id(nslc), []).append(nslc)
    requests = []
    for name, channels in stations.items():
        standing = standings.get(name)
        data = _begin(start, v4) if standing is None else _go_on(standing, by_time, v4)
        network, _, station = name.partition("_")
        texts = [selector(nslc, v4) for nslc in channels]
        selects = tuple((text, f"SELECT {text}") for text in texts)
        command = f"STATION {name}" if v4 else f"STATION {station} {network}"
        requests.append(StationRequest(name, command, selects, data))
    return requests


def selector(nslc: Nslc, v4: bool) -> str:
    """What SELECT is told for one channel."""
    return stream_id(nslc) if v4 else f"{nslc.location or '--'}{nslc.channel}"


def _begin(start: str, v4: bool) -> tuple[str, ...]:
    if start == "now":
        return ("DATA",)
    return *_from(EARLIEST_NS if start == "earliest" else parse_iso(start), v4), "DATA"


def _go_on(standing: Standing, by_time: bool, v4: bool) -> tuple[str, ...]:
    begin_ns = None if standing.time_ns is None else max(standing.time_ns - OVERLAP_NS, EARLIEST_NS)
    from_time = () if begin_ns is None else _from(begin_ns, v4)
    if standing.sequence is None:
        return *from_time, "DATA"
    following = standing.sequence + 1
    number = f"DATA {following}" if v4 else f"DATA {following & SEQUENCE_MASK_V3:06X}"
    behind: tuple[str, ...] = (number,)
    if standing.time_ns is not None:
        behind = (f"{number} {_time(standing.time_ns, v4)}", number)
    return *(from_time if by_time else ()), *behind, "DATA"


def _from(t_ns: int, v4: bool) -> tuple[str, ...]:
    return (f"DATA ALL {_time(t_ns, v4)}",) if v4 else (f"TIME {_time(t_ns, v4)}",)


def _time(t_ns: int, v4: bool) -> str:
    """ISO 8601 in v4; in v3 whole seconds with commas."""
    if v4:
        return iso(t_ns)
    moment = datetime.fromtimestamp(t_ns // NS_PER_S, UTC)
    return f"{moment.year},{moment.month},{moment.day},{moment:%H,%M,%S}"
