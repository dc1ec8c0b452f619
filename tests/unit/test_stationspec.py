"""What texts and lists of stations ask for."""

import io

import pytest

from streamer.errors import ConfigError, NoInputError
from streamer.seedid import Nslc
from streamer.stationspec import parse_station_spec

CHANNELS = [
    Nslc.parse(text)
    for text in (
        "CI.PASC.00.HHZ",
        "CI.PASC.10.BHZ",
        "CI.PASC..LCQ",
        "CI.USC..HHN",
        "NO.ARA0..HHZ",
        "IU.KONO.00.BHE",
        "IU.KONO.10.BHN",
        "IU.KONO.00.LHZ",
        "GE.WLF..BHZ",
    )
]


def wanted(*texts, stdin=None):
    spec = parse_station_spec(texts, stdin)
    return [str(nslc) for nslc in CHANNELS if spec.matches(nslc)]


PASC = ["CI.PASC.00.HHZ", "CI.PASC.10.BHZ", "CI.PASC..LCQ"]
KONO = ["IU.KONO.00.BHE", "IU.KONO.10.BHN", "IU.KONO.00.LHZ"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NO", ["NO.ARA0..HHZ"]),
        ("CI.PASC", PASC),
        ("CI.PASC.00", ["CI.PASC.00.HHZ"]),
        ("CI.PASC.*", PASC),
        ("CI.PASC..*", ["CI.PASC..LCQ"]),
        ("CI.PASC.--.*", ["CI.PASC..LCQ"]),
        ("CI.PASC.10.BHZ", ["CI.PASC.10.BHZ"]),
        ("CI.PASC.HHZ", ["CI.PASC.00.HHZ"]),
        ("NO..HH?", ["NO.ARA0..HHZ"]),
        ("*.*.00.[HB]H?", ["CI.PASC.00.HHZ", "IU.KONO.00.BHE"]),
        ("*.*.*.[!HB]*", ["CI.PASC..LCQ", "IU.KONO.00.LHZ"]),
        ("?I.P*", PASC),
        ("CI.USC,GE", ["CI.USC..HHN", "GE.WLF..BHZ"]),
        (" CI.USC , GE ,", ["CI.USC..HHN", "GE.WLF..BHZ"]),
    ],
)
def test_dotted_patterns_leave_out_what_is_any(text, expected):
    assert wanted(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("IU_KONO", KONO),
        ("IU_KONO:BHE BHN,GE_WLF", ["IU.KONO.00.BHE", "IU.KONO.10.BHN", "GE.WLF..BHZ"]),
        ("IU_KONO:00BH?", ["IU.KONO.00.BHE"]),
        ("IU_KONO:00BHE.D", ["IU.KONO.00.BHE"]),
        ("GE_WLF:--BHZ", ["GE.WLF..BHZ"]),
        ("*_*:--HHZ", ["NO.ARA0..HHZ"]),
        ("GE_WLF:??BHZ", []),
        ("IU_KONO:!LH?", ["IU.KONO.00.BHE", "IU.KONO.10.BHN"]),
    ],
)
def test_slinktool_form_selects_location_and_channel(text, expected):
    """`??` in front of a channel stands for two characters: an empty location has none."""
    assert wanted(text) == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["CI", "!CI.PASC"], ["CI.USC..HHN"]),
        (["!CI.PASC", "CI"], ["CI.USC..HHN"]),
        (["CI.PASC.00.HHZ", "!*.*.*.HHZ"], []),
        (["!CI,!NO,!IU_KONO:00BHE"], ["IU.KONO.10.BHN", "IU.KONO.00.LHZ", "GE.WLF..BHZ"]),
    ],
)
def test_negation_takes_away_whatever_the_order(texts, expected):
    assert wanted(*texts) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A.B.C.D.E", "more than four parts"),
        ("ci.pasc", "'ci' cannot be part of a code"),
        ("CI.PA SC", "'PA SC' cannot be"),
        ("CI.PA[SC", r"'PA\[SC' cannot be"),
        ("CI.[]", r"'\[\]' cannot be"),
        ("CI:PASC", "'CI:PASC' cannot be"),
        ("_KONO", "_KONO is not NET_STA"),
        ("IU_KONO_X", "IU_KONO_X is not NET_STA"),
        ("IU_KONO:BHZE1X", "selector 'BHZE1X' is not LLCCC or CCC"),
        ("IU_KONO:BHZ.E", "selector 'BHZ.E'"),
        ("!IU_KONO:!LHZ", "negated twice"),
        ("!", "no part"),
        ("", "no part"),
    ],
)
def test_a_malformed_text_is_named(text, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        parse_station_spec([f"GE,{text}" if text else text])
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("texts", [[], [","]])
def test_asking_for_nothing_is_an_error(texts):
    with pytest.raises(ConfigError, match="no stations are given"):
        parse_station_spec(texts)


STREAM_LIST = """\
# stations of the week
* slarchive comments begin like this

CI PASC 00HHZ 10BHZ.D
IU_KONO 00LHZ
GE WLF
NO.*.*.HHZ
!GE.WLF
"""

STATION_TEXT = """\
#Network | Station | Location | Channel | Latitude | SiteName
CI|PASC||LCQ|34.17|The "Ranch
IU|KONO|10|BHN|59.6|Kongsberg
#Network | Station | Location | Channel | Latitude | SiteName
GE|WLF||BHZ|49.6|Walferdange
"""

XML = """\
<?xml version="1.0" encoding="UTF-8"?>
<FDSNStationXML xmlns="http://www.fdsn.org/xml/station/1" schemaVersion="1.2">
  <Source>test</Source>
  <Network code="CI">
    <Station code="PASC"><Site><Name>x</Name></Site>
      <Channel code="HHZ" locationCode="00"><Response/></Channel>
      <Channel code="LCQ" locationCode="  "/>
    </Station>
    <Station code="USC"/>
  </Network>
  <Network code="NO"/>
</FDSNStationXML>
"""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (STREAM_LIST, ["CI.PASC.00.HHZ", "CI.PASC.10.BHZ", "NO.ARA0..HHZ", "IU.KONO.00.LHZ"]),
        (STATION_TEXT, ["CI.PASC..LCQ", "IU.KONO.10.BHN", "GE.WLF..BHZ"]),
        ("#Network|Station|Latitude\nCI|PASC|34.17\n", PASC),
        ("net,sta,loc,cha\nCI,PASC,,LCQ\nIU,KONO,*,B??\n", ["CI.PASC..LCQ", *KONO[:2]]),
        ('"Station","Network"\n"PASC","CI"\n', PASC),
        (XML, ["CI.PASC.00.HHZ", "CI.PASC..LCQ", "CI.USC..HHN", "NO.ARA0..HHZ"]),
        ("\ufeff" + XML, ["CI.PASC.00.HHZ", "CI.PASC..LCQ", "CI.USC..HHN", "NO.ARA0..HHZ"]),
        ("\ufeffNO\r\nGE\r\n", ["NO.ARA0..HHZ", "GE.WLF..BHZ"]),
    ],
    ids=["stream list", "text", "text of stations", "csv", "csv order", "xml", "xml bom", "bom"],
)
def test_lists_are_recognised_by_their_content(tmp_path, content, expected):
    path = tmp_path / "list"
    path.write_text(content, encoding="utf-8", newline="")
    assert wanted(str(path)) == expected
    assert wanted(f"@{path}") == expected
    assert wanted("-", stdin=io.StringIO(content)) == expected


