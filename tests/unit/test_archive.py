"""Files -> records: finding, reading, rejecting, packing."""

import os
import struct
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import structlog
from pymseed import DataEncoding, MS3Record

from streamer.errors import DataError, NoInputError
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S, parse_iso
from streamer.waveforms.archive import find_files, pack, read_archive, read_records
from streamer.waveforms.records import Record, decode, decode_header, encode, read_file

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # obspy's import uses deprecated functions of Python
    from obspy import Stream, Trace, UTCDateTime

HHZ = Nslc.parse("CX.PB01..HHZ")
START_NS = parse_iso("2020-02-29T23:59:30Z")
RATE = Fraction(100)


def record(count: int = 3000, start_ns: int = START_NS, nslc: Nslc = HHZ) -> Record:
    samples = np.random.default_rng(count).integers(-3000, 3000, count).astype(np.int32)
    return Record(nslc, start_ns, RATE, samples)


def miniseed(path: Path, *records: Record, record_bytes: int = 512) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(data for each in records for data in encode(each, record_bytes)))
    return path


def trace(data: np.ndarray, **header: object) -> Trace:
    codes = {"network": "GE", "station": "WLF", "location": "", "channel": "BHZ"}
    fixed = {"starttime": UTCDateTime(ns=START_NS), "sampling_rate": 50.0}
    return Trace(data, {**codes, **fixed, **header})


def joined(records: list[Record]) -> np.ndarray:
    return np.concatenate([each.samples for each in records])


# --- find_files -----------------------------------------------------------------------------------


def test_folders_sds_trees_globs_and_links_give_each_file_once(tmp_path: Path) -> None:
    """Whatever ways lead to a file, it is read once; the order is that of the names."""
    sds = tmp_path / "2020" / "CX" / "PB01" / "HHZ.D" / "CX.PB01..HHZ.D.2020.060"
    other = miniseed(tmp_path / "b.mseed", record(10))
    miniseed(sds, record(10))
    (tmp_path / ".hidden").write_bytes(b"x")
    (tmp_path / "z-link").symlink_to(other)
    ways = [tmp_path, str(tmp_path / "*.mseed"), other, tmp_path / "2020" / ".." / "b.mseed"]
    assert find_files(ways) == [sds, other]
    assert find_files([str(tmp_path / "**" / "*.060")]) == [sds]


def test_a_path_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    """A missing file, an empty folder and a pattern without a match each raise, with their name."""
    (tmp_path / "empty").mkdir()
    for name in ("missing.mseed", "empty", "*.sac"):
        with pytest.raises(NoInputError, match=name.replace("*", r"\*")):
            find_files([tmp_path / name])


