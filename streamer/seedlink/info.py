"""What INFO answers: an XML document in miniSEED text records (v3), a JSON document (v4).

The XML follows the document type of SeisComP's seedlink, the JSON the schema in appendix B of the
FDSN specification. Both show the same facts, gathered in `ServerInfo`. No sockets, no clocks.
"""

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

from streamer.seedid import Nslc
from streamer.seedlink.protocol import (
    FORMAT_ERROR,
    FORMAT_INFO,
    FORMAT_MSEED2,
    RECORD_BYTES,
    CommandError,
    matches,
    packet_v4,
    stream_id,
)
from streamer.timebase import NS_PER_S, iso

LEVELS_V3 = ("ID", "CAPABILITIES", "STATIONS", "STREAMS", "GAPS", "CONNECTIONS", "ALL")
ITEMS_V4 = ("ID", "FORMATS", "CAPABILITIES", "STATIONS", "STREAMS", "CONNECTIONS")

# Behind "::" in the answer to HELLO, and in INFO CAPABILITIES.
CAPABILITIES = (
    "SLPROTO:4.0",
    "SLPROTO:3.1",
    "CAP",
    "EXTREPLY",
    "NSWILDCARD",
    "BATCH",
    "TIME",
)
_CAPABILITIES_V3 = (
    "dialup",
    "multistation",
    "window-extraction",
    *(f"info:{level.lower()}" for level in LEVELS_V3),
)

# Fixed header, blockette 1000 (encoding 0 = text, big endian, 2**9 bytes), then the text.
_TEXT_AT = 56
_TEXT_BYTES = RECORD_BYTES - _TEXT_AT
_TEXT_HEADER = struct.Struct(">6s2s5s2s3s2sHHBBBBHHhhBBBBiHHHHBBBB")


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One channel: limits of what was released of it, and its gaps, UTC ns."""

    nslc: Nslc
    begin_ns: int
    end_ns: int
    gaps: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True, slots=True)
class StationInfo:
    """One station and the half-open range of the sequence numbers released of it."""

    network: str
    station: str
    first_sequence: int
    end_sequence: int
    streams: Sequence[StreamInfo]

    @property
    def id(self) -> str:
        """`NET_STA`."""
        return f"{self.network}_{self.station}"


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """One client: what it asked for and how far it has got."""

    host: str
    port: int
    connected_ns: int
    agent: str
    stations: Sequence[str]
    packets: int


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Everything that INFO can tell."""

    software: str
    organisation: str
    started_ns: int
    stations: Sequence[StationInfo]
    connections: Sequence[ConnectionInfo]


def info_v3(level: str, server: ServerInfo, now_ns: int) -> list[bytes]:
    """The SLINFO packets that answer `INFO level`. Raises CommandError for an unknown level."""
    if level not in LEVELS_V3:
        raise CommandError("ARGUMENTS", f"INFO knows {', '.join(LEVELS_V3)}; not {level!r}")
    body = ElementTree.tostring(_xml(level, server))  # us-ascii, other letters as &#nnn;
    text = b'<?xml version="1.0"?>' + body
    pieces = [text[at : at + _TEXT_BYTES] for at in range(0, len(text), _TEXT_BYTES)]
    heads = [b"SLINFO *"] * (len(pieces) - 1) + [b"SLINFO  "]
    return [head + _text_record(piece, now_ns) for head, piece in zip(heads, pieces, strict=True)]


def info_v4(arguments: Sequence[str], server: ServerInfo) -> bytes:
    """The one packet that answers `INFO item [station [stream[.format]]]`, an error in JSON too."""
    facts: dict[str, Any] = {
        "software": server.software,
        "organization": server.organisation,
        "server_start": iso(server.started_ns),
    }
    item = arguments[0].upper() if arguments else "(nothing)"
    form = FORMAT_INFO
    if item not in ITEMS_V4 or len(arguments) > 3:
        message = f"INFO knows {', '.join(ITEMS_V4)} [station [stream]]; not {item}"
        facts["error"] = {"code": "ARGUMENTS", "message": message}
        form = FORMAT_ERROR
    else:
        patterns = (*arguments[1:], "*", "*")
        facts |= _json_facts(item, patterns[0], patterns[1], server)
    return packet_v4(0, "", json.dumps(facts).encode("ascii"), form)


