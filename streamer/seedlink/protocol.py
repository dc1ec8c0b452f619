"""SeedLink 3.1 and 4.0: what the bytes mean. No sockets, no clocks.

v4 is the FDSN specification (docs.fdsn.org/projects/seedlink); v3 has no formal one, so it follows
the documentation of SeisComP's seedlink and what libslink clients send. Section titles of the
former are quoted where a rule comes from it.

A client sends lines ("STATION", "SELECT", "DATA", "END", "INFO" ...); the server answers with lines
until the data phase, and from then on with packets:

    v3    "SL" + 6 hex digits + one 512-byte record         "SLINFO *" or "SLINFO  " for INFO
    v4    17-byte header "SE" ... + station id + payload    JSON for INFO
    both  "END" without line end when a dial-up session or a time window is finished
"""

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S, parse_iso

# "Handshaking": a command line has at most 255 bytes. It bounds what a peer that never ends a line
# can make us keep.
MAX_LINE_BYTES = 255

SEQUENCE_BITS_V3 = 24
SEQUENCE_MASK_V3 = (1 << SEQUENCE_BITS_V3) - 1

RECORD_BYTES = 512  # v3 has no length in its header: every record has this length
TERMINATOR = b"END"  # "Data Transfer": no line end behind it
OK = b"OK\r\n"

# "Data formats": format and subformat codes of a packet.
FORMAT_MSEED2 = b"2D"
FORMAT_INFO = b"JI"
FORMAT_ERROR = b"JE"

# signature, format + subformat, payload length, sequence number, length of the station id
HEADER_V4 = struct.Struct("<2s2sIQB")

# BTIME of a miniSEED 2 header (SEED manual, chapter 8): year, day of year, h, min, s at byte 20.
_BTIME_AT = 20
_BTIME_YEARS = range(1900, 2101)


class CommandError(ValueError):
    """A command that is refused; `code` is one of the error codes of v4."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Command:
    """One command line: upper-case name and arguments as sent."""

    name: str
    arguments: tuple[str, ...] = ()


class LineSplitter:
    """Bytes of a peer -> commands. Lines end with CR, LF or CRLF; empty ones are ignored."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> list[Command]:
        """The commands completed by `data`.

        Raises CommandError (LIMIT) if a line exceeds MAX_LINE_BYTES; the peer cannot be understood
        any further then.
        """
        *lines, self._pending = re.split(rb"[\r\n]", self._pending + data)
        if any(len(line) > MAX_LINE_BYTES for line in (*lines, self._pending)):
            raise CommandError("LIMIT", f"a command line has at most {MAX_LINE_BYTES} bytes")
        return [parse_command(line) for line in lines if line.strip()]


def parse_command(line: bytes) -> Command:
    """Command of a line that is not blank; bytes outside ASCII become `?`, which names nothing."""
    name, *arguments = (
        word.decode("ascii", errors="replace").replace("\ufffd", "?") for word in line.split()
    )
    return Command(name.upper(), tuple(arguments))


def error_line(error: CommandError, v4: bool, extended: bool = False) -> bytes:
    """The refusal of a command; v3 tells the reason only after `CAPABILITIES EXTREPLY`."""
    message = " ".join(str(error).split()).encode("ascii", errors="replace")
    if v4:
        return b"ERROR " + error.code.encode("ascii") + b" " + message + b"\r\n"
    return b"ERROR\r" + message + b"\r\n" if extended else b"ERROR\r\n"


# --- Station and stream ids, selectors -----------------------------------------------------------


def station_id(nslc: Nslc) -> str:
    """`NET_STA`, the station id of v4."""
    return f"{nslc.network}_{nslc.station}"


def stream_id(nslc: Nslc) -> str:
    """`LOC_B_S_SS`, the stream id of v4, with the three letters of a SEED channel code."""
    return f"{nslc.location}_{'_'.join(nslc.channel)}"


@lru_cache(maxsize=4096)
def _glob(pattern: str, prefix: bool = False) -> re.Pattern[str]:
    """ "Pattern matching": `*` any characters, `?` one; anchored at both ends unless `prefix`."""
    body = re.sub(r"\*+", "*", pattern)  # runs of stars mean one, and cost much more
    parts = (".*" if char == "*" else "." if char == "?" else re.escape(char) for char in body)
    return re.compile("".join(parts) + ("" if prefix else r"\Z"))