def test_lists_and_patterns_can_be_joined_by_commas(tmp_path):
    path = tmp_path / "list"
    path.write_text("GE\n")
    assert wanted(f"@{path},NO") == ["NO.ARA0..HHZ", "GE.WLF..BHZ"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("CI PASC\nCI PASC HHZZ1X\n", ":2: selector"),
        ("CI.PASC extra\n", ":1: station pattern 'CI.PASC extra'"),
        ("net,sta\nCI,PASC\nCI,\n", ":3: the row has no network or no station"),
        ("#Network|Station|\nCI|pasc|\n", ":2: 'pasc' cannot be"),
        ("<Inventory></Inventory>", "the XML is Inventory, not FDSNStationXML"),
        ("<FDSNStationXML><Network code='CI'>", "broken XML"),
        ("<FDSNStationXML><Network/></FDSNStationXML>", "no attribute 'code'"),
        (b"\x00\xff\x80", "neither text nor StationXML"),
        ("", "no stations are given"),
    ],
)
def test_a_bad_list_is_named_with_its_line(tmp_path, content, reason):
    path = tmp_path / "list"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        parse_station_spec([str(path)])
    assert reason in str(caught.value)


@pytest.mark.parametrize("text", ["@missing", "some/where.xml", "@NO"])
def test_a_list_that_is_not_there_is_no_input(text):
    with pytest.raises(NoInputError, match="no such file"):
        parse_station_spec([text])


def test_a_text_longer_than_a_path_may_be_is_still_a_pattern():
    """`Path.is_file` raises on names beyond the limit of the file system."""
    many = ",".join(f"XX.S{n:04d}" for n in range(1000))
    assert len(parse_station_spec([many]).patterns) == 1000


def test_str_can_be_parsed_again():
    spec = parse_station_spec(["CI.PASC", "IU_KONO:--BH?", "!GE.*.00.[HB]HZ"])
    assert str(spec) == "CI.PASC.*.*,IU.KONO..BH?,!GE.*.00.[HB]HZ"
    assert parse_station_spec([str(spec)]) == spec


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("CI.PASQ", ["CI.PASC", "CI.USC"]),
        ("CI.PASC.00.HHQ", ["CI.PASC.00.HHZ", "CI.PASC.10.BHZ"]),
        ("*_KON", ["IU.KONO"]),
    ],
)
def test_nearest_names_are_cut_to_the_codes_that_were_asked_for(text, nearest):
    names = [str(nslc) for nslc in CHANNELS]
    assert parse_station_spec([text]).nearest(names, n=len(nearest)) == nearest
