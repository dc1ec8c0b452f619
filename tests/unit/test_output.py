"""Picks for people and programs."""

import csv
import io
import json
from dataclasses import replace

import pytest
from bus_picks import make_pick

from streamer.errors import CannotCreateError
from streamer.output import CSV_COLUMNS, open_output, pick_table, write_picks
from streamer.picks import Pick

PICK = make_pick(
    7,
    t_ns=1_600_000_000_120_000_000,
    prob=0.87654,
    author="me, myself",
    made_ns=1_600_000_011_000_000_000,
    n_comp=3,
)
S_PICK = replace(PICK, id="s", phase="S", cha="HHN", qual="gap", snr=3.5, n_comp=None)


def written(pick_format: str, picks: list[Pick]) -> str:
    output = io.StringIO()
    write_picks(picks, pick_format, output)
    return output.getvalue()


def test_a_json_line_is_the_message_of_the_redis_stream():
    """Flat text fields of msnet.pick/1; what is absent is left out."""
    lines = written("jsonl", [PICK, S_PICK]).splitlines()
    assert [json.loads(line) for line in lines] == [PICK.to_fields(), S_PICK.to_fields()]
    assert json.loads(lines[0]) == {
        "v": "1",
        "id": "CI.PASC.00.HH.P.20261122T000007.000.abcdef",
        "rev": "0",
        "status": "new",
        "net": "CI",
        "sta": "PASC",
        "loc": "00",
        "cha": "HHZ",
        "phase": "P",
        "time": "2020-09-13T12:26:40.120000Z",
        "t_ns": "1600000000120000000",
        "prob": "0.8765",
        "model": "msnet/test@1",
        "model_sha": "01234567",
        "cfg": "89abcdef",
        "agency": "XX",
        "author": "me, myself",
        "data_ns": "1700000001000000000",
        "made_ns": "1600000011000000000",
        "final": "1",
        "n_comp": "3",
    }


def test_a_json_line_reads_back_as_the_pick():
    picks = [Pick.from_fields(json.loads(line)) for line in written("jsonl", [S_PICK]).splitlines()]
    assert picks == [replace(S_PICK, prob=0.8765)]


def test_csv_has_a_column_for_every_field_and_the_same_texts():
    text = written("csv", [PICK, S_PICK])
    assert "\r" not in text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == CSV_COLUMNS
    for row, pick in zip(rows, [PICK, S_PICK], strict=True):
        assert {name: value for name, value in row.items() if value} == pick.to_fields()


def test_csv_of_no_picks_still_has_its_header():
    assert written("csv", []).splitlines() == [",".join(CSV_COLUMNS)]
    assert written("jsonl", []) == ""


def test_the_table_shows_time_channel_phase_probability_and_quality():
    rows = written("table", [PICK, S_PICK]).splitlines()
    (p_row,) = [row for row in rows if "HHZ" in row]
    (s_row,) = [row for row in rows if "HHN" in row]
    cells = [cell.strip() for cell in p_row.strip("│ ").split("│")]
    assert cells[:4] == ["2020-09-13 12:26:40.120", "CI.PASC.00.HHZ", "P", "0.88"]
    assert "gap" in s_row
    assert "gap" not in p_row
    assert pick_table([PICK, S_PICK], "title").row_count == 2


def test_output_goes_to_the_named_file_or_to_standard_output(tmp_path):
    standard = io.StringIO()
    with open_output(None, standard) as output:
        assert output is standard
    assert not standard.closed
    with open_output(tmp_path / "picks.csv", standard) as output:
        write_picks([PICK], "csv", output)
    assert (tmp_path / "picks.csv").read_text() == written("csv", [PICK])


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(CannotCreateError, match=r"no/picks\.csv"):
        open_output(tmp_path / "no" / "picks.csv", io.StringIO())
