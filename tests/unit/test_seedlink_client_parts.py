"""The parts of the SeedLink client that need no server: requests, listings, progress, login."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.config import SeedLinkConfig
from streamer.errors import AccessDeniedError, ConfigError
from streamer.seedid import Nslc
from streamer.seedlink import packets, progress
from streamer.seedlink.client import FeedConfig, SeedLinkFeed
from streamer.seedlink.discovery import Listing, info_item, parse_listing
from streamer.seedlink.login import find_login
from streamer.seedlink.packets import Frame, LinkError
from streamer.seedlink.progress import REMEMBERED_RECORDS, Hole, Progress
from streamer.seedlink.protocol import Command, parse_request_v3, parse_request_v4
from streamer.seedlink.receiver import KEEPALIVE_S
from streamer.seedlink.requests import OVERLAP_NS, Standing, plan
from streamer.seedlink.state import Position
from streamer.seedlink.watch import StationWatch
from streamer.stationspec import parse_station_spec
from streamer.timebase import NS_PER_S, parse_iso

NSLC = Nslc("CX", "PB01", "", "HHZ")
T_NS = parse_iso("2024-02-29T12:34:56.789Z")
both = pytest.mark.parametrize("v4", [False, True], ids=["v3", "v4"])


def data(
    standing: Standing | None, *, v4: bool, by_time: bool = False, start: str = "now"
) -> list[str]:
    standings = {} if standing is None else {"CX_PB01": standing}
    (request,) = plan([NSLC], standings, v4=v4, by_time=by_time, start=start)
    return list(request.data)


# --- Requests -------------------------------------------------------------------------------------


def test_a_station_goes_on_by_number_and_time_then_by_number_then_anyhow():
    at = Standing(0xFFFFFF, T_NS)
    assert data(at, v4=False) == ["DATA 000000 2024,2,29,12,34,56", "DATA 000000", "DATA"]
    ways = ["DATA 16777216 2024-02-29T12:34:56.789000Z", "DATA 16777216", "DATA"]
    assert data(at, v4=True) == ways
    assert data(Standing(7, None), v4=True) == ["DATA 8", "DATA"]
    assert data(Standing(-1, T_NS), v4=False)[1:] == ["DATA 000000", "DATA"]


def test_by_time_the_request_reaches_back_a_minute():
    at = Standing(9, T_NS)
    assert data(at, v4=False, by_time=True)[0] == "TIME 2024,2,29,12,33,56"
    assert data(at, v4=True, by_time=True)[0] == "DATA ALL 2024-02-29T12:33:56.789000Z"
    assert data(at, v4=True, by_time=True)[1:] == data(at, v4=True)
    assert data(Standing(None, T_NS), v4=True) == ["DATA ALL 2024-02-29T12:33:56.789000Z", "DATA"]


def test_a_new_station_begins_at_start():
    assert data(None, v4=True) == ["DATA"]
    assert data(None, v4=True, start="earliest")[0] == "DATA ALL 1980-01-01T00:00:00.000000Z"
    assert data(None, v4=False, start="2024-02-29T12:34:56Z")[0] == "TIME 2024,2,29,12,34,56"


@both
@given(
    sequence=st.integers(-1, (1 << 24) - 1),
    t_ns=st.integers(parse_iso("1980-01-02"), parse_iso("2099-12-31")),
    by_time=st.booleans(),
)
def test_a_server_reads_what_was_meant(v4, sequence, t_ns, by_time):
    """The commands through the parser of the replay server: the next number, a time not later."""
    for line in data(Standing(sequence, t_ns), v4=v4, by_time=by_time):
        name, *arguments = line.split()
        parse = parse_request_v4 if v4 else parse_request_v3
        request = parse(Command(name, tuple(arguments)))
        if request.sequence is not None:
            assert request.sequence == (sequence + 1 if v4 else (sequence + 1) % (1 << 24))
        if request.begin_ns is not None:
            early_ns = t_ns - request.begin_ns - (0 if request.sequence is not None else OVERLAP_NS)
            assert 0 <= early_ns < (1000 if v4 else NS_PER_S)


# --- Listings -------------------------------------------------------------------------------------


@given(
    end=st.integers(0, (1 << 24) - 1),
    behind=st.integers(1, 1 << 22),
    beyond=st.integers(0, 1 << 22),
)
def test_v3_numbers_behind_the_end_go_on_and_numbers_beyond_it_are_of_another_time(
    end, behind, beyond
):
    """Across the wrap too."""
    listing = Listing(v4=False, ends={"CX_PB01": end})
    assert not listing.counts_anew({"CX_PB01": Standing((end - behind) % (1 << 24), None)})
    assert listing.counts_anew({"CX_PB01": Standing((end + beyond) % (1 << 24), None)})


def test_v4_numbers_are_compared_as_they_are():
    listing = Listing(v4=True, ends={"CX_PB01": 1 << 30})
    assert not listing.counts_anew(
        {"CX_PB01": Standing((1 << 30) - 1, None), "XX_A": Standing(9, 0)}
    )
    assert not listing.counts_anew({"CX_PB01": Standing(None, T_NS)})
    assert listing.counts_anew({"CX_PB01": Standing(1 << 30, None)})


def test_ringserver_writes_decimal_numbers_and_seiscomp_hexadecimal_ones():
    station = '<station network="CX" name="PB01" end_seq="{}"/>'
    text = '<seedlink software="{}" started="x">' + station + "</seedlink>"
    ringserver = parse_listing(
        text.format("SeedLink v3.1 (RingServer/4.5)", "100").encode(), v4=False
    )
    seiscomp = parse_listing(text.format("SeedLink v3.3 (SeisComP)", "00001F").encode(), v4=False)
    assert (ringserver.ends, seiscomp.ends) == ({"CX_PB01": 100}, {"CX_PB01": 31})


def test_what_is_no_channel_is_left_out_of_a_listing():
    streams = ["_H_H_Z", "00_H_H_N", "_H_H_Z\r\nBYE", "_HH_X_LONG", "", "_h_h_z", "10_L_O_G"]
    station = {"id": "CX_PB01", "end_seq": 5, "stream": [{"id": name} for name in streams]}
    logs = {"id": "CX_PB02", "stream": [{"id": "_L_O_G", "subformat": "L"}]}
    injected = {"id": "CX_A B", "stream": [{"id": "_H_H_Z"}]}
    listing = parse_listing(json.dumps({"station": [station, logs, injected]}).encode(), v4=True)
    assert sorted(map(str, listing.channels)) == [
        "CX.PB01..HHZ",
        "CX.PB01.00.HHN",
        "CX.PB01.10.LOG",
    ]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "5", "[" * 100_000, '{"station": 5}', '{"station": [5]}', '{"station": {"a": 1}}'],
)
def test_a_listing_of_nonsense_is_a_link_error(text):
    with pytest.raises(LinkError):
        parse_listing(text.encode(), v4=True)
    with pytest.raises(LinkError):
        parse_listing(text.encode(), v4=False)


def test_a_listing_has_a_bound(monkeypatch):
    monkeypatch.setattr("streamer.seedlink.discovery.MAX_CHANNELS", 10)
    streams = [{"id": f"{number:02}_H_H_Z"} for number in range(11)]
    with pytest.raises(LinkError, match="more than 10 channels"):
        parse_listing(json.dumps({"station": [{"id": "A_B", "stream": streams}]}).encode(), v4=True)


@pytest.mark.parametrize(
    ("spec", "item"),
    [
        ("*", "STREAMS"),
        ("CX", "STREAMS CX_*"),
        ("CX.PB01,CX.PB02", "STREAMS CX_*"),
        ("CX.PB0?..HHZ,!CX.PB09", "STREAMS CX_PB0?"),
        ("CX,GE", "STREAMS"),
        ("CX.PB0[12]", "STREAMS"),
        ("!CX", "STREAMS"),
    ],
)
def test_v4_is_asked_for_no_more_than_the_network_or_station(spec, item):
    assert info_item(parse_station_spec([spec]), v4=True) == item
    assert info_item(parse_station_spec([spec]), v4=False) == "STREAMS"


# --- Progress -------------------------------------------------------------------------------------


def record(start_s: int, end_s: int, station: str = "A") -> bytes:
    """Not miniSEED: `limits` below reads it."""
    return f"........{station} {start_s} {end_s}".encode()


def limits(data: bytes) -> tuple[int, int] | None:
    _, start_s, end_s = data.split()
    return (int(start_s) * NS_PER_S, int(end_s) * NS_PER_S) if end_s != b"0" else None


def test_records_are_known_again_whatever_their_number_and_only_so_many():
    known = Progress({}, limits)
    first = b"000001D A"
    assert known.is_new(b"k", first)
    assert not known.is_new(b"k", b"000099D A")
    assert known.is_new(b"other", first)
    for number in range(REMEMBERED_RECORDS):
        assert known.is_new(b"k", b"........%d" % number)
    assert known.is_new(b"k", first)


def test_a_server_that_names_channels_without_end_fills_no_memory(monkeypatch):
    monkeypatch.setattr(progress, "MAX_CHANNELS", 5)
    known = Progress({}, limits)
    for number in range(20):
        key = b"%d" % number
        assert known.is_new(key, b"........x")
        assert known.goes_on(key, record(0, 1)) is None
    assert len(known._seen) == len(known._records) == 5
    assert packets.channel_of.cache_info().maxsize == packets.MAX_CHANNELS


def test_a_hole_is_told_once_and_only_after_a_new_connection():
    known = Progress({}, limits)
    known.begin("s")
    known.goes_on(b"k", record(0, 10))
    assert known.goes_on(b"k", record(20, 30)) is None  # the ring tells of gaps within a connection
    known.begin("s")
    assert known.goes_on(b"k", record(35, 40)) == Hole(b"k", 30 * NS_PER_S, 35 * NS_PER_S)
    assert known.goes_on(b"k", record(45, 50)) is None
    known.begin("s")
    assert known.goes_on(b"k", record(50, 60)) is None


def test_numbers_of_another_server_are_not_used_but_its_times_are():
    known = Progress({"a:1": {"X_A": Position(10, 100), "X_B": Position(11, 500)}}, limits)
    standings, by_time = known.begin("b:1")
    assert (standings, by_time) == ({"X_A": Standing(None, 100), "X_B": Standing(None, 500)}, True)
    known.took("b:1", Frame("X_A", 77, record(1, 2)))
    standings, by_time = known.begin("a:1")
    assert standings == {"X_A": Standing(None, NS_PER_S), "X_B": Standing(11, 500)}
    assert by_time
    known.took("a:1", Frame("X_A", 12, record(3, 4)))
    assert known.begin("a:1") == (
        {"X_A": Standing(12, 3 * NS_PER_S), "X_B": Standing(11, 500)},
        False,
    )


def test_a_damaged_record_leaves_the_number_alone():
    known = Progress({}, limits)
    known.took("a:1", Frame("X_A", 5, record(1, 0)))
    assert known.begin("a:1") == ({"X_A": Standing(5, None)}, False)


def test_forgotten_numbers_keep_their_times():
    known = Progress({"a:1": {"X_A": Position(10, 100)}}, limits)
    known.forget_numbers("a:1")
    assert known.begin("a:1")[0] == {"X_A": Standing(None, 100)}


def test_a_station_that_has_sent_nothing_goes_on_from_when_it_was_asked_for():
    """Unless nothing came at all, or the data are older: an archive that is replayed."""
    known = Progress({}, limits)
    known.asked(["X_A", "X_B"], 50 * NS_PER_S)
    assert known.begin("a:1")[0] == {}
    known.took("a:1", Frame("X_A", 5, record(70, 80)))
    assert known.begin("a:1")[0]["X_B"] == Standing(None, 50 * NS_PER_S)
    older = Progress({"a:1": {"X_A": Position(1, 10)}}, limits)
    older.asked(["X_B"], 50 * NS_PER_S)
    assert older.begin("a:1")[0]["X_B"] == Standing(None, 10)


# --- Silence, waits -------------------------------------------------------------------------------


def test_silence_is_told_when_it_begins_and_when_it_ends():
    watch = StationWatch(60)
    watch.expect({"A", "B"}, 0)
    assert watch.heard("A", 50) is None
    assert watch.heard("not asked for", 50) is None
    assert watch.fallen_silent(59) == []
    assert watch.fallen_silent(61) == [("B", 61)]
    assert watch.fallen_silent(62) == []
    watch.expect({"A", "B"}, 100)  # a new connection: A has another minute, B stays silent
    assert watch.fallen_silent(150) == []
    assert watch.silent == {"B"}
    assert watch.heard("B", 160) == 160
    assert watch.heard("B", 161) is None


def test_waits_grow_from_one_to_thirty_seconds_with_each_round_of_the_servers():
    config = FeedConfig(servers=[("a", 1), ("b", 1)], spec=parse_station_spec(["*"]))
    feed = SeedLinkFeed(config, None, None, None)  # type: ignore[arg-type]
    longest = []
    for failures in range(14):
        feed._failures = failures
        waits = [feed._wait_s() for _ in range(200)]
        assert max(waits) <= 2 * min(waits)
        assert len(set(waits)) > 100
        longest.append(round(max(waits)))
    assert longest == [1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 30, 30, 30, 30]


def test_no_sign_of_life_is_asked_for_more_often_than_every_four_minutes():
    assert KEEPALIVE_S == 240
    with pytest.raises(ValueError, match="240"):
        SeedLinkConfig(discovery_s=239)


# --- Login ----------------------------------------------------------------------------------------


def test_the_password_comes_from_file_then_credential_then_variable(tmp_path: Path):
    (tmp_path / "file").write_text("of-file\n")
    (tmp_path / "seedlink-password").write_text("of-credential")
    environ = {"MSNET_STREAM_SEEDLINK_PASSWORD": "of-variable"}
    named = SeedLinkConfig(username="op", password_file=tmp_path / "file")
    plain = SeedLinkConfig(username="op")
    assert find_login(named, environ) == ("op", "of-file")
    assert find_login(plain, environ | {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == (
        "op",
        "of-credential",
    )
    assert find_login(plain, environ) == ("op", "of-variable")
    assert find_login(SeedLinkConfig(), environ) is None
    with pytest.raises(ConfigError, match="no password"):
        find_login(plain, {})


def test_a_token_goes_before_a_password_and_is_read_anew(tmp_path: Path):
    file = tmp_path / "token"
    file.write_text("first")
    config = SeedLinkConfig(username="op", token_file=file)
    assert find_login(config, {}) == "first"
    file.write_text("second")
    assert find_login(config, {}) == "second"
    assert find_login(SeedLinkConfig(), {"MSNET_STREAM_SEEDLINK_TOKEN": "third"}) == "third"


@pytest.mark.parametrize("secret", ["two words", "line\nSTATION X", "é", "x" * 5000])
def test_a_secret_that_is_no_word_of_a_command_is_refused_without_being_shown(
    tmp_path: Path, secret
):
    file = tmp_path / "token"
    file.write_text(secret)
    with pytest.raises(ConfigError) as caught:
        find_login(SeedLinkConfig(token_file=file), {})
    assert secret not in str(caught.value)


def test_a_token_file_that_is_not_there_is_access_denied(tmp_path: Path):
    with pytest.raises(AccessDeniedError, match="token file"):
        find_login(SeedLinkConfig(token_file=tmp_path / "none"), {})
