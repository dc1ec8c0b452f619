"""Where sensors are and what a count means: three kinds of files, epochs, and what is refused."""

import warnings

import pytest

from streamer.errors import DataError, NoInputError
from streamer.seedid import Nslc
from streamer.timebase import parse_iso
from streamer.waveforms.inventory import NO_INVENTORY, Place, read_inventory

NSLC = Nslc.parse("XX.A.00.HHZ")
T_NS = parse_iso("2020-06-01")
FDSN = """#Network|Station|Location|Channel|Latitude|Longitude|Elevation|Depth|Azimuth|Dip\
|SensorDescription|Scale|ScaleFreq|ScaleUnits|SampleRate|StartTime|EndTime
XX|A|00|HHZ|45.5|6.25|1200.0|2.0|0.0|-90.0|sensor|4.0e8|1.0|M/S|100.0|2015-01-01T00:00:00|2020-01-01T00:00:00
XX|A|00|HHZ|45.5|6.25|1200.0|2.0|0.0|-90.0|sensor|8.0e8|1.0|m/s|100.0|2020-01-01T00:00:00|
XX|A|--|BHZ|45.6|6.25|1200.0|2.0|0.0|-90.0|sensor|3.0e5|1.0|V|100.0|2020-01-01T00:00:00|
"""


def station_xml() -> str:
    """Two epochs of one channel, and a station whose channels are not named."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of obspy, about its own plugins
        import obspy
        from obspy.core import inventory as obs
    sensitivity = obs.response.InstrumentSensitivity(
        value=2e8, frequency=1.0, input_units="M/S", output_units="COUNTS"
    )
    place = {"latitude": 45.5, "longitude": 6.25, "elevation": 1200.0, "depth": 2.0}
    epochs = [
        obs.Channel(
            code="HHZ",
            location_code="00",
            **place,
            start_date=start,
            end_date=end,
            response=obs.response.Response(instrument_sensitivity=sensitivity),
        )
        for start, end in (("2015-01-01", "2020-01-01"), ("2020-01-01", None))
        for start, end in [(obspy.UTCDateTime(start), end and obspy.UTCDateTime(end))]
    ]
    epochs[1].latitude = 45.75
    bare = {"latitude": 46.0, "longitude": 7.0, "elevation": 10.0}
    stations = [
        obs.Station(code="A", latitude=1, longitude=1, elevation=1, channels=epochs),
        obs.Station(code="B", **bare),
    ]
    return obs.Inventory(networks=[obs.Network(code="XX", stations=stations)])


def test_station_xml_gives_place_and_gain_by_epoch(tmp_path):
    path = tmp_path / "stations.xml"
    station_xml().write(str(path), format="STATIONXML")
    inventory = read_inventory([path])
    now = inventory.find(NSLC, T_NS)
    assert now == Place(45.75, 6.25, 1200.0, 2e8, "m/s")
    assert inventory.find(NSLC, parse_iso("2016-01-01")).lat == 45.5
    assert inventory.find(NSLC, parse_iso("2014-01-01")) == Place()
    assert inventory.find(Nslc.parse("XX.B..EHN"), T_NS) == Place(46.0, 7.0, 10.0)


def test_fdsn_text_gives_place_and_gain_by_epoch(tmp_path):
    path = tmp_path / "channels.txt"
    path.write_text(FDSN)
    inventory = read_inventory([path])
    assert inventory.find(NSLC, parse_iso("2019-12-31T23:59:59")).gain == 4e8
    assert inventory.find(NSLC, parse_iso("2020-01-01")) == Place(45.5, 6.25, 1200.0, 8e8, "m/s")
    volts = inventory.find(Nslc.parse("XX.A..BHZ"), T_NS)
    assert (volts.lat, volts.gain, volts.unit) == (45.6, None, "counts")


def test_a_csv_table_gives_stations_and_channels(tmp_path):
    path = tmp_path / "stations.csv"
    path.write_text(
        "net, sta, loc, cha, lat, lon, elev_m, gain, unit\n"
        "XX, A, , , 45.5, 6.25, 1200, ,\nXX, A, 00, HHZ, 45.5, 6.26, -300, 1e9, m/s**2\n"
    )
    inventory = read_inventory([path])
    assert inventory.find(NSLC, T_NS) == Place(45.5, 6.26, -300.0, 1e9, "m/s^2")
    assert inventory.find(Nslc.parse("XX.A.10.EHZ"), T_NS) == Place(45.5, 6.25, 1200.0)
    path.write_text("network,station,latitude,longitude,elev_km\nXX,A,45.5,6.25,1.2\n")
    assert read_inventory([path]).find(NSLC, T_NS) == Place(45.5, 6.25, 1200.0)


def test_later_files_add_to_earlier_ones_and_what_is_unknown_is_nowhere(tmp_path):
    for name in "AB":
        (tmp_path / name).write_text(f"net,sta,lat,lon\nXX,{name},1,2\n")
    inventory = read_inventory([tmp_path / "A", tmp_path / "B"])
    assert [inventory.find(Nslc("XX", s, "", "HHZ"), T_NS).lat for s in "ABC"] == [1, 1, None]
    assert NO_INVENTORY.find(NSLC, T_NS) == Place()


def test_an_amplitude_is_in_ground_units_where_the_gain_is_known():
    assert Place(gain=4e8, ground_unit="m/s").ground(8e8) == 2
    assert Place().ground(5.0) == 5.0
    assert Place().unit == "counts"
    assert Place(gain=4e8, ground_unit="m/s").ground(None) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "net,sta\nXX,A\n",
        "net,sta,lat,lon\n",
        "net,sta,lat,lon\nXX,A,north,2\n",
        "net,sta,lat,lon\nXX,A,91,2\n",
        "net,sta,lat,lon\n,A,1,2\n",
        "<FDSNStationXML>",
        "\x00\x01",
    ],
)
def test_what_is_no_inventory_is_refused_with_the_name_of_the_file(tmp_path, text):
    path = tmp_path / "stations"
    path.write_text(text)
    with pytest.raises(DataError, match=str(path)):
        read_inventory([path])
    path.write_bytes(b"net,sta\xff")
    with pytest.raises(DataError, match=str(path)):
        read_inventory([path])


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(NoInputError, match="nowhere"):
        read_inventory([tmp_path / "nowhere.xml"])
