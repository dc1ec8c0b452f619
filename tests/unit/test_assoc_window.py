"""The window of the association worker: versions of events from picks in any order."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from assoc_replay import (
    RULES,
    anonymous,
    catalogue,
    delayed,
    far,
    feed,
    finish,
    make_window,
    message,
    told,
    transaction,
)
from assoc_synthetic import CRUST, EPOCH_NS, arrivals, noise, sequence, source, square_network

from streamer.association.fast import Fast
from streamer.association.geodesy import moved
from streamer.association.network import Network
from streamer.association.offline import settled_events
from streamer.association.parameters import RealParameters
from streamer.association.pickfiles import PickRow
from streamer.association.stations import Station
from streamer.association.store import Store

STATIONS = square_network()
NETWORK = Network.build(STATIONS, CRUST)
REAL = RealParameters(search_half_width_deg=0.2, grid_step_deg=0.04, least_picks=16)


@pytest.fixture(scope="module")
def rows():
    """An event every 15 s or so for five minutes, and noise."""
    return sequence(
        STATIONS, 21, events=20, first_s=20, every_s=15, scatter_s=9, reach_km=14,
        noise_s=340.0, per_second=3.0,
    )  # fmt: skip


def assert_lives(events):
    """Versions of each event count from 1, begin as they should and end with the last word."""
    lives = {}
    for event in events:
        lives.setdefault(event.id, []).append(event)
    for life in lives.values():
        assert [event.version for event in life] == list(range(1, len(life) + 1))
        assert life[0].status in ("preliminary", "final")
        assert life[-1].status in ("final", "amended", "retracted")
        for before, after in pairwise(life):
            if before.status in ("final", "amended"):
                assert after.status in ("amended", "retracted")


@pytest.mark.parametrize("profile", ["best", "real"])
def test_settled_events_of_a_delayed_doubled_stream_are_those_of_the_batch(rows, profile):
    batch = anonymous(
        settled_events(NETWORK, rows, RULES.model_copy(update={"profile": profile, "real": REAL}))
    )
    assert len(batch) >= 20
    for seed in range(2):
        window = make_window(
            NETWORK, rules=RULES.model_copy(update={"profile": profile, "real": REAL})
        )
        feed(window, delayed(rows, np.random.default_rng(seed)))
        finish(window, far(rows))
        assert catalogue(window) == batch
        assert_lives(told(window))


def test_picks_in_any_order_at_all_give_the_events_of_the_batch(rows):
    """Most blocks are settled long before their picks have come, and run again."""
    order = np.random.default_rng(3).permutation(len(rows))
    window = make_window(NETWORK)
    feed(window, [message(rows[i]) for i in order], batch=200)
    finish(window, far(rows))
    assert catalogue(window) == anonymous(settled_events(NETWORK, rows))
    assert_lives(told(window))


def test_an_event_is_preliminary_with_the_pick_that_completes_it():
    event = source(30.0, 1.0, 2.0, 8.0)
    rows = sorted(arrivals(STATIONS, event, "a", sigma_s=0.03, rng=np.random.default_rng(1)),
                  key=lambda row: row.t_ns)  # fmt: skip
    window = make_window(NETWORK)
    n_told = []
    for row in rows:
        with transaction(window):
            window.take(message(row), row.t_ns + 10**9)
        n_told.append(len(told(window)))
    first = told(window)[0]
    complete = next(
        i for i in range(len(rows))
        if sum(row.phase == "P" for row in rows[: i + 1]) >= 3
        and sum(row.phase == "S" for row in rows[: i + 1]) >= 2
        and i + 1 >= 8
    )  # fmt: skip
    assert n_told.index(1) - complete <= 3
    last = rows[n_told.index(1)].id
    assert last in [arrival.pick_id for arrival in first.arrivals], (
        "told by the pick that was missing"
    )
    assert (first.status, first.version) == ("preliminary", 1)
    assert abs(first.t_ns - EPOCH_NS - 30e9) < 0.3e9
    assert [e.status for e in told(window)[1:]] == ["updated"] * (len(told(window)) - 1)
    assert len({e.id for e in told(window)}) == 1
    finish(window, far(rows))
    assert told(window)[-1].status == "final"
    assert told(window)[-1].id == first.id


def test_picks_that_a_sure_event_predicts_join_it_without_a_fit_each_but_never_two_of_one_path(
    monkeypatch,
):
    rng = np.random.default_rng(1)
    rows = arrivals(STATIONS, source(30.0, 1.0, 2.0, 8.0), "a", sigma_s=0.02, rng=rng)
    rows.sort(key=lambda row: row.t_ns)
    twice = [row._replace(id=f"b-{row.id}", t_ns=row.t_ns + 20_000_000) for row in rows[-6:]]
    everything = sorted([*rows, *twice], key=lambda row: row.t_ns)
    fits = []
    refined = Fast._refined
    monkeypatch.setattr(Fast, "_refined", lambda *args: (fits.append(args[1]), refined(*args)))
    for picks in (rows, everything):
        fits.clear()
        window = make_window(NETWORK)
        feed(window, [message(row) for row in picks], lag_s=1000, batch=1)
        (event,) = window._fast.open.values()
        paths = [(window._fast.rows[name][0].code, window._fast.rows[name][0].phase)
                 for name in event.picks]  # fmt: skip
        assert len(set(paths)) == len(paths) >= 0.9 * len(rows)
        owned = window._fast._buffer.owner == 0
        assert {window._fast._buffer.names[i] for i in np.flatnonzero(owned)} == set(event.picks)
        if picks is not everything:
            assert len(fits) < 0.6 * len(rows)


def test_an_event_whose_picks_are_retracted_is_retracted():
    rows = arrivals(STATIONS, source(30.0, 1.0, 2.0, 8.0), "a")
    window = make_window(NETWORK)
    feed(window, [message(row, final=0) for row in rows], batch=5)
    assert told(window)[-1].status in ("preliminary", "updated")
    feed(window, [message(row, rev=1, status="retract", final=1) for row in rows], batch=5)
    assert told(window)[-1].status == "retracted"
    finish(window, far(rows))
    assert catalogue(window) == []
    assert_lives(told(window))


def test_provisional_picks_are_not_in_settled_events_until_they_are_final():
    rows = arrivals(STATIONS, source(30.0, 1.0, 2.0, 8.0), "a")
    window = make_window(NETWORK)
    feed(window, [message(row, final=0) for row in rows])
    finish(window, far(rows) - 3000 * 10**9)
    assert catalogue(window) == []
    feed(window, [message(row, rev=1, status="update") for row in rows])
    finish(window, far(rows))
    assert catalogue(window) == anonymous(settled_events(NETWORK, rows))
    assert_lives(told(window))


def test_a_late_pick_amends_its_event_and_a_late_retraction_too():
    rows = arrivals(STATIONS, source(30.0, 1.0, 2.0, 8.0), "a", sigma_s=0.03,
                    rng=np.random.default_rng(2))  # fmt: skip
    window = make_window(NETWORK)
    feed(window, [message(row) for row in rows[1:]])
    finish(window, EPOCH_NS + 600 * 10**9)
    final = told(window)[-1]
    feed(window, [message(rows[0])])
    assert told(window)[-1] == final
    finish(window, EPOCH_NS + 660 * 10**9)
    amended = told(window)[-1]
    assert (final.status, amended.status) == ("final", "amended")
    assert (amended.id, amended.version) == (final.id, final.version + 1)
    assert catalogue(window) == anonymous(settled_events(NETWORK, rows))
    feed(window, [message(rows[0], rev=1, status="retract")])
    finish(window, EPOCH_NS + 720 * 10**9)
    assert anonymous([told(window)[-1]]) == anonymous([final])
    n_told = len(told(window))
    feed(window, [message(rows[0])])
    finish(window, EPOCH_NS + 800 * 10**9)
    assert len(told(window)) == n_told, "an old revision changes nothing"


def test_a_worker_that_ends_at_any_batch_goes_on_as_if_it_had_not(rows, tmp_path):
    picks = delayed(rows, np.random.default_rng(5))
    undisturbed = make_window(NETWORK)
    feed(undisturbed, picks, batch=40)
    finish(undisturbed, far(rows))
    path = tmp_path / "assoc.sqlite"
    store = Store(path)
    window = make_window(NETWORK, store)
    for number, start in enumerate(range(0, len(picks), 40)):
        feed(window, picks[start : start + 40], batch=40)
        if number % 3 == 0:
            store.close()
            store = Store(path)
            window = make_window(NETWORK, store)
    finish(window, far(rows))
    assert told(window) == told(undisturbed)


def test_picks_from_the_future_and_the_distant_past_are_counted_and_not_used():
    window = make_window(NETWORK)
    good = arrivals(STATIONS, source(30.0, 1.0, 2.0, 8.0), "a")
    future = [row._replace(t_ns=row.t_ns + 3600 * 10**9, id=f"f{row.id}") for row in good]
    feed(window, [message(row, made_ns=good[0].t_ns + 10**10) for row in good + future])
    finish(window, good[0].t_ns + 7000 * 10**9)
    old = [message(row._replace(id=f"o{row.id}")) for row in good]
    feed(window, old)
    assert window.counts["picks_future"] == len(future)
    assert window.counts["picks_too_old"] == len(old)
    assert len(catalogue(window)) == 1


def test_picks_of_a_station_without_coordinates_wait_for_it(tmp_path):
    rows = arrivals(STATIONS, source(30.0, 1.0, 2.0, 8.0), "a")
    store = Store(tmp_path / "assoc.sqlite")
    window = make_window(Network.build(STATIONS[:-2], CRUST), store)
    feed(window, [message(row) for row in rows])
    finish(window, EPOCH_NS + 600 * 10**9)
    assert window.unknown_stations == Counter({"XX.S14": 2, "XX.S15": 2})
    assert len(told(window)[-1].arrivals) == 28
    window = make_window(NETWORK, store)
    finish(window, EPOCH_NS + 660 * 10**9)
    assert told(window)[-1].status == "amended"
    assert catalogue(window) == anonymous(settled_events(NETWORK, rows))


def test_a_network_that_grows_keeps_its_picks_though_its_blocks_are_longer(rows):
    """A station far from the others: S takes longer across the network, and so do the blocks."""
    far_away = Station("XX", "FAR", *map(float, moved(46.0, 7.5, 60.0, 0.0)), 0.0)
    wider = Network.build([*STATIONS, far_away], CRUST)
    store = Store(None)
    window = make_window(NETWORK, store)
    picks = delayed(rows, np.random.default_rng(7))
    half = len(picks) // 2
    feed(window, picks[:half])
    after = make_window(wider, store)
    assert after.grid.block_s > window.grid.block_s
    feed(after, picks[half:])
    finish(after, far(rows))
    assert catalogue(after) == anonymous(settled_events(wider, rows, RULES))


def test_a_noisy_station_is_counted_and_does_not_change_what_the_others_see(rows):
    loud = [PickRow(("XX", "S00"), "P", EPOCH_NS + round(i * 1e8), 0.3, 1.0, f"loud-{i}")
            for i in range(3400)]  # fmt: skip
    everything = sorted(rows + loud, key=lambda row: row.t_ns)
    window = make_window(NETWORK)
    feed(window, [message(row) for row in everything])
    finish(window, far(rows))
    assert window.counts["picks_crowded"] > 2000
    assert catalogue(window) == anonymous(settled_events(NETWORK, everything))
    assert len(catalogue(window)) >= 19


def test_memory_is_bounded_by_the_retention():
    rng = np.random.default_rng(7)
    day = []
    for hour in range(16):
        where = source(hour * 3600 + 100, *rng.uniform(-14, 14, 2), 8.0)
        day += arrivals(STATIONS, where, f"h{hour}", sigma_s=0.04, rng=rng)
    day += noise(STATIONS, 16 * 3600.0, 0.05, rng)
    rules = RULES.model_copy(update={"retention_s": 600.0})
    window = make_window(NETWORK, rules=rules)
    picks = sorted((message(row) for row in day), key=lambda pick: pick.made_ns)
    sizes = []
    for start in range(0, len(picks), 500):
        feed(window, picks[start : start + 500], batch=500)
        n_picks = window._store._db.execute("SELECT COUNT(*) FROM picks").fetchone()[0]
        sizes.append((n_picks, len(window._filled), len(window._fast.rows)))
    finish(window, EPOCH_NS + 16 * 3600 * 10**9)
    most = np.max(sizes, axis=0)
    assert most[0] < 2400
    assert most[2] < 200
    assert len(window._catalogue.runs) < 80
    assert catalogue(window) == anonymous(settled_events(NETWORK, day))
