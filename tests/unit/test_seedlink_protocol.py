"""SeedLink 3.1 and 4.0 as pure functions: lines, selectors, requests, packets, INFO, handshake."""

import json
from dataclasses import dataclass
from xml.etree import ElementTree

import pytest

from streamer.seedid import Nslc
from streamer.seedlink import handshake as handshake_module
from streamer.seedlink.catalogue import Catalogue
from streamer.seedlink.handshake import Handshake, Plan
from streamer.seedlink.info import ServerInfo, info_v3, info_v4
from streamer.seedlink.protocol import (
    MAX_LINE_BYTES,
    Command,
    CommandError,
    LineSplitter,
    Request,
    packet_v3,
    packet_v4,
    parse_command,
    parse_request_v3,
    parse_request_v4,
    parse_selector_v3,
    parse_selector_v4,
    selected,
    shift_record,
    widen_sequence,
)
from streamer.timebase import NS_PER_S, parse_iso
from streamer.waveforms.records import decode_header

PB01 = Nslc.parse("CX.PB01..HHZ")
WLF = Nslc.parse("GE.WLF.10.BHE")


@dataclass(frozen=True)
class Stub:
    """A record of which only codes and limits matter."""

    nslc: Nslc
    start_ns: int
    end_ns: int
    data: bytes = b"\0" * 512


def catalogue(count: int = 10, first_sequence: int = 1) -> Catalogue:
    """`count` records of 10 s, in turn of CX_PB01 and GE_WLF, one after the other."""
    step = 10 * NS_PER_S
    records = [Stub((PB01, WLF)[n % 2], n * step, (n + 1) * step) for n in range(count)]
    return Catalogue(records, first_sequence)


def handshake(*lines: bytes) -> Handshake:
    shaking = Handshake("SeedLink v4.0 (test)", "here", ["CX_PB01", "GE_WLF"])
    for line in lines:
        shaking.handle(parse_command(line))
    return shaking


def positions(plan: Plan, count: int = 10) -> list[int]:
    stop = count if plan.stop is None else plan.stop
    return [position for position in range(plan.start, stop) if plan.wants(position)]


# --- Lines ----------------------------------------------------------------------------------------


def test_lines_end_in_cr_lf_or_both_and_empty_ones_do_not_count() -> None:
    """ "Handshaking": any of the three line ends; names are case-insensitive."""
    commands = LineSplitter().feed(b"hello\rInfo id\n\r\n  \r\nSTATION  PB01\tCX\r\n")
    assert commands == [
        Command("HELLO"),
        Command("INFO", ("id",)),
        Command("STATION", ("PB01", "CX")),
    ]


def test_a_line_may_come_in_pieces() -> None:
    """A command is complete at its line end, not at the end of a read; CR LF may be torn."""
    lines = LineSplitter()
    assert lines.feed(b"HEL") == []
    assert lines.feed(b"LO\r") == [Command("HELLO")]
    assert lines.feed(b"\nBYE\n") == [Command("BYE")]


@pytest.mark.parametrize("end", [b"", b"\r\n"])
def test_a_line_beyond_the_limit_is_refused(end: bytes) -> None:
    """255 bytes pass, 256 do not, whether or not the line ever ends."""
    assert LineSplitter().feed(b"A" * MAX_LINE_BYTES + b"\r") == [Command("A" * MAX_LINE_BYTES)]
    with pytest.raises(CommandError, match="255") as refusal:
        LineSplitter().feed(b"A" * (MAX_LINE_BYTES + 1) + end)
    assert refusal.value.code == "LIMIT"


# --- Selectors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selectors", "pb01", "wlf"),
    [
        ("", True, True),
        ("HHZ", True, False),
        ("??HHZ", True, False),
        ("--HHZ.D", True, False),
        ("10BH?", False, True),
        ("10???.D", False, True),
        ("*", True, True),
        (".D", True, True),
        ("HHZ.E", False, False),
        (".L", False, False),
        ("!HHZ", False, True),
        ("??? !10???", True, False),
        ("hhz", True, False),
    ],
)
def test_selectors_v3(selectors: str, pb01: bool, wlf: bool) -> None:
    """Location optional, `?` and `-`, types, negation; no positive selector means all."""
    parsed = [parse_selector_v3(text) for text in selectors.split()]
    assert (selected(parsed, PB01), selected(parsed, WLF)) == (pb01, wlf)


