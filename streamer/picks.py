"""The pick message `msnet.pick/1`: what leaves this daemon and what association reads.

Flat string fields on the Redis stream `msnet:picks`; an absent value is an omitted field.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Literal, get_args

from streamer.errors import DataError
from streamer.latency import INSTANTS, stages_s
from streamer.seedid import Instrument
from streamer.timebase import NS_PER_S, iso

PICK_VERSION = 1
Phase = Literal["P", "S"]
Status = Literal["new", "update", "retract"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """One pick in one state of its life cycle.

    `t_ns`, `data_ns`, `made_ns` are POSIX ns UTC: the onset, the arrival of the last sample used,
    the publication; `latency.INSTANTS` has those between them. `prob` is the peak of the
    probability trace (0-1). Consumers insert or ignore by (`id`, `rev`).

    Life: `new` (rev 0) about a second after the onset or, if it was not sure enough then, with its
    final probability; `update` (rev n) when it moves; the last message has `final` 1 and is `new`,
    `update` or `retract`, after which no later data change it.
    """

    id: str
    rev: int
    status: Status
    net: str
    sta: str
    loc: str
    cha: str
    phase: Phase
    t_ns: int
    prob: float
    model: str
    model_sha: str
    cfg: str
    agency: str
    author: str
    data_ns: int
    made_ns: int
    final: int = 1
    n_comp: int | None = None
    qual: str | None = None
    lat: float | None = None
    lon: float | None = None
    elev: float | None = None
    t_unc: float | None = None
    snr: float | None = None
    amp: float | None = None
    amp_unit: str | None = None
    amp_per: float | None = None
    pol: str | None = None
    pol_prob: float | None = None
    seen_ns: int | None = None
    rec_ns: int | None = None
    turn_ns: int | None = None
    done_ns: int | None = None

    @property
    def nslc(self) -> str:
        """NET.STA.LOC.CHA the pick is reported on."""
        return f"{self.net}.{self.sta}.{self.loc}.{self.cha}"

    @property
    def name(self) -> str:
        """`<id>:<rev>`, by which messages are told apart."""
        return f"{self.id}:{self.rev}"

    @property
    def stages_s(self) -> dict[str, float]:
        """Seconds of each stage of `latency.STAGES`; empty if it was not made live."""
        return stages_s([getattr(self, name) for name in INSTANTS])

    def to_fields(self) -> dict[str, str]:
        """Message fields in a fixed order, all values strings."""
        message = {"v": str(PICK_VERSION)}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if field.name == "t_ns":
                message["time"] = iso(value)
            message[field.name] = format(value, _FORMATS.get(field.name, ""))
        return message

    @classmethod
    def from_fields(cls, message: Mapping[str, str]) -> "Pick":
        """Inverse of `to_fields`; ignores unknown fields. Raises DataError if malformed."""
        if message.get("v") != str(PICK_VERSION):
            raise DataError(f"pick message version {message.get('v')!r}: this program reads 1")
        try:
            values = {
                name: convert(text)
                for name, text in message.items()
                if (convert := _CONVERT.get(name)) is not None
            }
            return cls(**values)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise DataError(f"pick message {message.get('id', '?')}: {error}") from error


def latest(picks: Iterable[Pick]) -> list[Pick]:
    """The newest state of each pick, by time; picks that were retracted are left out."""
    newest: dict[str, Pick] = {}
    for pick in picks:
        known = newest.get(pick.id)
        if known is None or pick.rev >= known.rev:
            newest[pick.id] = pick
    standing = (pick for pick in newest.values() if pick.status != "retract")
    return sorted(standing, key=lambda pick: (pick.t_ns, pick.id))


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a finite number")
    return value


def _one_of(*names: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in names:
            raise ValueError(f"{text!r} is none of {', '.join(names)}")
        return text

    return convert


# Digits that mean something: the others are rounding, and differ between machines.
_FORMATS = {
    **dict.fromkeys(("prob", "t_unc", "pol_prob"), ".4f"),
    **dict.fromkeys(("snr", "amp", "amp_per"), ".4g"),
}
_CONVERT: dict[str, Callable[[str], object]] = {
    **dict.fromkeys(("rev", "t_ns", "data_ns", "made_ns", "final", "n_comp"), int),
    **dict.fromkeys(("seen_ns", "rec_ns", "turn_ns", "done_ns"), int),
    **dict.fromkeys(("prob", "lat", "lon", "elev", "t_unc", "snr"), _finite),
    **dict.fromkeys(("amp", "amp_per", "pol_prob"), _finite),
    **dict.fromkeys(("id", "net", "sta", "loc", "cha", "model", "model_sha", "cfg"), str),
    **dict.fromkeys(("agency", "author", "qual", "amp_unit", "pol"), str),
    "phase": _one_of(*get_args(Phase)),
    "status": _one_of(*get_args(Status)),
}


def pick_id(instrument: Instrument, phase: Phase, t_ns: int, origin_hex6: str) -> str:
    """`NET.STA.LOC.BI.PHASE.YYYYMMDDTHHMMSS.mmm.hex6`: one onset has one id on every host.

    `origin_hex6` is the first six digits of the hash of model and picker configuration.
    """
    seconds, ns = divmod(t_ns, NS_PER_S)
    stamp = f"{datetime.fromtimestamp(seconds, UTC):%Y%m%dT%H%M%S}.{ns // 1_000_000:03d}"
    return f"{instrument}.{phase}.{stamp}.{origin_hex6}"
