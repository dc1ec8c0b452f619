"""The life of a pick: provisional, moved, confirmed or retracted; each message once, in order."""

import pytest
from pick_scene import (
    CONTEXT,
    LEAD,
    PREVIEW,
    SEPARATION,
    T0_S,
    THREE,
    Scene,
    outline,
    provenance,
)

from model.look_ahead import EARLY_THRESHOLDS, S_AFTER_P_SAMPLES, TRUST_SAMPLES
from streamer.picking.picker import BLIND_BLOCKS, MOVED_SAMPLES

NETWORK = CONTEXT.network
LAG = 475  # samples that the final probabilities are behind the data
# Data up to here make an onset at 20 s final: the lag of the network and one separation behind it.
FINAL_S = 26

P, S = 0, 1


def test_a_pick_begins_with_a_preview_and_the_final_probabilities_confirm_it():
    """The id stays that of the first message, whatever the final time."""
    scene = Scene()
    scene.preview(21, P, 20.0, 0.85)
    scene.bump(P, 20.03, 0.9)
    first, last = scene.picks()
    assert outline(first) == ("new", 0, 0, 20.0)
    assert outline(last) == ("update", 1, 1, 20.03)
    assert (first.prob, last.prob) == pytest.approx((0.85, 0.9))
    assert first.id == last.id == f"XX.A.00.HH.P.20200913T122700.000.{provenance().origin_hex6}"
    assert scene.picker.counts == {"picks_provisional": 1, "picks_P": 1}


def test_messages_come_as_soon_as_the_data_tell_them():
    scene = Scene()
    scene.preview(21, P, 20.0)
    scene.preview(22, P, 20.4)
    scene.bump(P, 20.4)
    scene.preview(32, P, 31.0)
    assert scene.told_when_known() == [
        (21, "new", 0, 0, 20.0),
        (22, "update", 1, 0, 20.4),
        (FINAL_S, "update", 2, 1, 20.4),
        (32, "new", 0, 0, 31.0),
        (FINAL_S + 11, "retract", 1, 1, 31.0),
    ]


def test_an_onset_that_no_preview_had_is_new_and_final_at_once():
    scene = Scene()
    scene.bump(P, 20.0)
    assert scene.told_when_known() == [(FINAL_S, "new", 0, 1, 20.0)]


def test_a_small_move_is_no_message_until_the_pick_is_final():
    scene = Scene()
    moved_s = 20.5 + MOVED_SAMPLES / 100
    for known_s, at_s in ((21, 20.5), (22, 20.55), (23, moved_s)):
        scene.preview(known_s, P, at_s)
    scene.bump(P, moved_s)
    assert scene.told() == [("new", 0, 0, 20.5), ("update", 1, 1, moved_s)]


@pytest.mark.parametrize("direction", [-1, 1])
def test_a_move_by_more_is_an_update_of_the_same_pick(direction):
    scene = Scene()
    moved_s = 20.0 + direction * (MOVED_SAMPLES + 1) / 100
    scene.preview(21, P, 20.0)
    scene.preview(22, P, moved_s)
    scene.bump(P, moved_s)
    picks = scene.picks()
    assert [outline(pick) for pick in picks] == [
        ("new", 0, 0, 20.0),
        ("update", 1, 0, moved_s),
        ("update", 2, 1, moved_s),
    ]
    assert len({pick.id for pick in picks}) == 1


def test_small_moves_count_from_what_was_last_published():
    """A slow drift is told once it is more than small."""
    scene = Scene()
    for known_s, at_s in ((21, 20.48), (22, 20.55), (23, 20.62)):
        scene.preview(known_s, P, at_s)
    scene.bump(P, 20.7)
    assert scene.told() == [
        ("new", 0, 0, 20.48),
        ("update", 1, 0, 20.62),
        ("update", 2, 1, 20.7),
    ]