def matches(pattern: str, text: str) -> bool:
    """Does the whole of `text` match a pattern with `*` and `?`?"""
    return _glob(pattern).match(text) is not None


@dataclass(frozen=True, slots=True)
class Selector:
    """Streams of a station to send, or to leave out if `negative`."""

    negative: bool
    stream: str  # pattern of the stream id (v4) or of the five characters LLCCC (v3)
    format: str = "*"  # pattern of format + subformat (v4, such as 2D) or type letter (v3)
    v4: bool = True

    def matches(self, nslc: Nslc) -> bool:
        """Does it concern the data records of this channel?"""
        if self.v4:
            wanted = _glob(self.format, prefix=True).match(FORMAT_MSEED2.decode()) is not None
            return wanted and matches(self.stream, stream_id(nslc))
        wanted = self.format in ("*", "?", "D")
        return wanted and matches(self.stream, f"{nslc.location:-<2.2}{nslc.channel:-<3.3}")


def parse_selector_v3(text: str) -> Selector:
    """`[!][LL]CCC[.T]`, `[!]*` or `[!].T`; `?` is any character, `-` a blank. Raises CommandError.

    Without LL any location matches. The type letter T is one of DECOTL; only D has any records.
    """
    form = re.fullmatch(
        r"!?(?P<codes>(?:[A-Z0-9?*-]{2})?[A-Z0-9?*-]{3}|\*|(?=\.))(?:\.(?P<type>[DECOTL?*]))?",
        text.upper(),
    )
    if not form:
        raise CommandError("ARGUMENTS", f"not a selector [!]LLCCC.T: {text}")
    codes, kind = form["codes"] or "*", form["type"] or "*"
    if len(codes) == 3:
        codes = "??" + codes
    return Selector(text.startswith("!"), codes, kind, v4=False)


def parse_selector_v4(text: str) -> Selector:
    """`[!]LOC_B_S_SS[.format][:filter]`, each with `*` and `?`. Raises CommandError.

    The only filters are `native` and `2`: records are sent as they are.
    """
    negative = text.startswith("!")
    body, colon, payload_filter = text.removeprefix("!").partition(":")
    stream, dot, form = body.partition(".")
    if colon and (negative or payload_filter.lower() not in ("native", "2")):
        raise CommandError("UNSUPPORTED", f"filter not supported: {text}")
    if not re.fullmatch(r"[A-Za-z0-9_?*-]+", stream) or (dot and not form):
        raise CommandError("ARGUMENTS", f"no selector [!]LOC_B_S_SS[.format][:filter]: {text}")
    return Selector(negative, stream, form or "*")


def selected(selectors: Sequence[Selector], nslc: Nslc) -> bool:
    """Do these SELECTs let a channel through?

    Any positive selector must match and no negative one; without a positive one everything matches.
    """
    if any(selector.negative and selector.matches(nslc) for selector in selectors):
        return False
    positive = [selector for selector in selectors if not selector.negative]
    return not positive or any(selector.matches(nslc) for selector in positive)


