"""From onsets to picks: identity, time, channel, quality, and what is suppressed."""

from fractions import Fraction

import pytest
from pick_scene import CONTEXT, LEAD, NOW_NS, T0_S, THREE, Scene, provenance

from streamer.picking.picker import BLIND_BLOCKS
from streamer.picking.track import Sampling
from streamer.timebase import NS_PER_S, iso


@pytest.mark.parametrize("size", [1, 7, 60])
def test_picks_are_the_onsets_with_their_channel_and_provenance(size):
    scene = Scene(THREE)
    scene.bump(0, 20.0, 0.9)
    scene.bump(1, 20.3, 0.8)
    p, s = sorted(scene.picks(size), key=lambda pick: pick.t_ns)
    assert (p.phase, p.nslc, iso(p.t_ns)) == ("P", "XX.A.00.HHZ", iso((T0_S + 20) * NS_PER_S))
    assert (s.phase, s.nslc) == ("S", "XX.A.00.HHN")
    assert s.t_ns - p.t_ns == 300_000_000
    assert (p.prob, s.prob) == pytest.approx((0.9, 0.8))
    facts = provenance()
    assert p.id == f"XX.A.00.HH.P.20200913T122700.000.{facts.origin_hex6}"
    assert s.id == f"XX.A.00.HH.S.20200913T122700.300.{facts.origin_hex6}"
    assert (p.rev, p.status, p.final, p.n_comp, p.qual) == (0, "new", 1, 3, None)
    assert (p.model, p.model_sha, p.cfg) == ("net@1", "0123abcd", facts.cfg)
    assert (p.agency, p.author, p.data_ns) == ("AG", "me", NOW_NS)
    assert scene.picker.counts == {"picks_P": 1, "picks_S": 1}


@pytest.mark.parametrize("provisional", [True, False])
def test_a_message_tells_up_to_when_the_network_had_seen_and_the_newest_record(provisional):
    """A record of 30.5 s: a preview at 21 s sees so far, the final one all whole seconds."""
    scene = Scene({"Z": [(0, 30.5)]})
    if provisional:
        scene.preview(21, 0, 20.0)
    scene.bump(0, 20.0, 0.9)
    picks = scene.picks(60)
    seen_s = [pick.seen_ns / NS_PER_S - T0_S for pick in picks]
    assert seen_s == ([21, 30] if provisional else [30])
    assert {pick.rec_ns / NS_PER_S - T0_S for pick in picks} == {30.5}
    assert {pick.data_ns for pick in picks} == {NOW_NS}


def test_ids_tell_models_and_settings_apart_and_nothing_else():
    same = [provenance(), provenance(agency="ZZ"), provenance(author="you")]
    other = [
        provenance(model_sha="11111111"),
        provenance(thresholds=(0.3, 0.5)),
        provenance(separation_samples=60),
    ]
    assert len({facts.origin_hex6 for facts in same}) == 1
    assert len({facts.origin_hex6 for facts in [*same, *other]}) == 4
    assert {facts.cfg for facts in other[:1]} == {same[0].cfg}
    assert len({facts.cfg for facts in [same[0], *other[1:]]}) == 3


@pytest.mark.parametrize(
    ("components", "p_channel", "s_channel"),
    [
        ("ZNE", "HHZ", "HHN"),
        ("Z12", "HHZ", "HH1"),
        ("Z", "HHZ", "HHZ"),
        ("ZE", "HHZ", "HHE"),
        ("NE", "HHN", "HHN"),
    ],
)
def test_p_is_reported_on_the_vertical_and_s_on_a_horizontal(components, p_channel, s_channel):
    scene = Scene({component: [(0, 60)] for component in components})
    scene.bump(0, 20, 0.9)
    scene.bump(1, 25, 0.9)
    p, s = scene.picks()
    assert (p.cha, s.cha) == (p_channel, s_channel)
    assert p.n_comp == s.n_comp == len(components)


def test_a_pick_is_reported_on_a_channel_that_recorded_it():
    scene = Scene({"Z": [(0, 18), (40, 60)], "N": [(0, 60)]})
    scene.bump(0, 25, 0.9)
    assert [(pick.cha, pick.n_comp) for pick in scene.picks()] == [("HHN", 1)]


