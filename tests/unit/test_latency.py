"""Where the time between an onset and its pick went, from the message to those who look."""

import io

import pytest
from bus_picks import make_pick

from streamer.export.following import print_picks
from streamer.latency import INSTANTS, STAGES
from streamer.picks import Pick
from streamer.timebase import NS_PER_MS, NS_PER_S

ONSET_NS = 1_700_000_000 * NS_PER_S
MS = (1500, 400, 700, 30, 8, 2)  # of the stages


def told(durations_ms=MS, **fields):
    """A pick whose stages are so long."""
    instants = [ONSET_NS]
    for duration_ms in durations_ms:
        instants.append(instants[-1] + duration_ms * NS_PER_MS)
    return make_pick(1, **dict(zip(INSTANTS, instants, strict=True)), **fields)


def test_the_stages_of_a_message_add_up_to_its_latency():
    pick = Pick.from_fields(told().to_fields())
    expected = [duration_ms / 1000 for duration_ms in MS]
    assert pick.stages_s == pytest.approx(dict(zip(STAGES, expected, strict=True)))
    assert sum(pick.stages_s.values()) == pytest.approx((pick.made_ns - pick.t_ns) / NS_PER_S)


@pytest.mark.parametrize("name", ["seen_ns", "rec_ns", "turn_ns", "done_ns"])
def test_a_message_that_does_not_tell_an_instant_has_no_stages(name):
    """Of an older picker, or of files."""
    message = told().to_fields()
    del message[name]
    assert Pick.from_fields(message).stages_s == {}


def test_tail_shows_the_stages_of_each_message():
    output = io.StringIO()
    print_picks([told(), make_pick(2, made_ns=ONSET_NS + 5 * NS_PER_S)], "latency", output)
    heading, with_stages, without = (line.split() for line in output.getvalue().splitlines())
    assert heading[-7:] == ["seconds", *(stage.replace("_", "-") for stage in STAGES)]
    assert with_stages[-7:] == ["2.640", "1.500", "0.400", "0.700", "0.030", "0.008", "0.002"]
    assert without[-7:] == ["3.000", "-", "-", "-", "-", "-", "-"]
