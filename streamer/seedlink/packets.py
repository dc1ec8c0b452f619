"""The bytes of a server in its data phase -> packets, in whatever pieces they arrive.

Pure: no sockets, no clocks. v4 tells the length of each packet. v3 does not: the record does, and a
record that tells nothing, or nonsense, has 512 bytes. Bytes that cannot be a packet are skipped up
to the next thing that looks like one, and counted: a broken record must not cost its neighbours,
and a new connection would only meet it again.
"""

import re
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from streamer.seedid import Nslc
from streamer.seedlink.protocol import HEADER_V4, RECORD_BYTES

# What an untrusted server can make us hold for one packet, and for one answer to INFO.
MAX_RECORD_BYTES = 1 << 20
MAX_INFO_BYTES = 1 << 25
# More than this between two packets is not a broken record but another protocol.
MAX_SKIPPED_BYTES = 1 << 25
MAX_ERROR_BYTES = 1 << 13
# Channels whose codes are remembered: more than any network has.
MAX_CHANNELS = 100_000

_HEADER_V3_BYTES = 8
_STATION_BYTES = 21  # libslink's limit of a station id
_SHORTEST_RECORD_BYTES = 128  # of miniSEED 2; its blockettes begin within
_HEADER_MSEED3 = struct.Struct("<BHI")  # lengths at byte 33: source id, extra headers, data
_MSEED3_BYTES = 40
_LENGTHS_MSEED3_AT = 33
_FIRST_BLOCKETTE_AT = 46
_YEAR_AT = 20
_YEARS = range(1900, 2101)
_BIG, _LITTLE = struct.Struct(">HH"), struct.Struct("<HH")
# Year, first blockette, its kind and the length it tells: most records begin with it.
_USUAL = struct.Struct(">20xH24xHH4xB")
_BLOCKETTE_1000, _FIRST_USUALLY_AT = 1000, 48
_MAX_BLOCKETTES = 16

_RECORD = rb"(?:[0-9 \0]{6}[DRQM][ \0]|MS\x03)"
_HEADER_V3 = re.compile(rb"SL(?:INFO [ *]|[0-9A-Fa-f]{6})")
_RESYNC_V3 = re.compile(_HEADER_V3.pattern + _RECORD)
_RESYNC_V4 = re.compile(
    rb"SE(?:[23]D.{3}\0.{8}[\x03-\x15][A-Z0-9]+_[A-Z0-9]+|J[IE].{3}[\0-\2])", re.S
)
_RESYNC_BYTES = 64  # longest thing that either of them finds
_SOURCE_ID = re.compile(r"FDSN:([^_]*)_([^_]*)_([^_]*)_([^_]*)_([^_]*)_([^_]*)")
_CODE = re.compile(r"[A-Z0-9]{1,8}")
_LOCATION = re.compile(r"[A-Z0-9-]{0,8}")
_CHANNEL = re.compile(r"[A-Z0-9]{3}")


class LinkError(Exception):
    """A connection cannot go on; the next one may."""


class RefusedError(LinkError):
    """The server refused something with ERROR."""


class Packet(NamedTuple):
    """One SeedLink packet: the record as sent, when it arrived (UTC ns) and from which server.

    `station` is NET_STA, `sequence` the number the server gave it. Together with the start time of
    the record they are the `Position` from which the server can go on, for as long as it does not
    start again: `started` is when it did, in its own words.
    """

    data: bytes
    received_ns: int
    server: str
    station: str
    sequence: int | None
    started: str = ""


class Frame(NamedTuple):
    """One packet: a record of a station with its number, or (a part of) an answer to INFO.

    `more` tells that further packets of the same answer follow. `key` is the `channel_key` of the
    record.
    """

    station: str
    sequence: int
    payload: bytes
    is_info: bool = False
    more: bool = False
    key: bytes = b""