def test_a_pick_that_the_final_probabilities_pass_is_retracted_as_it_was():
    scene = Scene()
    scene.preview(22, P, 20.0, 0.85)
    first, last = scene.picks()
    assert outline(last) == ("retract", 1, 1, 20.0)
    assert (last.id, last.prob, last.cha) == (first.id, first.prob, first.cha)
    assert scene.picker.counts == {"picks_provisional": 1, "picks_retracted": 1}


def test_an_onset_beyond_the_separation_is_another_pick():
    scene = Scene()
    scene.preview(22, P, 20.0)
    scene.bump(P, 20.0 + (SEPARATION + 1) / 100)
    picks = scene.picks()
    assert sorted(outline(pick) for pick in picks) == [
        ("new", 0, 0, 20.0),
        ("new", 0, 1, 20.51),
        ("retract", 1, 1, 20.0),
    ]
    assert len({pick.id for pick in picks}) == 2


@pytest.mark.parametrize("at_s", [20.25, 20.45])
def test_the_nearest_of_two_provisional_picks_is_confirmed(at_s):
    """In between lies one onset, so one of them is retracted."""
    scene = Scene()
    scene.preview(22, P, 20.0)
    scene.preview(23, P, 20.6)
    scene.bump(P, at_s)
    picks = scene.picks()
    confirmed, retracted = (20.0, 20.6) if at_s < 20.3 else (20.6, 20.0)
    began = {outline(pick)[3]: pick.id for pick in picks if pick.rev == 0}
    ended = {pick.id: outline(pick) for pick in picks if pick.final}
    assert ended == {
        began[confirmed]: ("update", 1, 1, at_s),
        began[retracted]: ("retract", 1, 1, retracted),
    }


def test_p_and_s_of_one_arrival_live_their_own_lives():
    scene = Scene()
    scene.preview(21, P, 20.0)
    scene.preview(21, S, 20.1)
    scene.bump(P, 20.0)
    picks = scene.picks()
    assert [(pick.phase, pick.status, pick.final) for pick in picks] == [
        ("P", "new", 0),
        ("S", "new", 0),
        ("P", "update", 1),
        ("S", "retract", 1),
    ]


@pytest.mark.parametrize(
    ("p_s", "final", "s_s", "believed"),
    [
        (18.0, True, 25.2, True),
        (18.0, False, 20.2, True),
        (18.0, False, 25.2, False),  # retracted by then
        (20.1, False, 20.2, True),  # by the same preview
        (20.3, False, 20.2, False),
        (None, False, 20.2, False),
    ],
)
def test_an_early_s_needs_a_published_p_before_it(p_s, final, s_s, believed):
    """Some P look like S at first."""
    scene = Scene()
    if final:
        scene.bump(P, p_s)
    elif p_s is not None:
        scene.preview(int(p_s) + 1, P, p_s)
    scene.preview(int(s_s) + 1, S, s_s)
    assert any(pick.phase == "S" for pick in scene.picks()) == believed


def test_an_early_s_needs_its_p_shortly_before_it():
    p_s = 7.0
    for late_s, believed in ((-0.05, True), (0.05, False)):
        scene = Scene()
        scene.bump(P, p_s)
        at_s = p_s + S_AFTER_P_SAMPLES / 100 + late_s
        scene.preview(int(at_s) + 2, S, at_s)
        assert any(pick.phase == "S" for pick in scene.picks()) == believed


def test_a_peak_too_near_the_end_of_a_preview_is_not_believed_yet():
    """What follows it may make it higher or move it."""
    near_s = 21 - (TRUST_SAMPLES - 1) / 100
    for at_s, first_known_s in ((near_s, 22), (21 - TRUST_SAMPLES / 100, 21)):
        scene = Scene()
        scene.preview(21, P, at_s)
        scene.preview(22, P, at_s)
        scene.bump(P, at_s)
        assert scene.told_when_known()[0] == (first_known_s, "new", 0, 0, at_s)


