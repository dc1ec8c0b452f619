"""The checkpoint file: whole or not at all, put aside if it cannot be used."""

import asyncio
import json
from collections.abc import MutableMapping
from math import inf
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from model.onsets import Onset
from streamer.checkpoint import (
    ASIDE,
    NAME,
    VERSION,
    Checkpoint,
    Keeper,
    load_checkpoint,
    save_checkpoint,
)
from streamer.picking.judged import Judged
from streamer.picks import Pick
from streamer.seedlink.state import Ledger, Position

PICK = Pick(
    id="XX.A..HH.P.20200913T122640.000.abcdef", rev=1, status="update", final=0,
    net="XX", sta="A", loc="", cha="HHZ", phase="P", t_ns=1_600_000_000_000_000_000, prob=0.9125,
    model="test@1", model_sha="01234567", cfg="89abcdef", agency="XX", author="test",
    data_ns=1_600_000_001_000_000_000, made_ns=0, n_comp=3,
)  # fmt: skip
JUDGED = Judged(
    time_ns=1_600_000_000_000_000_000,
    rate="100",
    flushed_ns=1_500_000_000_000_000_000,
    settled=(160_000_000_123.25, -inf),
    free_from=(160_000_000_174, 0),
    published=((0, 160_000_000_123.25),),
    vacated=((PICK.id, 160_000_000_050.5),),
    provisional=((Onset(0, 160_000_000_200.125, 0.91), PICK),),
)
CHECKPOINT = Checkpoint(
    positions={
        "a:18000": {"XX_A": Position(7, 12), "XX_B": Position(0xFFFFFF, None)},
        "b": {"XX_C": Position(None, 5)},
    },
    started={"a:18000": "2026-11-26T00:00:00Z"},
    judged={"XX.A..HH": JUDGED, "XX.B.00.EH": Judged(time_ns=3, rate="1000/3")},
    told=7,
)


def test_what_was_written_is_read_back(tmp_path: Path):
    save_checkpoint(tmp_path, CHECKPOINT, 0)
    assert load_checkpoint(tmp_path) == CHECKPOINT
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_what_the_spool_knows_of_an_instrument_counts_for_it_alone():
    later = Judged(time_ns=9, rate="100", flushed_ns=8)
    joined = CHECKPOINT.joined({"XX.A..HH": later.to_json(), "XX.C..HH": later.to_json()})
    assert joined.judged == {**CHECKPOINT.judged, "XX.A..HH": later, "XX.C..HH": later}
    assert joined.positions == CHECKPOINT.positions


@pytest.mark.parametrize("state", [None, [], {}, {"time_ns": "x", "rate": "1"}])
def test_a_state_of_the_spool_that_cannot_be_used_is_told_and_left(state: object):
    with capture_logs() as lines:
        joined = CHECKPOINT.joined({"XX.A..HH": state})
    assert joined == CHECKPOINT
    assert [line["event"] for line in lines] == ["checkpoint_unusable"]


def test_without_a_checkpoint_the_daemon_begins_as_if_new(tmp_path: Path):
    assert load_checkpoint(tmp_path) == load_checkpoint(tmp_path / "nowhere") == Checkpoint()


DAMAGED = [
    b"",
    b"{",
    b"\x00" * 500,
    b"[]",
    b"null",
    b'"text"',
    b"[" * 100_000,
    b'{"version": 1}',
    json.dumps({"version": VERSION + 1, "positions": {}, "judged": {}}).encode(),
    json.dumps(
        {"version": VERSION, "positions": {"a": {"b": [1]}}, "started": {}, "judged": {}}
    ).encode(),
    json.dumps({"version": VERSION, "positions": [], "judged": {}}).encode(),
    json.dumps(
        {"version": VERSION, "positions": {}, "started": {}, "judged": {"a": {"rate": "1"}}}
    ).encode(),
    json.dumps(
        {"version": VERSION, "positions": {}, "started": {}, "judged": {"a": None}}
    ).encode(),
    b'{"version": 1, "positions": {}, "started": {}, '
    b'"judged": {"a": {"time_ns": 1e999, "rate": "1"}}}',
]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_checkpoint_that_cannot_be_used_is_put_aside_and_told(tmp_path: Path, content: bytes):
    (tmp_path / NAME).write_bytes(content)
    with capture_logs() as lines:
        assert load_checkpoint(tmp_path) == Checkpoint()
    assert [line["event"] for line in lines] == ["checkpoint_unusable"]
    assert (tmp_path / ASIDE).read_bytes() == content
    assert not (tmp_path / NAME).exists()