class PacketSplitter:
    """The packets of one connection; `ended` when the server has sent all that was asked for.

    `skipped_bytes` counts what was no packet, `skipped_head` is how the last such stretch began.
    """

    def __init__(self, *, v4: bool) -> None:
        self.ended = False
        self.skipped_bytes = 0
        self.skipped_head = b""
        self._v4 = v4
        self._resync = _RESYNC_V4 if v4 else _RESYNC_V3
        self._parts: list[bytes] = []
        self._held = 0
        self._needed = 0  # bytes without which there is nothing to see
        self._skipping = 0  # bytes since the last packet
        self._previous = b""  # v3: payload of the packet before, if it was read for the first time
        self._reread = 0  # bytes ahead that are looked at for the second and last time

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The packets completed by `data`; to be exhausted before the next call.

        Raises RefusedError at an ERROR of the server, LinkError if packets cease to come.
        """
        self._parts.append(data)
        self._held += len(data)
        if self._held < self._needed:
            return
        data = b"".join(self._parts)
        at = 0
        while not self.ended:
            self._needed = 0
            if self._at_header(data, at):
                found = (_packet_v4 if self._v4 else _packet_v3)(data, at)
                if isinstance(found, int):
                    self._needed = found - at
                    break
                if found is not None:
                    frame, stop = found
                    fresh = not self._v4 and not self._reread
                    self._previous = frame.payload if fresh else b""
                    self._reread = max(self._reread - (stop - at), 0)
                    at = stop
                    self._skipping = 0
                    yield frame
                    continue
            elif not self._skipping and self._line(data, at):
                break
            data, at, lost = self._skip(data, at)
            if lost:
                break
        self._parts = [data[at:]]
        self._held = len(self._parts[0])

    def _at_header(self, data: bytes, at: int) -> bool:
        if self._skipping:  # be sure
            return self._resync.match(data, at) is not None
        return data.startswith(b"SE" if self._v4 else b"SL", at)

    def _line(self, data: bytes, at: int) -> bool:
        """Whether what begins at `at` is END, ERROR or too short to tell."""
        begin = data[at : at + len(b"ERROR")]
        if begin.startswith(b"END"):
            self.ended = True
            return True
        if begin != b"ERROR":
            return any(word.startswith(begin) for word in (b"ERROR", b"END", b"SL", b"SE"))
        end = data.find(b"\r\n", at, at + MAX_ERROR_BYTES)
        if end < 0 and len(data) - at < MAX_ERROR_BYTES:
            return True
        text = data[at + len(b"ERROR") : end].decode("ascii", errors="replace")
        raise RefusedError(" ".join(text.split()) or "the server sent ERROR")

    def _skip(self, data: bytes, at: int) -> tuple[bytes, int, bool]:
        """Go on at the next thing that looks like a packet; whether there is none yet.

        A record of v3 that claims to be longer than it is has swallowed packets: look there first.
        """
        if self._skipping == 0:
            inside = self._resync.search(self._previous, _SHORTEST_RECORD_BYTES)
            if inside is not None:
                swallowed, self._previous = self._previous[inside.start() :], b""
                self._reread = len(swallowed)
                return swallowed + data[at:], 0, False
            self.skipped_head = data[at : at + 64]
        match = self._resync.search(data, at + 1)
        to = match.start() if match else max(at, len(data) - _RESYNC_BYTES)
        self._previous = b""
        self._reread = max(self._reread - (to - at), 0)
        self._skipping += to - at
        self.skipped_bytes += to - at
        if self._skipping > MAX_SKIPPED_BYTES:
            raise LinkError(f"no packet in {self._skipping} bytes")
        return data, to, match is None


def _packet_v4(data: bytes, at: int) -> tuple[Frame, int] | int | None:
    """The packet at `at` and where the next begins; the length to wait for; None: no packet."""
    body = at + HEADER_V4.size
    if body > len(data):
        return body
    form: bytes
    length: int
    sequence: int
    id_bytes: int
    _, form, length, sequence, id_bytes = HEADER_V4.unpack_from(data, at)
    is_info = form[:1] in b"JX"
    if not form.isalnum() or id_bytes > _STATION_BYTES:
        return None
    if length > (MAX_INFO_BYTES if is_info else MAX_RECORD_BYTES):
        return None
    payload_at = body + id_bytes
    stop = payload_at + length
    if stop > len(data):
        return stop
    station, payload = _text(data[body:payload_at]), data[payload_at:stop]
    if form == b"JE":
        raise RefusedError(payload[:MAX_ERROR_BYTES].decode(errors="replace"))
    return Frame(station, sequence, payload, is_info, key=channel_key(payload)), stop


def _packet_v3(data: bytes, at: int) -> tuple[Frame, int] | int | None:
    """As `_packet_v4`."""
    payload_at = at + _HEADER_V3_BYTES
    if len(data) < payload_at + _MSEED3_BYTES:
        return payload_at + _MSEED3_BYTES
    if not _HEADER_V3.match(data, at):
        return None
    length = _record_bytes(data, payload_at)
    if length > MAX_RECORD_BYTES:
        return None
    stop = payload_at + length
    if stop > len(data):
        return stop
    payload = data[payload_at:stop]
    if data.startswith(b"INFO", at + 2):
        return Frame("", 0, payload, is_info=True, more=data[payload_at - 1] == ord("*")), stop
    key = channel_key(payload)
    number = int(data[at + 2 : payload_at], 16)
    return Frame(_station_of(key), number, payload, key=key), stop


def _record_bytes(data: bytes, at: int) -> int:
    """Length of the record at `at`, as far as it is told; before it is, what has to be there."""
    if data.startswith(b"MS\x03", at):
        lengths: tuple[int, int, int]
        lengths = _HEADER_MSEED3.unpack_from(data, at + _LENGTHS_MSEED3_AT)
        return _MSEED3_BYTES + sum(lengths)
    if len(data) < at + _SHORTEST_RECORD_BYTES:
        return _SHORTEST_RECORD_BYTES
    return _mseed2_bytes(data, at) or RECORD_BYTES


def _mseed2_bytes(data: bytes, at: int) -> int | None:
    """Length that blockette 1000 tells (SEED manual, chapter 8); None without a sensible one."""
    usual: tuple[int, int, int, int] = _USUAL.unpack_from(data, at)
    year, offset, kind, exponent = usual
    big = year in _YEARS
    if big and offset == _FIRST_USUALLY_AT and kind == _BLOCKETTE_1000 and 7 <= exponent <= 20:
        return 1 << exponent
    layout = _BIG if big else _LITTLE  # of a blockette: its kind, and where the next one is
    _, offset = layout.unpack_from(data, at + _FIRST_BLOCKETTE_AT - 2)
    for _ in range(_MAX_BLOCKETTES):
        if not 48 <= offset <= _SHORTEST_RECORD_BYTES - 8:
            return None
        kind, following = layout.unpack_from(data, at + offset)
        if kind == _BLOCKETTE_1000:
            exponent = data[at + offset + 6]
            return 1 << exponent if 7 <= exponent <= 20 else None
        offset = following
    return None


def channel_key(record: bytes) -> bytes:
    """The bytes of a miniSEED record that name its channel; empty if they are not there."""
    if record.startswith(b"MS\x03"):
        if len(record) <= _MSEED3_BYTES:
            return b""
        return record[_MSEED3_BYTES : _MSEED3_BYTES + record[_LENGTHS_MSEED3_AT]]
    return record[8:20] if len(record) >= _SHORTEST_RECORD_BYTES else b""


@lru_cache(MAX_CHANNELS)
def channel_of(key: bytes) -> Nslc | None:
    """The channel that a `channel_key` names; None if that is no channel."""
    text = _text(key)
    if len(key) == 12 and ":" not in text:  # station, location, channel, network
        codes = (text[10:], text[:5], text[5:7], text[7:10])
        return checked_channel(*map(str.strip, codes))
    match = _SOURCE_ID.fullmatch(text)
    if match is None:
        return None
    network, station, location, *parts = match.groups()
    return checked_channel(network, station, location, "".join(parts))


@lru_cache(MAX_CHANNELS)
def _station_of(key: bytes) -> str:
    """NET_STA of the channel that a `channel_key` names; empty if that is no channel."""
    nslc = channel_of(key)
    return f"{nslc.network}_{nslc.station}" if nslc else ""


def checked_channel(network: str, station: str, location: str, channel: str) -> Nslc | None:
    """The channel of these codes; None if one of them is no code (`--` is an empty location)."""
    location = "" if location == "--" else location
    good = (
        _CODE.fullmatch(network)
        and _CODE.fullmatch(station)
        and _LOCATION.fullmatch(location)
        and _CHANNEL.fullmatch(channel)
    )
    return Nslc(network, station, location, channel) if good else None


def _text(data: bytes) -> str:
    return data.decode("ascii", errors="replace")


class InfoAnswer:
    """Gathers the packets of one answer to INFO: XML text of v3, JSON of v4."""

    def __init__(self, *, v4: bool) -> None:
        self._v4 = v4
        self._parts: list[bytes] = []
        self._held = 0

    def add(self, frame: Frame) -> bytes | None:
        """The whole text with its last packet, None before. Raises LinkError if it never ends."""
        part = frame.payload if self._v4 else _record_text(frame.payload)
        self._parts.append(part)
        self._held += len(part)
        if self._held > MAX_INFO_BYTES:
            raise LinkError(f"an answer to INFO has more than {MAX_INFO_BYTES} bytes")
        if frame.more:
            return None
        text = b"".join(self._parts)
        self._parts, self._held = [], 0
        return text


def _record_text(record: bytes) -> bytes:
    """The text in a miniSEED 2 record: as many characters as its header says it has samples."""
    big = int.from_bytes(record[_YEAR_AT : _YEAR_AT + 2], "big") in _YEARS
    count = int.from_bytes(record[30:32], "big" if big else "little")
    begin = int.from_bytes(record[44:46], "big" if big else "little")
    return record[begin : begin + count]
