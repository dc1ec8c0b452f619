"""`msnet-stream stations`: what would be asked of which server."""

import asyncio
import csv
import io
import json
from pathlib import Path

import click.testing
import pytest
from bad_peer import BadPeer, Script, archive

from streamer.cli import main

RECORDS = archive(20)
NORMAL = Script()


def stations(*arguments: str, script: Script = NORMAL) -> click.testing.Result:
    """The command against a server of three stations; SERVER stands for its address."""

    async def scene() -> click.testing.Result:
        async with BadPeer(RECORDS, script) as peer:
            words = [word.replace("SERVER", f"127.0.0.1:{peer.port}") for word in arguments]
            runner = click.testing.CliRunner()
            return await asyncio.to_thread(runner.invoke, main, ["stations", *words])

    return asyncio.run(scene())


@pytest.mark.parametrize(("version", "selector"), [("3", "--HHZ"), ("4", "_H_H_Z")])
def test_each_channel_is_listed_with_its_selector(
    version: str, selector: str, tmp_path: Path
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"seedlink: {{protocol: '{version}'}}\n")
    common = ("-c", str(config), "--server", "SERVER", "--stations", "CX.PB01..HH?,GE")
    rows = json.loads(stations(*common, "--format", "json").stdout)
    names = ["CX.PB01..HHN", "CX.PB01..HHZ", "GE.WLF.10.EHZ"]
    codes = ("network", "station", "location", "channel")
    assert [".".join(row[code] for code in codes) for row in rows] == names
    assert (rows[1]["protocol"], rows[1]["selector"]) == (version, selector)
    in_csv = csv.DictReader(io.StringIO(stations(*common, "--format", "csv").stdout))
    assert [row["selector"] for row in in_csv] == [row["selector"] for row in rows]


def test_the_table_has_a_line_per_station_and_without_patterns_all_of_them() -> None:
    result = stations("--server", "SERVER")
    lines = [line for line in result.stdout.splitlines() if "127.0.0.1" in line]
    assert [line.split()[5] for line in lines] == ["CX_PB01", "CX_PB02", "GE_WLF"]
    assert "_H_H_N _H_H_Z" in lines[0]


def test_no_match_names_the_nearest_station() -> None:
    result = stations("--server", "SERVER", "--stations", "CX.PB03")
    assert result.exit_code == 78
    assert "no channel that matches --stations CX.PB03" in result.stderr
    assert "nearest: CX.PB01, CX.PB02" in result.stderr


def test_a_server_that_is_away_is_told_and_the_others_are_listed() -> None:
    result = stations("--server", "127.0.0.1:1,SERVER", "--stations", "GE")
    assert result.exit_code == 0
    assert "warning: 127.0.0.1:1 cannot be used" in result.stderr
    assert "GE_WLF" in result.stdout
    assert stations("--server", "127.0.0.1:1").exit_code == 69
    assert stations().exit_code == 78


def test_a_server_that_refuses_the_narrow_question_is_asked_for_all() -> None:
    """Version 4 is asked for the network only; not every server can do that."""
    script = Script(refuse=(r"INFO STREAMS .+",))
    result = stations("--server", "SERVER", "--stations", "GE", script=script)
    assert "GE_WLF" in result.stdout


def test_a_server_that_tells_nothing_is_asked_for_what_is_named() -> None:
    script = Script(refuse=(r"INFO STREAMS.*",))
    named = stations("--server", "SERVER", "--stations", "CX.PB01..HHZ", script=script)
    assert "_H_H_Z" in named.stdout
    wild = stations("--server", "SERVER", "--stations", "CX.*", script=script)
    assert wild.exit_code == 69
    assert "refuses INFO STREAMS" in wild.stderr