# --- Where to start and to stop: DATA, FETCH, TIME -----------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """Which records of a station are wanted. All limits None: from the next record on.

    `sequence` is the first number wanted, 64 bits wide in v4 and 24 in v3; `everything` asks for
    all that is stored. Records that end after `begin_ns` and start before `end_ns` match.
    """

    sequence: int | None = None
    everything: bool = False
    begin_ns: int | None = None
    end_ns: int | None = None
    dial_up: bool = False

    def in_window(self, start_ns: int, end_ns: int) -> bool:
        """ "DATA": does a record of these half-open limits overlap the time window?"""
        return (self.begin_ns is None or end_ns > self.begin_ns) and (
            self.end_ns is None or start_ns < self.end_ns
        )


def parse_request_v3(command: Command) -> Request:
    """`DATA|FETCH [hex [begin [end]]]` or `TIME [begin [end]]`. Raises CommandError."""
    dial_up = command.name == "FETCH"
    times: Sequence[str] = command.arguments
    sequence = None
    if command.name != "TIME" and times:
        # obspy writes "0x1F", others bare digits; -1 is the "next" of older drafts.
        text, *times = times
        if text != "-1":
            sequence = _number(text, 16) & SEQUENCE_MASK_V3
    begin_ns, end_ns = _window(times, parse_time_v3)
    return Request(sequence, False, begin_ns, end_ns, dial_up)


def parse_request_v4(command: Command) -> Request:
    """`DATA [n|ALL [begin [end]]]`. Raises CommandError."""
    if not command.arguments:
        return Request()
    text, *times = command.arguments
    everything = text.upper() == "ALL"
    sequence = None if everything or text == "-1" else _number(text, 10)
    begin_ns, end_ns = _window(times, parse_time_v4)
    return Request(sequence, everything, begin_ns, end_ns)


def parse_time_v3(text: str) -> int:
    """UTC ns of `year,month,day[,hour[,minute[,second]]]`. Raises ValueError."""
    fields = [int(field) for field in text.split(",")]
    if not 3 <= len(fields) <= 6:
        raise ValueError(f"expected year,month,day,hour,minute,second: {text}")
    year, month, day, hour, minute, second = (*fields, 0, 0, 0)[:6]
    moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    return int(moment.timestamp()) * NS_PER_S


def parse_time_v4(text: str) -> int:
    """UTC ns of `2021-07-25T17:48:11[.775]Z`. Raises ValueError."""
    return parse_iso(text)


def _number(text: str, base: int) -> int:
    digits = text.lower().removeprefix("0x") if base == 16 else text
    if not re.fullmatch(r"[0-9a-f]{1,20}", digits) or (base == 10 and not digits.isdecimal()):
        raise CommandError("ARGUMENTS", f"not a sequence number: {text}")
    return int(digits, base)


def _window(
    times: Sequence[str], parse_time: Callable[[str], int]
) -> tuple[int | None, int | None]:
    """(begin_ns, end_ns) of the last arguments of a DATA, FETCH or TIME."""
    if len(times) > 2:
        raise CommandError("ARGUMENTS", f"too many arguments: {' '.join(times)}")
    try:
        limits = [parse_time(text) for text in times]
    except (ValueError, OverflowError) as error:
        raise CommandError("ARGUMENTS", f"not a time: {error}") from error
    begin_ns, end_ns = (*limits, None, None)[:2]
    return begin_ns, end_ns


# --- Packets -------------------------------------------------------------------------------------


def packet_v3(sequence: int, record: bytes) -> bytes:
    """A data packet of 520 bytes; the number is cut to its low 24 bits."""
    return b"SL%06X" % (sequence & SEQUENCE_MASK_V3) + record


def packet_v4(sequence: int, station: str, payload: bytes, form: bytes = FORMAT_MSEED2) -> bytes:
    """A packet with the header of "Data Transfer": little endian, 17 bytes and the station id."""
    name = station.encode("ascii")
    return HEADER_V4.pack(b"SE", form, len(payload), sequence, len(name)) + name + payload


def widen_sequence(low: int, newest: int) -> int:
    """Largest number up to `newest` + 1 that ends in the 24 bits `low`; without one, `low`."""
    candidate = (newest + 1 & ~SEQUENCE_MASK_V3) | low
    if candidate > newest + 1:
        candidate -= 1 << SEQUENCE_BITS_V3
    return candidate if candidate >= 0 else low


def shift_record(record: bytes, shift_s: int) -> bytes:
    """A miniSEED 2 record whose header time lies `shift_s` whole seconds later.

    Fractions of a second, and with them blockette 1001, stay as they are.
    """
    order = ">" if struct.unpack_from(">H", record, _BTIME_AT)[0] in _BTIME_YEARS else "<"
    layout = struct.Struct(order + "HHBBB")
    year, day, hour, minute, second = layout.unpack_from(record, _BTIME_AT)
    moment = datetime(year, 1, 1, tzinfo=UTC) + timedelta(
        days=day - 1, hours=hour, minutes=minute, seconds=second + shift_s
    )
    btime = layout.pack(
        moment.year, moment.timetuple().tm_yday, moment.hour, moment.minute, moment.second
    )
    return record[:_BTIME_AT] + btime + record[_BTIME_AT + layout.size :]
