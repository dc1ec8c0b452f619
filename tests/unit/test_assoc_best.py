"""Profile `best`: what becomes an event, and whose the picks are."""

import numpy as np
import pytest
from assoc_synthetic import CRUST, arrivals, noise, seconds, source, square_network, table

from streamer.association.best import Before, Best, Odds
from streamer.association.network import Network
from streamer.association.parameters import BestParameters
from streamer.association.pick_errors import initial_errors, learnt_errors

STATIONS = square_network()


def names_of(events, picks):
    """Of each event: whose picks it has, and how many."""
    return [
        dict(
            zip(
                *np.unique([picks.ids[i].split("-")[0] for i in event.picks], return_counts=True),
                strict=True,
            )
        )
        for event in events
    ]


def associated(rows, stations=STATIONS, model=CRUST, rules=None, **options):
    picks = table(rows, stations)
    associator = Best(Network.build(stations, model), rules or BestParameters())
    return associator.associate(picks, **options), picks


@pytest.fixture(scope="module")
def crowd():
    """Five events within nine seconds, two of them one second apart, and as many noise picks."""
    rng = np.random.default_rng(5)
    sources = {
        "a": source(30.0, -12.0, 5.0, 7.0), "b": source(31.0, 9.0, -8.0, 10.0),
        "c": source(34.0, 2.0, 11.0, 5.0), "d": source(36.5, -6.0, -10.0, 12.0),
        "e": source(39.0, 10.0, 8.0, 8.0),
    }  # fmt: skip
    true = [row for name, event in sources.items()
            for row in arrivals(STATIONS, event, name, sigma_s=0.04, rng=rng)]  # fmt: skip
    rows = [row for row in true if rng.random() < 0.85]
    return sources, rows + noise(STATIONS, 70.0, len(rows) / 70.0, rng)


def test_events_one_second_apart_keep_their_own_picks(crowd):
    sources, rows = crowd
    events, picks = associated(rows)
    assert len(events) == 5
    for event, (name, true), counts in zip(
        events, sources.items(), names_of(events, picks), strict=True
    ):
        assert counts[name] > 0.85 * sum(counts.values())
        assert counts[name] > 0.85 * sum(row.id.startswith(f"{name}-") for row in rows)
        time_s, lat, lon, _ = event.origin
        assert seconds(picks, time_s) == pytest.approx(true.time_s, abs=0.2)
        assert np.hypot(lat - true.lat, (lon - true.lon) * 0.7) * 111.2 < 1.0


def test_no_pick_has_two_events_and_no_event_two_picks_of_one_phase_at_a_station(crowd):
    events, picks = associated(crowd[1])
    owned = np.concatenate([event.picks for event in events])
    assert len(owned) == len(set(owned))
    for event in events:
        paths = list(zip(picks.station[event.picks], picks.phase[event.picks], strict=True))
        assert len(paths) == len(set(paths))