# --- read_records ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["SLIST", "TSPAIR", "GSE2", "SAC", "SU", "MSEED"])
def test_other_formats_give_the_same_samples(tmp_path: Path, form: str) -> None:
    """Text, binary integer and float formats: samples, rate and start time survive."""
    data = np.random.default_rng(1).integers(-3000, 3000, 500).astype(np.int32)
    if form in ("SAC", "SU"):
        data = data.astype(np.float32)
    path = tmp_path / f"file.{form}"
    original = trace(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SU has no room for codes
        Stream([original]).write(str(path), format=form)
    if form == "SU":
        with pytest.raises(DataError, match=r"file\.SU"):
            list(read_records(path))
        return
    (got,) = read_records(path)
    np.testing.assert_array_equal(got.samples, data)
    assert got.samples.dtype == data.dtype
    assert (got.start_ns, got.rate) == (START_NS, 50)
    assert got.nslc == Nslc("GE", "WLF", "", "BHZ")


def test_files_without_a_network_code_get_the_code_for_test_data(tmp_path: Path) -> None:
    """Many SAC and GSE files have none; a station needs one to be asked for."""
    path = tmp_path / "a.sac"
    trace(np.arange(100, dtype=np.float32), network="").write(str(path), format="SAC")
    (got,) = read_records(path)
    assert str(got.nslc) == "XX.WLF..BHZ"


def test_compressed_text_file_of_the_name_with_brackets(tmp_path: Path) -> None:
    """obspy unpacks .gz; brackets in a name are no pattern."""
    import gzip

    plain = tmp_path / "plain"
    Stream([trace(np.arange(100, dtype=np.int32))]).write(str(plain), format="SLIST")
    path = tmp_path / "a[1].slist.gz"
    path.write_bytes(gzip.compress(plain.read_bytes()))
    (got,) = read_records(path)
    np.testing.assert_array_equal(got.samples, np.arange(100))


def test_gaps_of_other_formats_end_a_record(tmp_path: Path) -> None:
    """Two traces of one channel with a hole stay two records with their own times."""
    later = trace(np.arange(50, dtype=np.int32), starttime=UTCDateTime(ns=START_NS) + 10)
    path = tmp_path / "gappy.slist"
    Stream([trace(np.arange(100, dtype=np.int32)), later]).write(str(path), format="SLIST")
    got = list(read_records(path))
    assert [(each.start_ns - START_NS, len(each.samples)) for each in got] == [
        (0, 100),
        (10 * NS_PER_S, 50),
    ]


def test_a_file_of_formats_that_run_code_is_not_opened(tmp_path: Path) -> None:
    """A pickle is not unpickled to find out what it is."""
    path = tmp_path / "evil"
    marker = tmp_path / "ran"
    path.write_bytes(b"cos\nmkdir\n(S'" + os.fsencode(marker) + b"'\ntR.")
    with pytest.raises(DataError, match="evil"):
        list(read_records(path))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "content", "advice"),
    [
        ("empty.mseed", b"", "fetch it again"),
        ("notes.txt", b"nothing seismic here\n" * 50, "leave it out"),
        ("half.mseed", encode(record())[0][:300], "leave it out"),
    ],
)
def test_a_file_without_anything_readable_is_named(
    tmp_path: Path, name: str, content: bytes, advice: str
) -> None:
    """Empty, foreign and cut-off files: one error with the name and what to do."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{name}.*{advice}"):
        list(read_records(path))


def test_an_unreadable_file_is_a_missing_input(tmp_path: Path) -> None:
    """What the system refuses to open is told with its reason."""
    with pytest.raises(NoInputError, match="No such file"):
        list(read_records(tmp_path / "gone.mseed"))


@pytest.mark.parametrize(
    ("damage", "lost", "rejections"),
    [
        ("header", {2}, 1),
        ("steim", {2}, 1),
        ("day 999", {2}, 1),
        ("length", {2}, 1),
        ("foreign bytes", set(), 1),
        ("cut end", {9}, 1),
        ("two headers", {2, 5}, 2),
    ],
)
def test_one_broken_record_costs_only_itself(
    tmp_path: Path, damage: str, lost: set[int], rejections: int
) -> None:
    """The rest of the file is read; each rejection is told and all are logged in one warning."""
    records = encode(record(5000))[:10]
    broken = [bytearray(data) for data in records]
    if damage == "header":
        broken[2][:40] = b"\xff" * 40
    elif damage == "steim":
        broken[2][64:512] = b"\x55" * 448
    elif damage == "day 999":
        broken[2][22:24] = struct.pack(">H", 999)
    elif damage == "length":
        broken[2][54] = 19  # claims 2**19 bytes, more than the file has
    elif damage == "foreign bytes":
        broken[2][:0] = b"noise" * 123
    elif damage == "cut end":
        del broken[9][400:]
    else:
        broken[2][:40] = broken[5][:40] = b"\0" * 40
    path = tmp_path / "damaged.mseed"
    path.write_bytes(b"".join(broken))
    reasons: list[str] = []
    with structlog.testing.capture_logs() as logs:
        got = list(read_records(path, reasons.append))
    kept = [decode(data) for number, data in enumerate(records) if number not in lost]
    assert [each.start_ns for each in got] == [each.start_ns for each in kept]
    np.testing.assert_array_equal(joined(got), joined(kept))
    assert len(reasons) == rejections
    assert all("damaged.mseed: byte " in reason for reason in reasons)
    (warning,) = logs
    assert (warning["event"], warning["count"]) == ("record_rejected", rejections)


def test_read_file_stays_strict(tmp_path: Path) -> None:
    """Without a place for rejections, the first broken record raises."""
    records = [bytearray(data) for data in encode(record())]
    records[1][:40] = b"\0" * 40
    path = tmp_path / "damaged.mseed"
    path.write_bytes(b"".join(records))
    reading = read_file(path)
    next(reading)
    with pytest.raises(DataError, match="byte 512"):
        next(reading)


def test_a_useless_file_in_a_folder_is_rejected_but_named_ones_raise(tmp_path: Path) -> None:
    """README files lie in archives; a file that was asked for by name must be readable."""
    path = miniseed(tmp_path / "a.mseed", record())
    notes = tmp_path / "README.md"
    notes.write_text("about these data\n")
    reasons: list[str] = []
    read = list(read_archive([tmp_path], reasons.append))
    assert {source for source, _ in read} == {path}
    assert len(reasons) == 1
    assert "README.md" in reasons[0]
    with pytest.raises(DataError, match=r"README\.md"):
        list(read_archive([path, notes]))
    path.unlink()
    with pytest.raises(DataError, match="no waveforms in any of 1 files"):
        list(read_archive([tmp_path]))


# --- encode and pack ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "samples",
    [
        np.array([0, 2**31 - 1, -(2**31), 5], dtype=np.int32),
        np.array([0, 2**29 - 1, 0, -(2**29) + 1], dtype=np.int32),
        np.array([0, 2**29, 0, -(2**29)], dtype=np.int32),
        np.array([0.5, -1e30, 3.0], dtype=np.float32),
        np.array([0.1, -1e300, 3.0], dtype=np.float64),
        np.arange(100_000, dtype=np.int32) ** 2 % 9973,
    ],
)
def test_any_samples_survive_encoding(samples: np.ndarray) -> None:
    """Differences beyond the 30 bits of Steim2 and floats too, in records of 512 bytes."""
    records = encode(Record(HHZ, START_NS, RATE, samples))
    assert {len(data) for data in records} == {512}
    got = [decode(data) for data in records]
    np.testing.assert_array_equal(joined(got), samples)
    assert joined(got).dtype == samples.dtype
    assert [each.start_ns for each in got[1:]] == [each.end_ns for each in got[:-1]]


def test_codes_that_miniseed_2_cannot_hold_are_refused() -> None:
    """A channel code of four letters has no room; the message names the channel."""
    with pytest.raises(DataError, match="LONG"):
        encode(record(10, nslc=Nslc("XX", "STA", "", "LONG")))


def test_records_of_512_bytes_pass_byte_for_byte_by_start_time(tmp_path: Path) -> None:
    """Files in any order; equal start times keep the order of the files."""
    late = miniseed(tmp_path / "a", record(2000, START_NS + 60 * NS_PER_S))
    early = miniseed(tmp_path / "b", record(2000, nslc=Nslc.parse("CX.PB02..HHZ")))
    packed = pack([tmp_path])
    assert b"".join(each.data for each in packed) == early.read_bytes() + late.read_bytes()
    for each in packed:
        assert (each.nslc, each.start_ns, each.end_ns) == decode_header(each.data)


@pytest.mark.parametrize("record_bytes", [128, 4096])
def test_other_record_lengths_are_encoded_anew(tmp_path: Path, record_bytes: int) -> None:
    """Samples and times stay, the length becomes 512 bytes."""
    path = miniseed(tmp_path / "a.mseed", record(20_000), record_bytes=record_bytes)
    packed = pack([path])
    assert {len(each.data) for each in packed} == {512}
    np.testing.assert_array_equal(
        joined([decode(each.data) for each in packed]), record(20_000).samples
    )


def test_miniseed_3_becomes_miniseed_2(tmp_path: Path) -> None:
    """SeedLink v3 clients know version 2 only; codes, times and samples stay."""
    template = MS3Record(reclen=512, encoding=DataEncoding.STEIM2)
    template.formatversion = 3
    template.sourceid = "FDSN:CX_PB01__H_H_Z"
    template.starttime = START_NS
    template.samprate = 100.0
    template.extra = '{"FDSN":{"Time":{"Quality":100}}}'
    path = tmp_path / "a.mseed3"
    path.write_bytes(b"".join(template.generate(record().samples, "i")))
    packed = pack([path])
    assert {(each.nslc, len(each.data), each.data[6:7]) for each in packed} == {(HHZ, 512, b"D")}
    assert packed[0].start_ns == START_NS
    np.testing.assert_array_equal(joined([decode(each.data) for each in packed]), record().samples)


@pytest.mark.parametrize("record_seconds", [0.01, 0.5, 1.0, 7.3, 100.0])
def test_record_seconds_cut_and_join(tmp_path: Path, record_seconds: float) -> None:
    """Pieces are of that length, or several records make one up; gaps stay gaps."""
    parts = [record(1234), record(777, START_NS + 100 * NS_PER_S)]
    packed = pack([miniseed(tmp_path / "a.mseed", *parts)], record_seconds)
    got = [decode(each.data) for each in packed]
    np.testing.assert_array_equal(joined(got), joined(parts))
    assert max(len(each.samples) for each in got) <= round(record_seconds * 100)
    ends = [each.end_ns for each in got[:-1]]
    gaps = [b.start_ns - a for a, b in zip(ends, got[1:], strict=True) if b.start_ns != a]
    assert gaps == [100 * NS_PER_S - 1234 * 10_000_000]
    if record_seconds <= 1:
        assert sum(len(each.samples) == round(record_seconds * 100) for each in got) >= len(got) - 2


def test_cutting_keeps_the_clock_of_each_source_record(tmp_path: Path) -> None:
    """A record that comes 4 ms late moves the pieces that begin in it, and no others."""
    jitter_ns = 4_000_000
    parts = [record(100), record(100, START_NS + NS_PER_S + jitter_ns)]
    packed = pack([miniseed(tmp_path / "a.mseed", *parts)], record_seconds=0.3)
    starts_ns = [each.start_ns - START_NS for each in packed]
    assert starts_ns == [
        *(n * 300_000_000 for n in range(4)),
        *(n * 300_000_000 + jitter_ns for n in range(4, 7)),
    ]


def test_record_seconds_must_be_positive(tmp_path: Path) -> None:
    """Zero, negative and not-a-number lengths are refused before anything is read."""
    for value in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="positive"):
            pack([tmp_path], value)


def test_a_channel_that_cannot_be_packed_does_not_stop_the_others(tmp_path: Path) -> None:
    """A one-letter channel code of a text file is told and left out."""
    Stream([trace(np.arange(100, dtype=np.int32), channel="Z")]).write(
        str(tmp_path / "z.slist"), format="SLIST"
    )
    miniseed(tmp_path / "a.mseed", record(100))
    reasons: list[str] = []
    assert {each.nslc for each in pack([tmp_path], on_reject=reasons.append)} == {HHZ}
    assert len(reasons) == 1
    assert "GE.WLF..Z" in reasons[0]


def test_real_recordings_read_as_obspy_reads_them(shared_data: Path) -> None:
    """Steim2 records of four recorders: samples, codes and times equal obspy's."""
    from obspy import read

    for path in sorted((shared_data / "waveforms" / "guadeloupe_2010").glob("*.mseed")):
        expected = read(path).merge(-1)
        got: dict[str, list[Record]] = {}
        for each in read_records(path):
            got.setdefault(str(each.nslc), []).append(each)
        assert sorted(got) == sorted(each.id for each in expected)
        for each in expected:
            np.testing.assert_array_equal(joined(got[each.id]), each.data)
            assert abs(got[each.id][0].start_ns - each.stats.starttime.ns) <= 1000