def test_a_file_cut_anywhere_is_put_aside(tmp_path: Path):
    save_checkpoint(tmp_path, CHECKPOINT, 0)
    whole = (tmp_path / NAME).read_bytes()
    for length in range(0, len(whole), 17):
        (tmp_path / NAME).write_bytes(whole[:length])
        assert load_checkpoint(tmp_path) == Checkpoint()


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch):
    save_checkpoint(tmp_path, CHECKPOINT, 0)

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, Checkpoint(), 0)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path) == CHECKPOINT


class StillEngine:
    """An engine without stations, in the state of a checkpoint."""

    def __init__(self, **gaps_s: float) -> None:
        self.gaps_s = gaps_s

    def judged(self) -> dict[str, Judged]:
        return dict(CHECKPOINT.judged)

    def take_restart_gaps(self) -> dict[str, float]:
        gaps, self.gaps_s = self.gaps_s, {}
        return gaps


class Gate:
    """Picks that are safe once it is opened."""

    told = 7

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def secure(self) -> None:
        await self.opened.wait()


def test_nothing_is_written_before_the_picks_are_safe(tmp_path: Path):
    async def scenario() -> None:
        gate = Gate()
        keeper = Keeper(
            tmp_path,
            StillEngine(),
            Ledger(CHECKPOINT.positions, CHECKPOINT.started),
            gate,
            lambda: 0,
        )
        keeping = asyncio.create_task(keeper.keep())
        await asyncio.sleep(0)
        assert not (tmp_path / NAME).exists()
        gate.opened.set()
        assert await keeping
        assert load_checkpoint(tmp_path) == CHECKPOINT

    asyncio.run(scenario())


def test_a_disk_that_refuses_is_told_once_and_tried_again(tmp_path: Path):
    folder = tmp_path / "state"

    async def scenario() -> list[str]:
        gate = Gate()
        gate.opened.set()
        keeper = Keeper(folder, StillEngine(), Ledger({}, {}), gate, lambda: 0)
        with capture_logs() as lines:
            assert not await keeper.keep()
            assert not await keeper.keep()
            folder.mkdir()
            assert await keeper.keep()
            assert await keeper.keep()
        assert keeper.counts == {"checkpoints_failed": 2, "checkpoints": 2}
        return [line["event"] for line in lines]

    assert asyncio.run(scenario()) == ["checkpoint_failed", "checkpoint_written"]


def test_a_disk_that_hangs_does_not_hold_up_the_shutdown(tmp_path: Path):
    async def scenario() -> None:
        keeper = Keeper(tmp_path, StillEngine(), Ledger({}, {}), Gate(), lambda: 0)
        await keeper.close(0.01)
        assert keeper.counts["checkpoints_failed"] == 1

    asyncio.run(scenario())


def test_data_that_a_server_no_longer_has_are_told_once_for_all_stations(tmp_path: Path):
    async def scenario() -> list[MutableMapping[str, object]]:
        gate = Gate()
        gate.opened.set()
        engine = StillEngine(short=2.0, long=40.0)
        keeper = Keeper(tmp_path, engine, Ledger({}, {}), gate, lambda: 0)
        with capture_logs() as lines:
            await keeper.keep()
            await keeper.keep()
        return lines

    (line,) = asyncio.run(scenario())
    assert line["event"] == "restart_gap"
    assert (line["stations"], line["longest_s"], line["names"]) == (2, 40.0, ["long", "short"])