@pytest.mark.parametrize(
    ("selectors", "pb01", "wlf"),
    [
        ("_H_H_Z", True, False),
        ("H_H_Z", False, False),
        ("*_H_H_?", True, False),
        ("_*Z", True, False),
        ("10_*", False, True),
        ("*.2", True, True),
        ("*.2D", True, True),
        ("*.*D", True, True),
        ("*.3", False, False),
        ("*.E", False, False),
        ("*:native", True, True),
        ("* !*_E", True, False),
        ("!10_*", True, False),
        ("_H_H_[Z]", None, None),
    ],
)
def test_selectors_v4(selectors: str, pb01: bool | None, wlf: bool | None) -> None:
    """ "Pattern matching": stream ids anchored at both ends, formats at the start only."""
    if pb01 is None:
        with pytest.raises(CommandError):
            parse_selector_v4(selectors)
        return
    parsed = [parse_selector_v4(text) for text in selectors.split()]
    assert (selected(parsed, PB01), selected(parsed, WLF)) == (pb01, wlf)


@pytest.mark.parametrize(
    "text", ["", "!", "HH", "HHZZ", "10HHZ.X", "HHZ.", "H\u00c4Z", "HH+", "!!HHZ"]
)
def test_bad_selectors_v3_are_refused(text: str) -> None:
    """Neither three nor five characters with a type of DECOTL: an error, not a wildcard."""
    with pytest.raises(CommandError, match="LLCCC"):
        parse_selector_v3(text)


@pytest.mark.parametrize("text", ["", "!", "*.", "*:3", "!*:native", "a b"])
def test_bad_selectors_v4_are_refused(text: str) -> None:
    """Empty patterns and filters that would need a conversion are errors."""
    with pytest.raises(CommandError):
        parse_selector_v4(text)


# --- Requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"DATA", Request()),
        (b"DATA -1", Request()),
        (b"DATA 0A1b2C", Request(sequence=0x0A1B2C)),
        (b"DATA 0x1000005", Request(sequence=5)),
        (b"FETCH FF", Request(sequence=255, dial_up=True)),
        (b"DATA 1 2020,2,29", Request(sequence=1, begin_ns=parse_iso("2020-02-29"))),
        (
            b"TIME 2020,2,29,23,59,58 2020,3,1,0,0,1",
            Request(
                begin_ns=parse_iso("2020-02-29T23:59:58"), end_ns=parse_iso("2020-03-01T00:00:01")
            ),
        ),
    ],
)
def test_requests_v3(line: bytes, expected: Request) -> None:
    """Hexadecimal numbers of 24 bits, comma-separated times."""
    assert parse_request_v3(parse_command(line)) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"DATA", Request()),
        (b"DATA -1", Request()),
        (b"DATA all", Request(everything=True)),
        (b"DATA 4294967296", Request(sequence=1 << 32)),
        (
            b"DATA 10 2020-02-29T23:59:58.25Z 2020-03-01T00:00:01Z",
            Request(
                sequence=10,
                begin_ns=parse_iso("2020-02-29T23:59:58.25"),
                end_ns=parse_iso("2020-03-01T00:00:01"),
            ),
        ),
    ],
)
def test_requests_v4(line: bytes, expected: Request) -> None:
    """Decimal numbers, ALL, ISO times."""
    assert parse_request_v4(parse_command(line)) == expected


@pytest.mark.parametrize(
    "line", [b"DATA 1G", b"DATA 1 2020", b"TIME 2020,2,30", b"TIME 1,2,3 1,2,3 1,2,3", b"TIME x"]
)
def test_bad_requests_v3_are_refused(line: bytes) -> None:
    """Numbers and times that are none, and one argument too many."""
    with pytest.raises(CommandError):
        parse_request_v3(parse_command(line))


@pytest.mark.parametrize("line", [b"DATA FF", b"DATA 1 2020,1,1", b"DATA 1 a b c", b"DATA 1_0"])
def test_bad_requests_v4_are_refused(line: bytes) -> None:
    """Hexadecimal numbers and comma times belong to v3."""
    with pytest.raises(CommandError):
        parse_request_v4(parse_command(line))


# --- Packets --------------------------------------------------------------------------------------


def test_packet_layouts() -> None:
    """v3: "SL", six hex digits, record. v4: the 17 bytes of "Data Transfer", id, payload."""
    assert packet_v3(0x1ABCDEF, b"record") == b"SLABCDEFrecord"
    packet = packet_v4(0x0102, "CX_PB01", b"record")
    assert packet == b"SE2D\x06\0\0\0\x02\x01\0\0\0\0\0\0\x07CX_PB01record"


