"""What `status` and `top` make of what is on Redis."""

import io
import json
from dataclasses import replace

import pytest
from bus_picks import make_pick
from rich.console import Console

from streamer.bus.survey import Survey
from streamer.latency import INSTANTS
from streamer.status.model import Level, Limits, judge
from streamer.status.rates import PickRates
from streamer.status.render import as_json, as_nagios, as_table, duration
from streamer.status.top import draw

NOW_NS = 1_700_000_000 * 10**9
NOW_MS = NOW_NS // 10**6


def station(**changes):
    return {
        "instance": "a", "time_ns": NOW_NS - 2 * 10**9, "data_latency_s": 1.5,
        "feed_latency_s": 0.8, "gaps": 3, "components": 3, "picks_p": 10, "picks_s": 4,
        "timing_quality": 100, "last_pick_ns": NOW_NS - 60 * 10**9,
    } | changes  # fmt: skip


def picker(age_s=2.0, **changes):
    return {
        "v": "1", "instance": "a", "time_ns": str(NOW_NS - round(age_s * 1e9)), "stations": "2",
        "connected": "1", "step_s": "1", "published": "14", "pending": "0", "dropped": "0",
    } | changes  # fmt: skip


def found(stations=None, health=None, shares=None, groups=(), lengths=None):
    return Survey(
        stations={"XX.A..HH": station(), "XX.B.00.EH": station()} if stations is None else stations,
        health={"a": picker()} if health is None else health,
        shares=shares or {},
        groups=groups,
        lengths=lengths or {"picks": 5000, "events": 3, "dead": 0},
    )


def status_of(survey, gaps=None, rates=None):
    return judge(survey, rates or PickRates(), NOW_NS, Limits(), gaps)


def test_all_is_well_when_pickers_beat_and_data_are_fresh():
    status = status_of(found())
    assert (status.level, list(status.problems)) == (Level.OK, [])
    assert [row.name for row in status.stations] == ["XX.A..HH", "XX.B.00.EH"]
    row = status.stations[0]
    assert (row.age_s, row.data_latency_s, row.feed_latency_s, row.gaps) == (2.0, 1.5, 0.8, 3)


@pytest.mark.parametrize(
    ("survey", "level", "words"),
    [
        (found(health={}), Level.CRITICAL, "no picker is alive"),
        (found(health={"a": picker(31.0)}), Level.CRITICAL, "no picker is alive"),
        (found(health={"a": picker(), "b": picker(90.0)}), Level.WARNING, "b has said nothing"),
        (found(health={"a": picker(connected="0")}), Level.CRITICAL, "no SeedLink server"),
        (found(health={"a": picker(pending="5000")}), Level.WARNING, "5000 picks wait for Redis"),
        (found(health={"a": picker(dropped="7")}), Level.WARNING, "lost 7 picks"),
        (found({"XX.A..HH": station(data_latency_s=90.0), "XX.B..HH": station()}), Level.WARNING,
         "1 station (XX.A..HH) late"),
        (found({f"XX.{n}..HH": station(data_latency_s=400.0 * (n == 1)) for n in range(4)}),
         Level.WARNING, "1 station (XX.1..HH) silent"),
        (found({"XX.A..HH": station(data_latency_s=400.0), "XX.B..HH": station()}), Level.CRITICAL,
         "1 station (XX.A..HH) silent"),
        (found({"XX.A..HH": station(time_ns=NOW_NS - 60 * 10**9)}), Level.CRITICAL, "silent"),
        (found(groups=[{"name": "assoc", "lag": 3000, "pending": 1}]), Level.WARNING,
         "assoc is 3000 picks behind"),
    ],
)  # fmt: skip
def test_each_trouble_has_its_level_and_its_words(survey, level, words):
    status = status_of(survey)
    assert status.level == level
    assert any(words in problem for problem in status.problems), status.problems


def test_a_lag_that_the_server_does_not_know_is_unknown_and_no_trouble():
    status = status_of(found(groups=[{"name": "assoc", "lag": None, "pending": 0}]))
    assert status.level == Level.OK
    assert status.consumers[0].lag is None


def test_the_worst_station_comes_first():
    stations = {
        "XX.GOOD..HH": station(),
        "XX.LATE..HH": station(data_latency_s=100.0),
        "XX.GONE..HH": station(data_latency_s=9000.0),
        "XX.SLOW..HH": station(data_latency_s=30.0),
        "XX.MUTE..HH": station(data_latency_s=600.0),
    }
    names = [row.name[3:7] for row in status_of(found(stations)).stations]
    assert names == ["GONE", "MUTE", "LATE", "SLOW", "GOOD"]


def test_picks_a_minute_are_those_published_in_ten_minutes_each_once():
    rates = PickRates()
    for number in range(20):
        fields = {"net": "XX", "sta": "A", "loc": "", "cha": "HHZ", "phase": "P", "rev": "0"}
        rates.add((f"{NOW_MS - 30_000 * number}-0", fields))
        rates.add((f"{NOW_MS - 30_000 * number}-1", fields | {"rev": "1"}))
    rates.add((f"{NOW_MS}-2", {"not": "a pick"}))
    assert rates.per_minute("XX.A..HH", "P", NOW_MS) == 2.0
    assert rates.per_minute("XX.A..HH", "S", NOW_MS) == 0.0
    in_order = PickRates()
    for number in range(20):
        in_order.add((f"{NOW_MS + 30_000 * number}-0", fields))
    assert in_order.per_minute("XX.A..HH", "P", NOW_MS + 900_000) == 1.0