@pytest.mark.parametrize("phase", [P, S])
def test_a_preview_is_believed_from_its_own_threshold_on(phase):
    """Or from that of the final probabilities, if it is the higher one."""
    high = tuple(threshold + 0.1 for threshold in EARLY_THRESHOLDS)
    for thresholds, least in (((0.3, 0.4), EARLY_THRESHOLDS[phase]), (high, high[phase])):
        for probability in (least - 0.01, least + 0.01):
            scene = Scene(thresholds=thresholds)
            scene.bump(P, 10.0, 0.95)  # for an S to follow
            scene.preview(21, phase, 20.0, probability)
            scene.bump(phase, 20.0, 0.95)
            assert len(scene.picks()) == 1 + (1 if probability < least else 2)


@pytest.mark.parametrize(
    ("at_s", "final_s", "news"),
    [
        (21.9, 21.75, False),
        (22.05, 21.75, False),
        (22.25, 21.75, True),
        (21.9, 15.0, False),
        (22.05, 15.0, True),
    ],
)
def test_a_preview_has_no_second_opinion_on_what_is_final(at_s, final_s, news):
    """As after a silence: all before it is judged, and an onset just before it needs no second."""
    scene = Scene({component: [(0, 22)] for component in "ZNE"})
    scene.bump(P, final_s)
    assert scene.told() == [("new", 0, 1, final_s)]
    for component in "ZNE":
        scene.record(component, 22, 60)
    scene.preview(24, P, at_s)
    assert [message[:3] for message in scene.told()] == [
        ("new", 0, 0),
        ("retract", 1, 1),
    ] * news


def test_what_lies_in_a_preview_is_not_final_yet():
    """The final probabilities end behind it, so that nothing is lost between the two."""
    assert PREVIEW < LAG + SEPARATION


def test_an_onset_where_data_begin_is_suppressed_before_it_is_final_too():
    """It is counted once."""
    for begin_s in (0, 30):
        scene = Scene({"Z": [(0, 20), (30, 60)]} if begin_s else {"Z": [(0, 60)]})
        for block in range(BLIND_BLOCKS + 1):
            at_s = begin_s + block + 0.5
            scene.preview(begin_s + block + 2, P, at_s)
            scene.bump(P, at_s)
        at_s = begin_s + BLIND_BLOCKS + 0.5
        assert scene.told() == [("new", 0, 0, at_s), ("update", 1, 1, at_s)]
        assert scene.picker.counts["suppressed_data_start"] == BLIND_BLOCKS


@pytest.mark.parametrize("size", [1, 10, 60])
def test_the_future_that_is_not_known_yet_is_no_gap(size):
    """Even if the step has it: what a message says does not depend on the size of steps."""
    scene = Scene({"Z": [(0, 60)], "N": [(0, 22), (23, 60)]})
    scene.preview(21, P, 20.0)
    scene.preview(23, S, 20.6)
    scene.bump(P, 20.0)
    scene.bump(S, 20.6)
    told = [(pick.phase, pick.final, pick.qual) for pick in scene.picks(size)]
    assert told == [("P", 0, None), ("S", 0, "gap"), ("P", 1, "gap"), ("S", 1, "gap")]


def test_a_provisional_pick_counts_the_components_it_has():
    scene = Scene({"Z": [(0, 18), (40, 60)], "N": [(0, 60)], "E": [(0, 21), (30, 60)]})
    scene.preview(26, P, 25.0)
    (first, *_) = scene.picks()
    assert (first.cha, first.n_comp, first.qual) == ("HHN", 1, "gap")