@pytest.mark.parametrize(
    ("low", "newest", "wide"),
    [
        (5, 10, 5),
        (11, 10, 11),
        (12, 10, 12),
        (0, 0xFFFFFF, 0x1000000),
        (0xFFFFFE, 0x1000003, 0xFFFFFE),
        (4, 0x1000003, 0x1000004),
        (5, 0x1000003, 5),
        (5, 0x3000003, 0x2000005),
    ],
)
def test_24_bits_mean_the_newest_number_that_ends_in_them(low: int, newest: int, wide: int) -> None:
    """Up to the one that comes next; a number never given out stays what it is."""
    assert widen_sequence(low, newest) == wide


@pytest.mark.parametrize("order", [">", "<"])
def test_shifting_a_record_moves_its_time_across_the_year(order: str) -> None:
    """Big and little endian headers; the fraction of the second stays."""
    head = b"000001D PB01   HHZCX"
    btime = (2020).to_bytes(2, _endian(order)) + (366).to_bytes(2, _endian(order))
    record = head + btime + bytes([23, 59, 59, 0]) + b"\x12\x34" + b"rest"
    shifted = shift_record(record, 2)
    assert shifted[:20] == head
    assert int.from_bytes(shifted[20:22], _endian(order)) == 2021
    assert int.from_bytes(shifted[22:24], _endian(order)) == 1
    assert tuple(shifted[24:27]) == (0, 0, 1)
    assert shifted[27:] == record[27:]


def _endian(order: str) -> str:
    return "big" if order == ">" else "little"


# --- Handshake and plan ---------------------------------------------------------------------------


def test_v3_uni_station_starts_at_data_and_multi_station_at_end() -> None:
    """Without STATION, DATA begins the data phase and has no reply; with it, it has one."""
    assert handshake(b"SELECT HHZ", b"DATA").ready
    shaking = handshake(b"STATION PB01 CX")
    assert shaking.handle(Command("DATA")) == b"OK\r\n"
    assert not shaking.ready
    assert shaking.handle(Command("END")) == b""
    assert shaking.ready


def test_end_without_an_accepted_station_is_refused() -> None:
    """Nothing was asked for: ERROR, and the handshake goes on."""
    for lines in ((), (b"SELECT HHZ",), (b"SLPROTO 4.0",)):
        shaking = handshake(*lines)
        with pytest.raises(CommandError, match="before END"):
            shaking.handle(Command("END"))
        assert not shaking.ready


def test_commands_after_a_refused_station_are_refused() -> None:
    """They belong to the refused station, not to the one before it."""
    shaking = handshake(b"STATION PB01 CX", b"DATA")
    with pytest.raises(CommandError, match="no station matches"):
        shaking.handle(parse_command(b"STATION NONE ZZ"))
    with pytest.raises(CommandError, match="no STATION was accepted"):
        shaking.handle(parse_command(b"SELECT HHZ"))
    assert shaking.subscriptions[0].selectors == []


def test_commands_removed_in_v4_are_unsupported_there() -> None:
    """BATCH, CAT, TIME, FETCH and CAPABILITIES exist in v3 only."""
    shaking = handshake(b"SLPROTO 4.0", b"STATION *")
    for name in ("BATCH", "CAT", "TIME", "FETCH", "CAPABILITIES"):
        with pytest.raises(CommandError) as refusal:
            shaking.handle(Command(name))
        assert refusal.value.code == "UNSUPPORTED"


