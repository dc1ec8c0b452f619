"""How far onset times may be off: the classes, and the table that ships."""

import json

import pytest

from model.artifact import BUNDLED, load
from model.time_errors import NO_TIME_ERRORS, PhaseErrors, TimeErrors


def test_a_class_begins_at_its_probability_and_the_first_holds_for_all_below():
    errors = TimeErrors({"P": PhaseErrors((0.2, 0.5, 0.9), (0.3, 0.2, 0.1))})
    probabilities = (0.1, 0.2, 0.49, 0.5, 0.89, 0.9, 1.0)
    expected = [0.3, 0.3, 0.3, 0.2, 0.2, 0.1, 0.1]
    assert [errors.sigma_s("P", probability) for probability in probabilities] == expected


def test_what_was_not_calibrated_is_not_known():
    assert NO_TIME_ERRORS.sigma_s("P", 0.9) is None


@pytest.mark.parametrize(("prob_from", "sigma_s"), [((0.5,), (0.1, 0.2)), ((), ())])
def test_a_table_that_does_not_fit_its_classes_is_refused(prob_from, sigma_s):
    with pytest.raises(ValueError, match="does not fit"):
        PhaseErrors(prob_from, sigma_s)


def test_the_bundled_card_says_how_far_onsets_may_be_off_and_how_that_is_known():
    errors = load().card.time_errors
    facts = json.loads(BUNDLED.with_name("msnet.json").read_text())["time_errors"]
    assert errors == TimeErrors.from_json(facts)
    assert errors.source
    for phase in "PS":
        sigma_s = errors.phases[phase].sigma_s
        assert all(0.01 < sigma < 0.3 for sigma in sigma_s)
        assert list(sigma_s) == sorted(sigma_s, reverse=True)