def test_an_onset_where_data_begin_is_suppressed_and_counted():
    """Nothing is before it that it could stand out from; afterwards it is a pick."""
    for begin_s in (0, 30):
        scene = Scene({"Z": [(0, 20), (30, 60)]} if begin_s else {"Z": [(0, 60)]})
        for block in range(BLIND_BLOCKS + 1):
            scene.bump(0, begin_s + block + 0.5, 0.9)
        picks = scene.picks()
        assert [pick.t_ns / NS_PER_S - T0_S for pick in picks] == [begin_s + BLIND_BLOCKS + 0.5]
        assert scene.picker.counts["suppressed_data_start"] == BLIND_BLOCKS


def test_an_onset_where_only_a_component_begins_is_a_pick_with_a_flag():
    scene = Scene({"Z": [(0, 60)], "N": [(30, 60)]})
    scene.bump(0, 30.5, 0.9)
    assert [pick.qual for pick in scene.picks()] == ["gap"]


@pytest.mark.parametrize(
    ("at_s", "qual"),
    [
        (20.5, None),
        (30.5 - CONTEXT.network, "gap"),
        (29.5 - CONTEXT.network, None),
        (30.5 + CONTEXT.network, "gap"),
        (31.5 + CONTEXT.network, None),
    ],
)
def test_a_pause_of_a_component_within_reach_of_the_network_is_flagged(at_s, qual):
    scene = Scene({"Z": [(0, 60)], "N": [(0, 30.2), (30.3, 60)]})
    scene.bump(0, at_s, 0.9)
    assert [pick.qual for pick in scene.picks()] == [qual]


def test_an_onset_at_the_end_of_the_data_is_picked_with_a_flag():
    scene = Scene(THREE)
    scene.bump(0, 59.2, 0.9)
    assert [pick.qual for pick in scene.picks()] == ["gap"]


@pytest.mark.parametrize(
    ("hz", "offset_ms"),
    [(100, -5), (100, 0), (100, 4), (50, -10), (50, 8), (200, -2), (200, 2)],
)
def test_the_clock_of_the_instrument_counts_to_the_millisecond(offset_ms, hz):
    """The grid is 10 ms wide, samples lie between its points, picks are where the samples are."""
    scene = Scene(THREE, hz=Fraction(hz), offset_ns=offset_ms * 1_000_000)
    scene.bump(0, 20, 0.9)
    expected_ns = T0_S * NS_PER_S + (20_000 + offset_ms) * 1_000_000
    assert [pick.t_ns for pick in scene.picks()] == [expected_ns]


def test_the_time_is_finer_than_a_sample():
    scene = Scene(THREE)
    scene.probability[0, LEAD + 2000 : LEAD + 2002] = 0.9
    assert [pick.t_ns for pick in scene.picks()] == [T0_S * NS_PER_S + 20_005_000_000]


def test_native_sampling_scales_the_time():
    scene = Scene({"Z": [(0, 20)]}, hz=Fraction(500), sampling=Sampling.NATIVE)
    scene.bump(0, 10.25, 0.9)
    scene.bump(1, 10.31, 0.9)
    picks = scene.picks(30)
    assert [pick.t_ns for pick in picks] == [
        T0_S * NS_PER_S + 10_250_000_000,
        T0_S * NS_PER_S + 10_310_000_000,
    ]


@pytest.mark.parametrize("cut_s", [19.5, 19.99, 20.0, 20.03, 20.2, 21.0])
def test_a_station_that_falls_silent_and_goes_on_repeats_no_pick(cut_s):
    """Around the onset, the probabilities before the silence lacked what came after it."""
    whole = Scene(THREE)
    whole.bump(0, 20, 0.9)
    expected = whole.picks()
    scene = Scene({component: [(0, cut_s)] for component in "ZNE"})
    scene.bump(0, 20, 0.9)
    found = scene.picks()
    for component in "ZNE":
        scene.record(component, cut_s, 60)
    found += scene.picks()
    assert len(found) == len(expected) == 1
    assert abs(found[0].t_ns - expected[0].t_ns) < 60_000_000


def test_an_onset_where_a_filled_stretch_ends_is_suppressed_and_counted():
    """Samples that stand still are no recording: what follows them begins."""
    scene = Scene(THREE, filled_s=20.0)
    scene.bump(0, 20.5, 0.9)
    scene.bump(0, 23.5, 0.9)
    assert [pick.t_ns for pick in scene.picks()] == [round((T0_S + 23.5) * NS_PER_S)]
    assert scene.picker.counts["suppressed_data_start"] == 1
