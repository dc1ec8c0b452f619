"""What a server says that it has: its answers to INFO ID, STATIONS and STREAMS of either version.

Nothing in them is trusted: entries that are no channels are left out, and their number is bounded.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from streamer.seedid import Nslc
from streamer.seedlink.packets import MAX_CHANNELS, LinkError, checked_channel
from streamer.seedlink.protocol import SEQUENCE_BITS_V3
from streamer.seedlink.requests import Standing
from streamer.stationspec import StationSpec

_SEQUENCES_V3 = 1 << SEQUENCE_BITS_V3


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The channels of a server, with the time up to which it has each (as it writes it).

    `started` is when the server started; `ends` maps a station (NET_STA) to the number behind its
    newest packet. Either may be missing.
    """

    v4: bool
    started: str = ""
    channels: Mapping[Nslc, str] = field(default_factory=dict)
    ends: Mapping[str, int] = field(default_factory=dict)

    def counts_anew(self, standings: Mapping[str, Standing]) -> bool:
        """Whether the numbers of `standings` are not (or no longer) those of this server.

        They are not if one lies at or beyond the end. In v3, with 24 bits, "beyond" is up to half
        the circle ahead.
        """
        for station, standing in standings.items():
            end = self.ends.get(station)
            if end is None or standing.sequence is None:
                continue
            ahead = standing.sequence - end
            if ahead >= 0 if self.v4 else ahead % _SEQUENCES_V3 < _SEQUENCES_V3 // 2:
                return True
        return False


def info_item(spec: StationSpec, *, v4: bool) -> str:
    """What to ask with INFO for the channels of `spec`: in v4 no more than its network or station.

    A public server has tens of thousands of channels.
    """
    asked = [pattern for pattern in spec.patterns if not pattern.exclude]
    networks = {pattern.network for pattern in asked}
    stations = {pattern.station for pattern in asked}
    network, station = networks.pop() if len(networks) == 1 else "*", "*"
    if len(stations) == 1 and not networks:
        station = stations.pop()
    if not v4 or network == station == "*" or "[" in network + station:
        return "STREAMS"
    return f"STREAMS {network}_{station}"


def parse_listing(text: bytes, *, v4: bool) -> Listing:
    """The listing in the answer to INFO STREAMS. Raises LinkError if it is none."""
    try:
        return _from_json(json.loads(text)) if v4 else _from_xml(ElementTree.fromstring(text))
    except (ValueError, RecursionError, AttributeError, TypeError, ElementTree.ParseError) as error:
        raise LinkError(f"the answer to INFO makes no sense: {error}") from None


def _from_json(info: dict[str, Any]) -> Listing:
    channels: dict[Nslc, str] = {}
    ends: dict[str, int] = {}
    for station in info.get("station") or []:
        name = str(station.get("id", ""))
        network, _, code = name.partition("_")
        if isinstance(station.get("end_seq"), int):
            ends[name] = station["end_seq"]
        for stream in station.get("stream") or []:
            location, _, source = str(stream.get("id", "")).partition("_")
            if str(stream.get("subformat", "D")) == "D":
                channel = checked_channel(network, code, location, source.replace("_", ""))
                _enter(channels, channel, str(stream.get("end_time", "")))
    started = str(info.get("server_start", ""))
    return Listing(v4=True, started=started, channels=channels, ends=ends)


def _from_xml(root: ElementTree.Element) -> Listing:
    channels: dict[Nslc, str] = {}
    ends: dict[str, int] = {}
    # ringserver writes decimal numbers, all others the hexadecimal ones of the packets.
    base = 10 if "ringserver" in root.get("software", "").lower() else 16
    for station in root.iter("station"):
        network, code = station.get("network", ""), station.get("name", "")
        for end in _number(station.get("end_seq", ""), base):
            ends[f"{network}_{code}"] = end
        for stream in station.iter("stream"):
            if stream.get("type") in (None, "", "D"):
                location = stream.get("location", "").strip()
                channel = checked_channel(network, code, location, stream.get("seedname", ""))
                _enter(channels, channel, stream.get("end_time", ""))
    return Listing(v4=False, started=root.get("started", ""), channels=channels, ends=ends)


def _enter(channels: dict[Nslc, str], channel: Nslc | None, end_time: str) -> None:
    if channel is not None:
        channels[channel] = end_time[:32]
        if len(channels) > MAX_CHANNELS:
            raise LinkError(f"INFO STREAMS lists more than {MAX_CHANNELS} channels")


def _number(text: str, base: int) -> Iterator[int]:
    try:
        yield int(text[:16], base)
    except ValueError:
        return
