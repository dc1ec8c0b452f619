"""What the worker keeps on disk: picks, settled blocks, events, and messages not yet sent.

One SQLite file. Everything that a batch of messages changes is one transaction, synced to disk
before the messages are acknowledged: a process killed at any instant goes on from the last batch as
if nothing had happened.
"""

import json
import math
import sqlite3
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from streamer.association.message import Event, as_fields
from streamer.association.pickfiles import PickRow
from streamer.association.settle import Run, Settled
from streamer.errors import CannotCreateError, DataError, StolenError

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE picks (
    id TEXT PRIMARY KEY, rev INTEGER NOT NULL, final INTEGER NOT NULL, gone INTEGER NOT NULL,
    net TEXT NOT NULL, sta TEXT NOT NULL, phase TEXT NOT NULL, t_ns INTEGER NOT NULL,
    prob REAL NOT NULL, amp REAL, block INTEGER NOT NULL, value REAL) WITHOUT ROWID;
CREATE INDEX picks_by_block ON picks (block);
CREATE INDEX picks_by_time ON picks (t_ns);
CREATE TABLE runs (block INTEGER PRIMARY KEY, digest BLOB NOT NULL, events TEXT NOT NULL);
CREATE TABLE events (
    id TEXT PRIMARY KEY, t_ns INTEGER NOT NULL, block INTEGER, number INTEGER,
    message TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX events_by_time ON events (t_ns);
CREATE TABLE outbox (
    n INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, message TEXT NOT NULL);
CREATE TABLE tallies (block INTEGER PRIMARY KEY, counts TEXT NOT NULL);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class StoredPick(NamedTuple):
    """The newest state of a pick: `gone` once retracted, `value` what it is worth if in use."""

    row: PickRow
    rev: int
    final: bool
    gone: bool
    block: int
    value: float | None

    @property
    def counts(self) -> bool:
        """Whether settled events may use it."""
        return self.final and not self.gone


@dataclass(frozen=True, slots=True)
class Known:
    """The last published version of an event.

    `block` is the one whose run has it, None while it is preliminary; `number` its open event.
    """

    event: Event
    block: int | None
    number: int | None


@dataclass(frozen=True, slots=True)
class Unsent:
    """A message that waits, with its number."""

    n: int
    name: str
    text: str

    def to_fields(self) -> dict[str, str]:
        """Flat text fields."""
        return as_fields(json.loads(self.text))


class Store:
    """The file at `path`, or memory for None. Raises CannotCreateError, DataError.

    Whoever opened it last owns it: a transaction of an earlier owner, who was stopped and goes on,
    raises StolenError.
    """

    def __init__(self, path: Path | None) -> None:
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                path or ":memory:", isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._prepare(path)
            self._names = self._pick_names()
            self._owner = uuid.uuid4().hex
            self.put_meta({"owner": self._owner})
        except sqlite3.OperationalError as error:
            raise CannotCreateError(f"cannot use {path}: {error}") from error
        except (sqlite3.DatabaseError, OSError) as error:
            raise CannotCreateError(
                f"{path} cannot be used ({error}): move it away to begin anew"
            ) from error

    def _prepare(self, path: Path | None) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        elif version != SCHEMA_VERSION:
            raise DataError(
                f"{path} is of version {version}, this program writes {SCHEMA_VERSION}: move it "
                "away to begin anew"
            )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes inside, or none."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if self.meta()["owner"] != self._owner:
                raise StolenError("another association worker has taken over; this one ends")
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            self._names = self._pick_names()
            raise
        self._db.execute("COMMIT")

    def pick(self, name: str) -> StoredPick | None:
        """The newest state of a pick."""
        if name not in self._names:
            return None  # as almost always
        query = f"SELECT {_PICK} FROM picks WHERE id = ?"
        return _stored(self._db.execute(query, (name,)).fetchone())

    def _pick_names(self) -> set[str]:
        return {name for (name,) in self._db.execute("SELECT id FROM picks")}

    def put_pick(self, pick: StoredPick) -> None:
        """Keep this state of a pick."""
        row = pick.row
        self._names.add(row.id)
        amp = None if row.amp != row.amp else row.amp
        self._db.execute(
            "INSERT OR REPLACE INTO picks (id, rev, final, gone, net, sta, phase, t_ns, prob, amp,"
            " block, value) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            (row.id, pick.rev, pick.final, pick.gone, *row.code, row.phase, row.t_ns, row.prob,
             amp, pick.block, pick.value),
        )  # fmt: skip

    def picks_of_block(self, block: int) -> list[PickRow]:
        """The picks of a block that settled events may use."""
        query = f"SELECT {_ROW} FROM picks WHERE block = ? AND final AND NOT gone"
        return [_row(*found) for found in self._db.execute(query, (block,))]

    def picks_in_use(self, since_ns: int) -> list[StoredPick]:
        """Picks from a time on that open events may use."""
        query = f"SELECT {_PICK} FROM picks WHERE t_ns >= ? AND value IS NOT NULL AND NOT gone"
        return [_stored(found) for found in self._db.execute(query, (since_ns,))]

    def presence(self) -> Iterator[tuple[int, tuple[str, str]]]:
        """Each block with each network and station code that has picks for settled events in it."""
        query = "SELECT DISTINCT block, net, sta FROM picks WHERE final AND NOT gone"
        for block, net, sta in self._db.execute(query):
            yield block, (net, sta)

    def regrid(self, block_ns: int) -> None:
        """Blocks are of another length (ns) from now on; what came of the old ones is dropped."""
        self._db.execute("UPDATE picks SET block = t_ns / ?", (block_ns,))
        self._db.execute("UPDATE events SET block = t_ns / ? WHERE block NOT NULL", (block_ns,))
        self._db.execute("DELETE FROM runs")
        self._db.execute("DELETE FROM tallies")

    def put_run(self, block: int, run: Run) -> None:
        """Keep what came of a block."""
        events = json.dumps([[one.text, one.spread] for one in run.events])
        self._db.execute("INSERT OR REPLACE INTO runs VALUES (?,?,?)", (block, run.digest, events))

    def runs(self) -> Iterator[tuple[int, Run]]:
        """All blocks that ran."""
        for block, digest, text in self._db.execute("SELECT block, digest, events FROM runs"):
            events = tuple(
                Settled(Event.from_json(message), tuple((p, s, v) for p, s, v in spread))
                for message, spread in json.loads(text)
            )
            yield block, Run(digest, events)

    def put_event(self, known: Known) -> None:
        """Keep where the last version of an event comes from."""
        self._put_event(known)

    def _put_event(self, known: Known) -> str:
        event = known.event
        message = event.to_json()
        self._db.execute(
            "INSERT OR REPLACE INTO events VALUES (?,?,?,?,?)",
            (event.id, event.t_ns, known.block, known.number, message),
        )
        return message

    def events(self) -> Iterator[Known]:
        """The last version of each event that is remembered."""
        for message, block, number in self._db.execute("SELECT message, block, number FROM events"):
            yield Known(Event.from_json(message), block, number)

    def send(self, known: Known) -> None:
        """Leave a version to be sent, and keep it as the last one of the event."""
        message = self._put_event(known)
        self._db.execute(
            "INSERT INTO outbox (name, message) VALUES (?,?)", (known.event.name, message)
        )

    def unsent(self, most: int) -> list["Unsent"]:
        """The next messages to be sent."""
        query = "SELECT n, name, message FROM outbox ORDER BY n LIMIT ?"
        return [Unsent(*row) for row in self._db.execute(query, (most,))]

    def sent(self, up_to: int) -> None:
        """Messages up to this number have been sent."""
        self._db.execute("DELETE FROM outbox WHERE n <= ?", (up_to,))

    def put_tally(self, block: int, counts: Any) -> None:
        """Keep the numbers of picks of a block."""
        self._db.execute("INSERT OR REPLACE INTO tallies VALUES (?,?)", (block, json.dumps(counts)))

    def tallies(self) -> Iterator[tuple[int, Any]]:
        """Numbers of picks of each block."""
        for block, text in self._db.execute("SELECT block, counts FROM tallies"):
            yield block, json.loads(text)

    def put_meta(self, values: dict[str, Any]) -> None:
        """Keep single values."""
        rows = [(key, json.dumps(value)) for key, value in values.items()]
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?,?)", rows)

    def meta(self) -> dict[str, Any]:
        """All single values."""
        query = "SELECT key, value FROM meta"
        return {key: json.loads(value) for key, value in self._db.execute(query)}

    def forget(self, before_ns: int, before_block: int, kept_runs: Iterable[int]) -> None:
        """Drop picks, runs and events of before a time, but for some runs."""
        names = self._db.execute("SELECT id FROM picks WHERE t_ns < ?", (before_ns,))
        self._names.difference_update(name for (name,) in names)
        self._db.execute("DELETE FROM picks WHERE t_ns < ?", (before_ns,))
        self._db.execute("DELETE FROM events WHERE t_ns < ?", (before_ns,))
        kept = set(kept_runs)
        old = self._db.execute("SELECT block FROM runs WHERE block < ?", (before_block,))
        gone = [(block,) for (block,) in old.fetchall() if block not in kept]
        self._db.executemany("DELETE FROM runs WHERE block = ?", gone)

    def forget_tallies(self, before_block: int) -> None:
        """Drop the numbers of picks of blocks before one."""
        self._db.execute("DELETE FROM tallies WHERE block < ?", (before_block,))


_ROW = "net, sta, phase, t_ns, prob, amp, id"
_PICK = f"rev, final, gone, block, value, {_ROW}"


def _stored(found: tuple[Any, ...]) -> StoredPick:
    rev, final, gone, block, value, *row = found
    return StoredPick(_row(*row), rev, bool(final), bool(gone), block, value)


def _row(
    net: str, sta: str, phase: str, t_ns: int, prob: float, amp: float | None, name: str
) -> PickRow:
    return PickRow((net, sta), phase, t_ns, prob, math.nan if amp is None else amp, name)