def test_the_order_of_the_picks_does_not_matter(crowd):
    rows = crowd[1]
    forward, picks = associated(rows)
    shuffled, others = associated(
        [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    )
    assert [[picks.ids[i] for i in event.picks] for event in forward] == [
        [others.ids[i] for i in event.picks] for event in shuffled
    ]
    assert [event.origin for event in forward] == [event.origin for event in shuffled]


def test_picks_too_old_to_matter_count_in_the_odds_alone(monkeypatch):
    rng = np.random.default_rng(7)
    rows = noise(STATIONS, 900.0, 2.0, rng)
    for number, time_s in enumerate((820.0, 835.0, 850.0)):
        event = source(time_s, 4.0 * number, -3.0, 8.0)
        rows += arrivals(STATIONS, event, str(number), sigma_s=0.04, rng=rng)
    whole = table(rows, STATIONS)
    search_s = (float(whole.time_s.max()) - 100.0, np.inf)
    associator = Best(Network.build(STATIONS, CRUST), BestParameters())
    old = whole.time_s < search_s[0] - associator.rate_span_s - associator.reach_s
    asked, sorted_rows = [], []
    monkeypatch.setattr(
        "streamer.association.best.Odds", lambda *args: (asked.append(args[2]), Odds(*args))[1]
    )
    sorted_picks = Best._sorted_picks

    def by_whole(self, table, before):
        """As if the search began with the first pick: none is too old."""
        return sorted_picks(self, table, Before())

    def noted(self, table, before):
        picks, rows = sorted_picks(self, table, before)
        sorted_rows.extend(rows)
        return picks, rows

    before = Before(search_s=search_s)
    monkeypatch.setattr(Best, "_sorted_picks", by_whole)
    expected = associator.associate(whole, before)
    monkeypatch.setattr(Best, "_sorted_picks", noted)
    found = associator.associate(whole, before)
    assert len(expected) == len(found) == 3
    assert np.count_nonzero(old & (whole.phase == 0)) > 100
    assert sorted(sorted_rows) == np.flatnonzero(~old).tolist()
    for one, other in zip(expected, found, strict=True):
        assert [whole.ids[i] for i in one.picks] == [whole.ids[i] for i in other.picks]
        assert one.gain == pytest.approx(other.gain, abs=1e-9)
    assert sorted(asked[0]) == sorted(asked[1]) == sorted(whole.time_s[whole.phase == 0])


def test_noise_alone_makes_no_event():
    rng = np.random.default_rng(6)
    assert associated(noise(STATIONS, 1200.0, 2.0, rng))[0] == []


def test_no_picks_make_no_event():
    assert associated([])[0] == []


def test_picks_below_the_least_numbers_make_no_event():
    rows = arrivals(STATIONS, source(30.0, 1.0, 1.0, 7.0), "a")
    few = [row for row in rows if row.code[1] in {"S05", "S06", "S09", "S10"}]
    assert len(associated(few)[0]) == 1
    assert associated(few[:-1])[0] == []
    assert associated(rows, rules=BestParameters(least_s=17))[0] == []


def test_silent_stations_near_the_source_speak_against_an_event():
    """Eight stations at the rim see it and eight nearer ones do not: no event looks like that."""
    event = source(30.0, 0.0, 0.0, 7.0)
    rows = arrivals(STATIONS, event, "a", sigma_s=0.04, rng=np.random.default_rng(1))
    rim = {"S00", "S03", "S12", "S15"}
    seen = [row for row in rows if row.code[1] in rim]
    heard = associated(
        seen, before=Before(alive=np.array([station.sta in rim for station in STATIONS]))
    )
    silent = associated(seen, before=Before(alive=np.ones(16, bool)))
    assert len(heard[0]) == 1
    assert silent[0] == [] or silent[0][0].gain < heard[0][0].gain - 5


def test_a_mine_with_sensors_around_the_source_is_associated():
    """Sensors above and below sea level, events half a second apart, one above sea level."""
    stations = square_network(spacing_km=0.3, elev_km=np.tile([-0.4, 1.5, 0.2, 0.9], 4))
    sources = {"a": source(5.0, 0.1, 0.0, -0.5), "b": source(5.5, -0.3, 0.2, 0.2)}
    rng = np.random.default_rng(2)
    rows = [row for name, event in sources.items()
            for row in arrivals(stations, event, name, sigma_s=0.002, rng=rng)]  # fmt: skip
    events, picks = associated(rows, stations=stations)
    assert [max(counts, key=counts.get) for counts in names_of(events, picks)] == ["a", "b"]
    assert events[0].origin[3] == pytest.approx(-0.5, abs=0.05)


def test_a_wide_gap_can_be_refused():
    rows = arrivals(STATIONS, source(30.0, 30.0, 0.0, 7.0), "a")
    assert len(associated(rows)[0]) == 1
    assert associated(rows, rules=BestParameters(greatest_gap_deg=180))[0] == []


def test_progress_goes_from_none_to_all(crowd):
    shares = []
    associated(crowd[1], on_progress=shares.append)
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.1
    assert shares[-1] == 1.0


def test_station_delays_and_pick_errors_are_learnt_from_residuals():
    network = Network.build(STATIONS, CRUST)
    rules = BestParameters()
    rng = np.random.default_rng(4)
    residual_s = rng.normal(0, [[[0.08], [0.16]]], (200, 2, 16))
    residual_s[:, 0, 3] += 0.3
    residual_s[rng.random(residual_s.shape) < 0.3] = np.nan
    errors = learnt_errors(initial_errors(network, rules), residual_s, rules)
    assert errors.static_s[0, 3] == pytest.approx(0.3, abs=0.04)
    assert np.abs(np.delete(errors.static_s, 3, axis=1)).max() < 0.06
    assert errors.sigma_s == pytest.approx([0.08, 0.16], rel=0.1)


def test_given_errors_are_kept():
    rules = BestParameters(p_error_s=0.03, s_error_s=0.07, learn_statics=False)
    errors = initial_errors(Network.build(STATIONS, CRUST), rules)
    learnt = learnt_errors(errors, np.full((500, 2, 16), 0.5), rules)
    assert learnt.sigma_s.tolist() == [0.03, 0.07]
    assert not learnt.static_s.any()
