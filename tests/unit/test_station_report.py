"""What is told of a station: to status, metrics and heartbeats."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from streamer.clock import DataClock
from streamer.picking.report import PickTally, StationReport, reports
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S
from streamer.waveforms.inventory import NO_INVENTORY
from streamer.waveforms.records import NOT_KNOWN, Record
from streamer.waveforms.stations import StationBank

T0_NS = 1_600_000_000 * NS_PER_S


def report(**qualities: int) -> StationReport:
    """Of a station with one record of each channel, of this timing quality (%)."""
    clock = DataClock()
    clock.advance(T0_NS + NS_PER_S)
    bank = StationBank(clock, 300)
    for channel, quality in qualities.items():
        nslc = Nslc("XX", "A", "", channel)
        record = Record(nslc, T0_NS, Fraction(100), np.zeros(100, np.int32))
        bank.accept(replace(record, timing_quality=quality))
    (only,) = reports(bank, [], PickTally(), NO_INVENTORY, T0_NS + NS_PER_S)
    return only


@pytest.mark.parametrize(
    ("qualities", "told"),
    [
        ({"HHZ": 100, "HHN": 40}, 40),
        ({"HHZ": NOT_KNOWN}, None),
        ({"HHZ": 0}, None),
        ({"HHZ": 0, "HHN": 80}, 80),
    ],
)
def test_a_timing_quality_of_zero_is_not_known_as_in_picks(qualities, told):
    """Many digitisers never set it: `qual=timing` does not count it, so nobody is told of it."""
    assert report(**qualities).timing_quality == told