def test_new_picks_tell_where_their_time_went_by_the_median():
    rates = PickRates()
    for number, waited_ms in enumerate((10, 40, 500)):
        instants = [NOW_NS, *(NOW_NS + ms * 10**6 for ms in (1000, 1200, 1500))]
        instants += [instants[-1] + (waited_ms + ms) * 10**6 for ms in (0, 5, 6)]
        pick = make_pick(number, **dict(zip(INSTANTS, instants, strict=True)))
        rates.add((f"{NOW_MS}-{number}", pick.to_fields()))
        rates.add((f"{NOW_MS}-{number + 9}", replace(pick, rev=1, seen_ns=0).to_fields()))
    rates.add((f"{NOW_MS}-5", make_pick(5).to_fields()))
    status = status_of(found(), rates=rates)
    stages = {"look_ahead": 1.0, "record": 0.2, "telemetry": 0.3, "wait": 0.04, "network": 0.005}
    assert status.pick_latency_s == pytest.approx(stages | {"publish": 0.001, "total": 1.546})
    assert "pick_latency=1.546s" in as_nagios(status)
    text = printed(as_table(status))
    assert "new picks 1.55 s after the onset: look-ahead 1.00, record 0.20," in text
    assert "new picks 1.55 s" in printed(draw(status, [], 30, 120), 120)
    later = judge(found(), rates, NOW_NS + 601 * 10**9, Limits())
    assert later.pick_latency_s == {}
    assert "new picks" not in printed(as_table(later))


def test_the_share_of_picks_with_an_event_stands_beside_the_station():
    shares = {"XX.B.P": {"share_1h": 0.25}, "XX.B.S": {"share_1h": None}}
    rows = {row.name: row for row in status_of(found(shares=shares)).stations}
    assert (rows["XX.B.00.EH"].share_p, rows["XX.B.00.EH"].share_s) == (0.25, None)
    assert rows["XX.A..HH"].share_p is None


def test_notes_tell_what_is_missing_at_a_station():
    stations = {"XX.A..HH": station(components=1, timing_quality=20)}
    (row,) = status_of(found(stations)).stations
    assert list(row.notes) == ["1 comp", "timing 20 %"]


def test_strange_members_are_no_crash():
    stations = {"XX.A..HH": {"time_ns": "x", "data_latency_s": "y", "gaps": None}}
    status = status_of(found(stations, health={"a": {"v": "1", "instance": "a"}}))
    assert status.level == Level.CRITICAL


def test_the_line_for_nagios_has_level_words_and_numbers():
    assert as_nagios(status_of(found())) == (
        "MSNET OK - 2 stations, 1 pickers | stations=2 silent=0 pickers=1 waiting=0 "
        "p_per_min=0.0 s_per_min=0.0 worst_latency=1.5s"
    )
    line = as_nagios(status_of(found(health={"a|b": picker(90.0), "c": picker()})))
    assert line.startswith("MSNET WARNING - picker a/b has said nothing for 90 s | ")


def test_json_has_all_rows_with_their_levels():
    document = json.loads(as_json(status_of(found(groups=[{"name": "g", "lag": 1, "pending": 2}]))))
    assert document["level"] == "OK"
    assert document["stations"][0]["level"] == "OK"
    assert document["pickers"][0]["connected"] is True
    assert document["consumers"] == [{"name": "g", "level": "OK", "lag": 1, "pending": 2}]


def printed(renderable, width=160):
    console = Console(file=io.StringIO(), width=width, height=30)
    console.print(renderable)
    return console.file.getvalue()


def test_the_table_shows_pickers_consumers_and_stations():
    groups = [{"name": "assoc", "lag": None, "pending": 2}]
    text = printed(as_table(status_of(found(groups=groups), gaps={"XX.A..HH": 6.0})))
    assert "OK" in text
    assert "unknown" in text
    (row,) = [line.split() for line in text.splitlines() if "XX.A..HH" in line]
    assert row[:9] == ["XX.A..HH", "3", "2.0", "s", "1.5", "s", "0.8", "s", "6/h"]


def test_top_fits_the_screen_and_says_what_it_leaves_out():
    stations = {f"XX.S{n:03d}..HH": station(data_latency_s=float(n)) for n in range(200)}
    status = status_of(found(stations))
    text = printed(draw(status, [], height=30, width=160))
    assert len(text.rstrip("\n").splitlines()) <= 30
    assert "XX.S199" in text
    assert "XX.S000" not in text
    assert "more, all better" in text
    assert "events" in text
    assert "─ events ─" not in printed(draw(status, [], height=30, width=90), width=90)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.42, "0.4 s"), (-0.2, "-0.2 s"), (61, "61 s"), (130, "2 m"), (9000, "2 h"),
     (5.2e8, "6019 d")],
)  # fmt: skip
def test_durations_have_two_digits_and_a_unit(seconds, text):
    assert duration(seconds) == text