def _json_facts(item: str, station: str, stream: str, server: ServerInfo) -> dict[str, Any]:
    if item == "FORMATS":
        subformats = {"2": ("application/vnd.fdsn.mseed", {"D": "data"})}
        subformats["J"] = ("application/json", {"I": "seedlink-info", "E": "seedlink-error"})
        return {
            "format": {
                code: {"mimetype": mimetype, "subformat": names}
                for code, (mimetype, names) in subformats.items()
            },
            "filter": {"native": "records as they are"},
        }
    if item == "CAPABILITIES":
        return {"capability": list(CAPABILITIES)}
    if item == "CONNECTIONS":
        return {"connection": [_connection_json(each) for each in server.connections]}
    if item in ("STATIONS", "STREAMS"):
        stations = (each for each in server.stations if matches(station, each.id))
        return {"station": [_station_json(each, item == "STREAMS", stream) for each in stations]}
    return {}


def _station_json(station: StationInfo, with_streams: bool, stream: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "id": station.id,
        "description": "",
        "begin_seq": station.first_sequence,
        "end_seq": station.end_sequence,
        "backfill": -1,
    }
    if with_streams:
        pattern, _, form = stream.partition(".")
        facts["stream"] = [
            {
                "id": stream_id(each.nslc),
                "format": FORMAT_MSEED2[:1].decode(),
                "subformat": FORMAT_MSEED2[1:].decode(),
                "origin": "native",
                "begin_time": iso(each.begin_ns),
                "end_time": iso(each.end_ns),
            }
            for each in station.streams
            if matches(pattern, stream_id(each.nslc))
            and matches(form + "*", FORMAT_MSEED2.decode())
        ]
    return facts


def _connection_json(connection: ConnectionInfo) -> dict[str, Any]:
    return {
        "host": connection.host,
        "port": connection.port,
        "connected": iso(connection.connected_ns),
        "useragent": connection.agent,
        "stations": list(connection.stations),
        "packets": connection.packets,
    }


def _xml(level: str, server: ServerInfo) -> ElementTree.Element:
    root = ElementTree.Element(
        "seedlink",
        software=server.software,
        organization=server.organisation,
        started=_xml_time(server.started_ns),
    )
    if level in ("CAPABILITIES", "ALL"):
        for name in (*_CAPABILITIES_V3, *CAPABILITIES):
            ElementTree.SubElement(root, "capability", name=name)
    if level in ("STATIONS", "STREAMS", "GAPS", "CONNECTIONS", "ALL"):
        for station in server.stations:
            root.append(_station_xml(station, level, server.connections))
    return root


def _station_xml(
    station: StationInfo, level: str, connections: Sequence[ConnectionInfo]
) -> ElementTree.Element:
    element = ElementTree.Element(
        "station",
        name=station.station,
        network=station.network,
        description="",
        begin_seq=f"{station.first_sequence & 0xFFFFFF:06X}",
        end_seq=f"{station.end_sequence & 0xFFFFFF:06X}",
        stream_check="enabled",
    )
    if level in ("STREAMS", "GAPS", "ALL"):
        for stream in station.streams:
            child = ElementTree.SubElement(
                element,
                "stream",
                location=stream.nslc.location,
                seedname=stream.nslc.channel,
                type="D",
                begin_time=_xml_time(stream.begin_ns),
                end_time=_xml_time(stream.end_ns),
            )
            for begin_ns, end_ns in stream.gaps if level in ("GAPS", "ALL") else ():
                ElementTree.SubElement(
                    child, "gap", begin_time=_xml_time(begin_ns), end_time=_xml_time(end_ns)
                )
    if level in ("CONNECTIONS", "ALL"):
        element.extend(_connections_xml(station, connections))
    return element


def _connections_xml(
    station: StationInfo, connections: Sequence[ConnectionInfo]
) -> Iterator[ElementTree.Element]:
    for connection in connections:
        if station.id in connection.stations:
            yield ElementTree.Element(
                "connection",
                host=connection.host,
                port=str(connection.port),
                ctime=_xml_time(connection.connected_ns),
                txcount=str(connection.packets),
            )


def _xml_time(t_ns: int) -> str:
    return f"{datetime.fromtimestamp(t_ns // NS_PER_S, UTC):%Y-%m-%d %H:%M:%S}"


def _text_record(text: bytes, now_ns: int) -> bytes:
    """A 512-byte miniSEED 2 record of ASCII text, stamped with the present time."""
    now = datetime.fromtimestamp(now_ns // NS_PER_S, UTC)
    btime = (now.year, now.timetuple().tm_yday, now.hour, now.minute, now.second, 0, 0)
    flags_and_offsets = (0, 0, 0, 1, 0, _TEXT_AT, 48)  # one blockette, at byte 48
    blockette_1000 = (1000, 0, 0, 1, 9, 0)
    header = _TEXT_HEADER.pack(
        b"000000", b"D ", b"INFO ", b"  ", b"INF", b"SL", *btime, len(text), 0, 0,
        *flags_and_offsets, *blockette_1000,
    )  # fmt: skip
    return (header + text).ljust(RECORD_BYTES, b"\0")
