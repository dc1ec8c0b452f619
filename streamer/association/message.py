"""The event message `msnet.event/1`: what association publishes, readable without it.

One JSON object; times in UTC, `t_ns` POSIX ns; errors are standard errors (1 sigma).
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Literal, get_args

from streamer.errors import DataError
from streamer.timebase import NS_PER_S

EVENT_VERSION = 1
Status = Literal["preliminary", "updated", "final", "amended", "retracted"]
Profile = Literal["real", "best"]
RelocatedBy = Literal["dd", "hypodd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A pick assigned to an event: distance and azimuth as seen from the epicentre."""

    pick_id: str
    net: str
    sta: str
    phase: str
    time: str
    residual_s: float
    distance_km: float
    azimuth_deg: float
    weight: float
    prob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Relocation:
    """Where double differences place an event among those of a relocated catalogue that stays.

    Errors are of the place relative to its `neighbours` there, `gain` times smaller than without
    them.
    """

    time: str
    lat: float
    lon: float
    depth_km: float
    time_error_s: float
    lat_error_km: float
    lon_error_km: float
    depth_error_km: float
    neighbours: int
    gain: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event in one state of its life cycle; `version` counts from 1.

    Depth is below sea level. `lat_error_km`, `lon_error_km` lie along north and east; the
    horizontal error ellipse has half axes `major_error_km`, `minor_error_km`, the longer one at
    azimuth `major_azimuth_deg`. `gain` is the log likelihood ratio against chance (profile best).
    `mag` is the median over `mag_stations` stations with amplitudes, which spread by `mag_spread`;
    all are absent without amplitudes. `relocation` is there if a relocated catalogue has neighbours
    of the event; the other members stay those of its absolute location.
    """

    id: str
    version: int
    status: Status
    profile: Profile
    time: str
    t_ns: int
    lat: float
    lon: float
    depth_km: float
    time_error_s: float
    lat_error_km: float
    lon_error_km: float
    depth_error_km: float
    major_error_km: float
    minor_error_km: float
    major_azimuth_deg: float
    gap_deg: float
    nearest_km: float
    rms_s: float
    n_p: int
    n_s: int
    n_both: int
    gain: float | None = None
    relocated_by: RelocatedBy | None = None
    relocation: "Relocation | None" = None
    mag: float | None = None
    mag_type: str | None = None
    mag_spread: float | None = None
    mag_stations: int | None = None
    arrivals: tuple[Arrival, ...]

    @property
    def name(self) -> str:
        """`<id>:<version>`: what a consumer sees once."""
        return f"{self.id}:{self.version}"

    def to_json(self) -> str:
        """One line of JSON, absent values omitted."""
        return json.dumps(self._members())

    def to_fields(self) -> dict[str, str]:
        """The same as flat text fields for a Redis stream; `arrivals` is a JSON array."""
        return as_fields(self._members())

    def _members(self) -> dict[str, Any]:
        # Not `asdict`, which copies everything deeply: ten times slower.
        members = {"v": EVENT_VERSION} | _present(self)
        if self.relocation is not None:
            members["relocation"] = _present(self.relocation)
        return members | {"arrivals": [_present(arrival) for arrival in self.arrivals]}

    @classmethod
    def from_json(cls, text: str) -> "Event":
        """Inverse of `to_json`; ignores unknown members. Raises DataError if malformed."""
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"event message: not JSON: {error}") from error
        if not isinstance(document, dict):
            raise DataError("event message: not an object")
        return cls._from_members(document)

    @classmethod
    def from_fields(cls, message: Mapping[str, str]) -> "Event":
        """Inverse of `to_fields`; ignores unknown fields. Raises DataError if malformed."""
        texts = {field.name for field in fields(cls) if not _is_number(field.type)}
        texts -= {"arrivals", "relocation"}
        members: dict[str, Any] = {}
        for name, value in message.items():
            try:
                members[name] = value if name in texts else json.loads(value)
            except json.JSONDecodeError:
                members[name] = value  # refused below, unless it is unknown
        return cls._from_members(members)

    @classmethod
    def _from_members(cls, members: dict[str, Any]) -> "Event":
        if members.get("v") != EVENT_VERSION:
            raise DataError(f"event message version {members.get('v')!r}: this program reads 1")
        try:
            arrivals = tuple(Arrival(**_known(Arrival, each)) for each in members["arrivals"])
            nested: dict[str, Any] = {"arrivals": arrivals}
            if (place := members.get("relocation")) is not None:
                nested["relocation"] = Relocation(**_known(Relocation, place))
            event = cls(**_known(cls, members) | nested)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"event message {members.get('id', '?')}: {error}") from error
        if event.status not in get_args(Status):
            raise DataError(f"event message {event.id}: {event.status!r} is no status")
        return event


def as_fields(members: Mapping[str, Any]) -> dict[str, str]:
    """The members of the JSON object as flat text fields."""
    return {name: _as_text(value) for name, value in members.items()}


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    # A number as JSON is its repr, which takes a fraction of the time.
    return repr(value) if type(value) in (int, float) else json.dumps(value)


def _present(message: Any) -> dict[str, Any]:
    """The fields that have a value."""
    names = message.__slots__
    values = dict(zip(names, _READERS[type(message)](message), strict=True))
    if None in values.values():
        return {name: value for name, value in values.items() if value is not None}
    return values


# What reads all fields of a message at once.
_READERS: dict[type, Callable[[Any], Any]] = {
    kind: attrgetter(*kind.__slots__) for kind in (Arrival, Event, Relocation)
}


def _is_number(kind: object) -> bool:
    return kind in (float, int, float | None, int | None)


def _known(kind: type, document: dict[str, Any]) -> dict[str, Any]:
    """The members that are fields of a message, of the right type. Raises ValueError."""
    known: dict[str, Any] = {}
    if not isinstance(document, dict):
        raise ValueError(f"arrivals and relocation must be objects, not {document!r}")
    for field in fields(kind):
        if (value := document.get(field.name)) is None:
            continue
        if _is_number(field.type):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value):
                raise ValueError(f"{field.name} is not a finite number: {value!r}")
        elif field.type is str and not isinstance(value, str):
            raise ValueError(f"{field.name} is not a text: {value!r}")
        known[field.name] = value
    return known


def latest_events(events: Iterable[Event]) -> list[Event]:
    """The newest version of each event, by time; events that were retracted are left out."""
    newest: dict[str, Event] = {}
    for event in events:
        known = newest.get(event.id)
        if known is None or event.version >= known.version:
            newest[event.id] = event
    standing = (event for event in newest.values() if event.status != "retracted")
    return sorted(standing, key=lambda event: (event.t_ns, event.id))


def event_id(t_ns: int, pick_ids: list[str]) -> str:
    """`ms` + UTC origin time to 0.1 s + four hash digits of the first pick id in ASCII order."""
    tenths = t_ns // (NS_PER_S // 10)
    stamp = f"{datetime.fromtimestamp(tenths // 10, UTC):%Y%m%dT%H%M%S}.{tenths % 10}"
    return f"ms{stamp}-{hashlib.sha256(min(pick_ids).encode()).hexdigest()[:4]}"