def test_what_a_client_can_make_us_keep_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stations per connection and selectors per station end with LIMIT, even in BATCH mode."""
    monkeypatch.setattr(handshake_module, "MAX_STATIONS", 2)
    monkeypatch.setattr(handshake_module, "MAX_SELECTORS", 2)
    station, other, third = (Command("STATION", (name, "*")) for name in ("PB01", "WLF", "*"))
    selector = Command("SELECT", ("HHZ",))
    shaking = handshake(b"BATCH")
    for command in (station, selector, other, selector, station, selector):
        shaking.handle(command)
    for command in (selector, third):
        with pytest.raises(CommandError) as refusal:
            shaking.handle(command)
        assert refusal.value.code == "LIMIT"


def test_a_station_belongs_to_the_first_pattern_in_v4_and_to_its_name_in_v3() -> None:
    """v4 excludes stations that matched an earlier STATION; v3 those asked for by name."""
    records = catalogue()
    v4 = handshake(b"SLPROTO 4.0", b"STATION *", b"DATA 9", b"STATION CX_PB01", b"DATA 1", b"END")
    assert positions(Plan(v4, records, 10, True)) == [8, 9]
    v3 = handshake(b"STATION * *", b"DATA 9", b"STATION PB01 CX", b"DATA 1", b"END")
    assert positions(Plan(v3, records, 10, True)) == [0, 2, 4, 6, 8, 9]


@pytest.mark.parametrize(
    ("request_line", "from_start", "expected", "stop"),
    [
        (b"DATA", True, [0, 2, 4, 6, 8], None),
        (b"DATA", False, [6, 8], None),
        (b"FETCH", False, [0, 2, 4], 5),
        (b"DATA 3", False, [2, 4, 6, 8], None),
        (b"DATA 9", False, [8], None),
        (b"DATA 63", False, [6, 8], None),
        (b"DATA 63 1970,1,1,0,0,25", False, [2, 4, 6, 8], None),
        (b"TIME 1970,1,1,0,0,30", False, [4, 6, 8], None),
        (b"TIME 1970,1,1,0,0,10 1970,1,1,0,0,40", False, [2], 3),
        (b"TIME 1970,1,1,0,0,10 1970,1,1,0,0,41", False, [2, 4], 5),
    ],
)
def test_where_a_request_starts_and_stops(
    request_line: bytes, from_start: bool, expected: list[int], stop: int | None
) -> None:
    """Five of ten records are out when the data phase begins; limits of records are half-open."""
    shaking = handshake(b"STATION PB01 CX", request_line, b"END")
    plan = Plan(shaking, catalogue(), 5, from_start)
    assert (positions(plan), plan.stop) == (expected, stop)


def test_records_are_numbered_by_their_end() -> None:
    """A long record that begins first is released, and numbered, after the short ones it spans."""
    long, short = Stub(PB01, 0, 100), Stub(WLF, 10, 20)
    ordered = Catalogue([long, short])
    assert [ordered.nslc(position) for position in (0, 1)] == [WLF, PB01]
    assert [ordered.due(elapsed_ns) for elapsed_ns in (19, 20, 99, 100)] == [0, 1, 1, 2]


def test_catalogue_refuses_what_cannot_be_replayed() -> None:
    """No records, or a record that v3 cannot frame."""
    with pytest.raises(ValueError, match="no records"):
        Catalogue([])
    with pytest.raises(ValueError, match="256 bytes"):
        Catalogue([Stub(PB01, 0, 1, b"\0" * 256)])


# --- INFO -----------------------------------------------------------------------------------------


def server_info(released: int) -> ServerInfo:
    return ServerInfo(
        "SeedLink v4.0 (test)", 'Z\u00fcrich <"&">', 0, catalogue().stations(released), []
    )


def test_info_v3_is_xml_in_text_records_of_456_bytes() -> None:
    """All packets but the last are marked as continued; the records are valid miniSEED text."""
    packets = info_v3("ALL", server_info(5), NS_PER_S)
    assert [packet[:8] for packet in packets] == [b"SLINFO *"] * (len(packets) - 1) + [b"SLINFO  "]
    assert {len(packet) for packet in packets} == {520}
    text = b"".join(packet[64:].rstrip(b"\0") for packet in packets)
    root = ElementTree.fromstring(text)
    assert root.get("organization") == 'Z\u00fcrich <"&">'
    station = root.find("station[@name='PB01']")
    assert station is not None
    assert (station.get("begin_seq"), station.get("end_seq")) == ("000001", "000006")


def test_info_shows_stations_before_anything_is_released() -> None:
    """A client can resolve wildcards before the replay begins; the range is empty, not zero."""
    answer = info_v4(["STREAMS"], server_info(0))
    stations = json.loads(answer[17:])["station"]
    assert [(each["id"], each["begin_seq"], each["end_seq"]) for each in stations] == [
        ("CX_PB01", 1, 1),
        ("GE_WLF", 2, 2),
    ]
    (stream,) = stations[1]["stream"]
    assert (stream["id"], stream["begin_time"]) == ("10_B_H_E", stream["end_time"])


def test_unknown_info_is_an_error_of_its_version() -> None:
    """v3 refuses the command, v4 answers with a packet JE."""
    with pytest.raises(CommandError, match="INFO knows"):
        info_v3("FORMATS", server_info(0), 0)
    assert info_v4(["GAPS"], server_info(0))[2:4] == b"JE"
    assert info_v4([], server_info(0))[2:4] == b"JE"


def test_info_text_record_has_no_waveform() -> None:
    """A reader of waveforms cannot take it for data: its rate is 0."""
    (packet,) = info_v3("ID", server_info(0), 0)
    with pytest.raises(Exception, match="no time series"):
        decode_header(packet[8:])
