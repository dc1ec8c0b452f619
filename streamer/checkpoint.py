"""What a restart goes on from: `checkpoint.json` in the state folder.

It holds positions of the SeedLink servers and how far each instrument was judged. Both are of one
moment, and it is written only when all picks made up to then
are in the spool. So the data behind the positions give all picks that are not safe, and those that
are safe are known by how far each instrument was judged.

What an instrument told after the last checkpoint is known by the spool, which keeps how far it was
judged with every message: where the clock has a say, what is computed again may differ.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import structlog

from streamer.clock import Clock
from streamer.errors import DataError, MsnetError
from streamer.picking.engine import Engine
from streamer.picking.judged import Judged
from streamer.seedid import Instrument
from streamer.seedlink.state import Ledger, Need, Position, Positions
from streamer.timebase import iso

log = structlog.get_logger()

VERSION = 1  # of the file; a change of its form counts it up
INTERVAL_S = 3.0  # between checkpoints: so much, and what the network remembers, is sent again
NAME, ASIDE = "checkpoint.json", "checkpoint.unusable.json"

_UNREADABLE = KeyError, TypeError, ValueError, AttributeError, OverflowError

NAMED_STATIONS = 20  # in one line of the log


@dataclass(frozen=True)
class Checkpoint:
    """Where each station of each server goes on, and how far each instrument was judged.

    `started`: when each server did by whose numbers the positions are. `told`: number of the last
    state that the publisher was given before.
    """

    positions: Positions = field(default_factory=dict)
    started: Mapping[str, str] = field(default_factory=dict)
    judged: Mapping[str, Judged] = field(default_factory=dict)
    told: int = 0

    def joined(self, states: Mapping[str, Any]) -> "Checkpoint":
        """With how far instruments were judged later, as the spool has it."""
        return replace(self, judged={**self.judged, **_readable(states)})

    def to_json(self, written_ns: int) -> dict[str, Any]:
        """For the file."""
        return {
            "version": VERSION,
            "written": iso(written_ns),
            "positions": {
                server: {name: [at.sequence, at.time_ns] for name, at in stations.items()}
                for server, stations in self.positions.items()
            },
            "started": dict(self.started),
            "judged": {name: judged.to_json() for name, judged in self.judged.items()},
            "told": self.told,
        }

    @classmethod
    def from_json(cls, values: Any) -> "Checkpoint":
        """Inverse of `to_json`. Raises DataError for anything else."""
        try:
            if values["version"] != VERSION:
                raise DataError(f"version {values['version']!r}, this program reads {VERSION}")
            return cls(
                positions={
                    str(server): {
                        str(name): Position(_whole(sequence), _whole(time_ns))
                        for name, (sequence, time_ns) in stations.items()
                    }
                    for server, stations in values["positions"].items()
                },
                started={str(server): str(text) for server, text in values["started"].items()},
                judged={
                    str(name): Judged.from_json(judged) for name, judged in values["judged"].items()
                },
                told=int(values.get("told", 0)),
            )
        except _UNREADABLE as error:
            raise DataError(f"not a checkpoint: {type(error).__name__} {error}") from error


def _readable(states: Mapping[str, Any]) -> dict[str, Judged]:
    """Those that this version can use; for the others the checkpoint has to do."""
    judged = {}
    for name, state in states.items():
        try:
            judged[name] = Judged.from_json(state)
        except (DataError, *_UNREADABLE) as error:
            log.error("checkpoint_unusable", file=f"spool: {name}", error=str(error))
    return judged


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def load_checkpoint(state_dir: Path) -> Checkpoint:
    """The last checkpoint; an empty one if there is none.

    One that cannot be used is put aside, lest it is written over before anyone has seen it.
    """
    path = state_dir / NAME
    try:
        values = json.loads(path.read_bytes())
        checkpoint = Checkpoint.from_json(values)
    except FileNotFoundError:
        return Checkpoint()
    except (DataError, ValueError, RecursionError, OSError) as error:
        kept = state_dir / ASIDE
        try:
            path.replace(kept)
        except OSError:
            kept = path
        log.error("checkpoint_unusable", file=str(kept), error=str(error))
        return Checkpoint()
    log.info("resumed", written=values.get("written"), instruments=len(checkpoint.judged))
    return checkpoint


def save_checkpoint(state_dir: Path, checkpoint: Checkpoint, written_ns: int) -> None:
    """Replace the file so that a crash leaves the old one or the new one. Raises OSError."""
    text = json.dumps(checkpoint.to_json(written_ns), separators=(",", ":"))
    new = state_dir / f"{NAME}.new"
    with new.open("w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(state_dir / NAME)
    folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Safe(Protocol):
    """Where picks are safe: a publisher."""

    @property
    def told(self) -> int:
        """Number of the last state that was submitted."""
        ...

    async def secure(self) -> None:
        """Return when every pick submitted before is on the disk."""
        ...


class Keeper:
    """Writes checkpoints; trouble with the disk only keeps the file from getting newer.

    `counts`: checkpoints written and failed.
    """

    def __init__(
        self, state_dir: Path, engine: Engine, ledger: Ledger, safe: Safe, clock: Clock
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._state_dir = state_dir
        self._engine = engine
        self._ledger = ledger
        self._safe = safe
        self._clock = clock
        self._failing = False

    async def run(self) -> None:
        """A checkpoint every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self.keep()

    async def close(self, timeout_s: float) -> None:
        """The last checkpoint; gives up after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.keep()
        except TimeoutError:
            self._note_failure("the disk does not answer")

    async def keep(self) -> bool:
        """Write a checkpoint of this moment; whether it is on the disk."""
        self._tell_gaps()
        checkpoint = self._now()
        try:
            await self._safe.secure()
            await asyncio.to_thread(save_checkpoint, self._state_dir, checkpoint, self._clock())
        except (MsnetError, OSError) as error:
            self._note_failure(str(error))
            return False
        self.counts["checkpoints"] += 1
        if self._failing:
            log.info("checkpoint_written", folder=str(self._state_dir))
        self._failing = False
        return True

    def _note_failure(self, reason: str) -> None:
        self.counts["checkpoints_failed"] += 1
        if not self._failing:
            log.error("checkpoint_failed", folder=str(self._state_dir), error=reason)
        self._failing = True

    def _now(self) -> Checkpoint:
        judged = self._engine.judged()
        self._ledger.advance(self._need)
        started = dict(self._ledger.started)
        return Checkpoint(self._ledger.positions(), started, judged, self._safe.told)

    def _need(self, instrument: Instrument) -> Need | None:
        needed = self._engine.scheduler.needed_from_ns(instrument)
        return None if needed is None else Need(*needed)

    def _tell_gaps(self) -> None:
        """Stations whose data do not reach back to where they were judged before the restart."""
        gaps_s = self._engine.take_restart_gaps()
        if gaps_s:
            log.warning(
                "restart_gap",
                stations=len(gaps_s),
                longest_s=round(max(gaps_s.values()), 1),
                names=sorted(gaps_s, key=lambda name: -gaps_s[name])[:NAMED_STATIONS],
            )
