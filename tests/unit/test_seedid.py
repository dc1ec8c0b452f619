"""Channel codes and the instruments they belong to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.seedid import Instrument, Nslc

CODE = st.text("ABCXYZ0123456789", min_size=1, max_size=8)


@given(st.builds(Nslc, CODE, CODE, CODE | st.just(""), CODE))
def test_parse_and_str_are_inverse(nslc):
    assert Nslc.parse(str(nslc)) == nslc


@given(st.builds(Nslc, CODE, CODE, CODE | st.just(""), CODE))
def test_the_instrument_with_the_component_is_the_channel(nslc):
    assert nslc.instrument.channel(nslc.component) == nslc


@pytest.mark.parametrize(
    "text",
    ["", "CI", "CI.PASC", "CI.PASC.00", ".PASC.00.HHZ", "CI..00.HHZ", "CI.PASC.00.", "A.B.C.D.E"],
)
def test_parse_names_what_is_no_channel(text):
    with pytest.raises(ValueError, match=r"NET\.STA\.LOC\.CHA") as caught:
        Nslc.parse(text)
    assert repr(text) in str(caught.value)


def test_an_empty_location_stays_empty():
    nslc = Nslc.parse("BW.UH3..EHZ")
    assert nslc.location == ""
    assert str(nslc.instrument) == "BW.UH3..EH"


def test_components_of_one_sensor_share_the_instrument_and_other_locations_do_not():
    z, n, other = map(Nslc.parse, ("CI.PASC.00.HHZ", "CI.PASC.00.HHN", "CI.PASC.10.HHZ"))
    assert z.instrument == n.instrument == Instrument("CI", "PASC", "00", "HH")
    assert z.instrument != other.instrument
    assert (z.component, n.component) == ("Z", "N")


def test_channels_sort_by_network_station_location_channel():
    texts = ["AA.B..HHZ", "AA.B.00.HHE", "AA.B.00.HHZ", "AB.A..HHZ"]
    assert [str(nslc) for nslc in sorted(map(Nslc.parse, reversed(texts)))] == texts
