"""The pick message `msnet.pick/1` and its id."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import DataError
from streamer.picks import Pick, pick_id
from streamer.seedid import Instrument
from streamer.timebase import NS_PER_S, parse_iso

T_NS = parse_iso("2010-05-27T16:24:33.150Z")
PICK = Pick(
    id="BW.UH3..EH.P.20100527T162433.150.0123ab",
    rev=0,
    status="new",
    net="BW",
    sta="UH3",
    loc="",
    cha="EHZ",
    phase="P",
    t_ns=T_NS,
    prob=0.87654321,
    model="msnet/demo@1",
    model_sha="0123abcd",
    cfg="89abcdef",
    agency="XX",
    author="test",
    data_ns=T_NS + NS_PER_S,
    made_ns=T_NS + 2 * NS_PER_S,
)

TEXT = st.text(max_size=20)
NUMBER = st.floats(-1e9, 1e9)
NS = st.integers(0, 4_000_000_000 * NS_PER_S)
# These are written with four decimals: only such values can come back as they were.
ROUNDED = st.integers(0, 10_000).map(lambda n: n / 10_000)
FOUR_DIGITS = NUMBER.map(lambda x: float(f"{x:.4g}"))
OPTIONAL = {
    "n_comp": st.integers(1, 3),
    "qual": TEXT,
    "lat": NUMBER,
    "lon": NUMBER,
    "elev": NUMBER,
    "t_unc": ROUNDED,
    "snr": FOUR_DIGITS,
    "amp": FOUR_DIGITS,
    "amp_unit": TEXT,
    "amp_per": FOUR_DIGITS,
    "pol": st.sampled_from(["up", "down"]),
    "pol_prob": ROUNDED,
    **dict.fromkeys(("seen_ns", "rec_ns", "turn_ns", "done_ns"), NS),
}
PICKS = st.builds(
    Pick,
    **dict.fromkeys(("id", "net", "sta", "loc", "cha", "model", "model_sha", "cfg"), TEXT),
    **dict.fromkeys(("agency", "author"), TEXT),
    **dict.fromkeys(("t_ns", "data_ns", "made_ns"), NS),
    rev=st.integers(0, 9),
    status=st.sampled_from(["new", "update", "retract"]),
    phase=st.sampled_from(["P", "S"]),
    prob=ROUNDED,
    final=st.integers(0, 1),
    **{name: st.none() | values for name, values in OPTIONAL.items()},
)


@given(PICKS)
def test_a_pick_survives_the_message(pick):
    message = pick.to_fields()
    assert all(isinstance(value, str) for value in message.values())
    assert Pick.from_fields(message) == pick


def test_the_message_has_the_documented_fields_in_order():
    assert PICK.to_fields() == {
        "v": "1",
        "id": "BW.UH3..EH.P.20100527T162433.150.0123ab",
        "rev": "0",
        "status": "new",
        "net": "BW",
        "sta": "UH3",
        "loc": "",
        "cha": "EHZ",
        "phase": "P",
        "time": "2010-05-27T16:24:33.150000Z",
        "t_ns": str(T_NS),
        "prob": "0.8765",
        "model": "msnet/demo@1",
        "model_sha": "0123abcd",
        "cfg": "89abcdef",
        "agency": "XX",
        "author": "test",
        "data_ns": str(T_NS + NS_PER_S),
        "made_ns": str(T_NS + 2 * NS_PER_S),
        "final": "1",
    }
    assert list(PICK.to_fields())[:2] == ["v", "id"]


def test_an_absent_value_is_an_omitted_field_and_an_empty_location_is_not():
    message = PICK.to_fields()
    assert message["loc"] == ""
    absent = {field.name for field in fields(Pick) if getattr(PICK, field.name) is None}
    assert absent == set(OPTIONAL)
    assert not absent & set(message)


def test_fields_of_later_versions_are_ignored():
    assert Pick.from_fields(PICK.to_fields() | {"new_in_2030": "x"}).id == PICK.id


def test_a_message_without_final_is_final():
    """`final` came after the first messages: they were all final."""
    message = PICK.to_fields()
    del message["final"]
    assert Pick.from_fields(message).final == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"v": "2"}, "version '2'"),
        ({"v": None}, "version None"),
        ({"rev": None}, "rev"),
        ({"t_ns": "soon"}, "soon"),
        ({"t_ns": "1.5"}, "1.5"),
        ({"prob": ""}, "could not convert"),
        ({"prob": "nan"}, "'nan' is not a finite number"),
        ({"lat": "inf"}, "'inf' is not a finite number"),
        ({"phase": "Q"}, "'Q' is none of P, S"),
        ({"status": "old"}, "'old' is none of new, update, retract"),
    ],
)
def test_a_malformed_message_is_a_data_error_that_says_why(change, reason):
    message = {**PICK.to_fields(), **change}
    with pytest.raises(DataError) as caught:
        Pick.from_fields({name: text for name, text in message.items() if text is not None})
    assert reason in str(caught.value)


def test_nslc_is_the_channel_the_pick_is_reported_on():
    assert PICK.nslc == "BW.UH3..EHZ"


def test_the_id_is_readable_and_cut_to_the_millisecond():
    instrument = Instrument("BW", "UH3", "", "EH")
    expected = "BW.UH3..EH.P.20100527T162433.150.0123ab"
    assert pick_id(instrument, "P", T_NS, "0123ab") == expected
    assert pick_id(instrument, "P", T_NS + 999_999, "0123ab") == expected


def test_the_id_tells_apart_phase_instrument_time_and_picker():
    uh3, uh4 = (Instrument("BW", station, "", "EH") for station in ("UH3", "UH4"))
    ids = {
        pick_id(uh3, "P", T_NS, "0123ab"),
        pick_id(uh3, "S", T_NS, "0123ab"),
        pick_id(uh4, "P", T_NS, "0123ab"),
        pick_id(uh3, "P", T_NS + 1_000_000, "0123ab"),
        pick_id(uh3, "P", T_NS, "ab0123"),
    }
    assert len(ids) == 5


def test_a_revision_keeps_everything_it_does_not_change():
    update = replace(PICK, rev=1, status="update", prob=0.9)
    assert update.to_fields().items() - PICK.to_fields().items() == {
        ("rev", "1"),
        ("status", "update"),
        ("prob", "0.9000"),
    }