@pytest.mark.parametrize("size", [2, 5, 7, 60])
def test_messages_do_not_depend_on_the_size_of_steps(size):
    """Several previews in one step are taken in order, each after what was final before it."""

    def scene() -> Scene:
        a_scene = Scene()
        for known_s, phase, at_s in (
            (8, P, 7.2), (9, P, 7.4), (11, S, 9.5), (12, S, 9.7), (15, P, 13.9), (16, S, 14.8),
            (16, P, 14.3), (18, P, 17.1), (30, P, 28.0), (31, P, 29.3), (31, S, 28.8),
        ):  # fmt: skip
            a_scene.preview(known_s, phase, at_s)
        for phase, at_s in ((P, 7.5), (S, 9.9), (P, 14.2), (S, 17.0), (P, 29.4), (P, 40.0)):
            a_scene.bump(phase, at_s)
        return a_scene

    expected = scene().told()
    assert len(expected) == 21
    assert scene().told(size) == expected


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 30, 60])
def test_which_pick_an_onset_confirms_does_not_depend_on_the_size_of_steps(size):
    """Its time may be within the separation of a pick that was passed before its peak came."""
    scene = Scene()
    scene.preview(22, P, 20.24)
    # When the data up to 26 s are known, nothing before 20.75 s confirms the pick. The peak comes
    # then, at 20.76 s, and the centroid of its flat top lies before 20.74 s.
    scene.probability[P, LEAD + 2071 : LEAD + 2077] = 0.89, 0.89, 0.89, 0.89, 0.89, 0.9
    told = scene.told(size)
    assert told[:2] == [("new", 0, 0, 20.24), ("retract", 1, 1, 20.24)]
    assert [message[:3] for message in told[2:]] == [("new", 0, 1)]
    assert told[2][3] < 20.74


@pytest.mark.parametrize("size", [1, 2, 60])
def test_a_new_pick_after_a_long_gap_is_not_taken_for_what_waited_before_it(size):
    """The end of the old trace is no answer to what a preview of the new one said."""
    begin_s = 20 + CONTEXT.kept + 5
    spans = [(0, 20), (begin_s, begin_s + 30)]
    scene = Scene(dict.fromkeys("ZNE", spans))
    at_s = begin_s + BLIND_BLOCKS + 0.5
    scene.preview(begin_s + BLIND_BLOCKS + 2, P, at_s)
    scene.bump(P, at_s)
    assert scene.told(size) == [("new", 0, 0, at_s), ("update", 1, 1, at_s)]


@pytest.mark.parametrize(("confirmed", "status"), [(True, "update"), (False, "retract")])
def test_a_station_that_falls_silent_leaves_no_pick_open(confirmed, status):
    scene = Scene({component: [(0, 22)] for component in "ZNE"})
    scene.preview(22, P, 20.0)
    if confirmed:
        scene.bump(P, 20.0)
    assert scene.told() == [("new", 0, 0, 20.0), (status, 1, 1, 20.0)]
    for component in "ZNE":
        scene.record(component, 22, 60)
    scene.preview(24, P, 23.0)
    scene.bump(P, 23.0)
    assert scene.told() == [("new", 0, 0, 23.0), ("update", 1, 1, 23.0)]


def test_ids_of_final_picks_alone_are_others():
    """With and without provisional picks an onset has another first message."""
    assert provenance().origin_hex6 != provenance(provisional=False).origin_hex6
    higher = provenance(thresholds=(0.9, 0.9))
    assert higher.early_thresholds == (0.9, 0.9)
    assert provenance().early_thresholds == EARLY_THRESHOLDS


def test_no_pick_stays_open_behind_the_final_probabilities():
    """What a track remembers of its picks is bounded."""
    scene = Scene({component: [(0, 300)] for component in THREE})
    for known_s in range(4, 300):
        scene.preview(known_s, P, known_s - 0.75)
        scene.preview(known_s, S, known_s - 1.25)
    most = 0
    for known_s in range(1, scene.track.ready_blocks(10**19, patient=False) + 1):
        scene.pick(scene.track.advance(1))
        most = max(most, len(scene.track.provisional))
        judged_s = (scene.track.detector.decided / 100) - T0_S
        for onset, _ in scene.track.provisional:
            assert onset.index / 100 - T0_S >= judged_s - SEPARATION / 100
        assert judged_s <= known_s
    assert 2 * NETWORK <= most <= 2 * (NETWORK + 2)
