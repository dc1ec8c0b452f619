"""The sqlite file in which every pick waits for Redis, and by which a restart knows what it made.

With the messages of a source, in the same transaction, its state is kept: from where its maker goes
on after a crash without telling otherwise what is told.

Two levels of safety. A pick that was added survives the end of this process at any instant: it is
in the hands of the operating system. `flush` waits for the disk, so that it also survives a loss of
power; whoever forgets data because their picks are here calls it first (0.02 ms against 3 ms).

Rows stay for a day after they were sent, `MAX_KNOWN` of them at most: a daemon that computes a pick
again after a restart adds nothing, and what a server lost can be sent again.
"""

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from streamer.clock import Clock
from streamer.errors import CannotCreateError, DataError
from streamer.picks import Pick
from streamer.private_files import hold, make_folder
from streamer.timebase import NS_PER_S

log = structlog.get_logger()

MAX_KNOWN = 100_000
_KNOWN_LIFE_NS = 24 * 3600 * NS_PER_S
_TIDY_INTERVAL_NS = 60 * NS_PER_S
_DROP_LOG_INTERVAL_NS = 60 * NS_PER_S
_ROOM_ROWS = 100  # removed at a time where the file is too large
_MB = 1_000_000
_JOURNAL_BYTES = 4 * _MB
_BUSY_S = 1.0  # for somebody who looks into the file
_SCHEMA_VERSION = 2
_SCHEMA = """
CREATE TABLE picks (
    n INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of publication
    name TEXT NOT NULL UNIQUE,            -- <id>:<rev>
    body TEXT NOT NULL,                   -- fields of the message as JSON
    sent_ns INTEGER,                      -- NULL: it waits
    entry TEXT,                           -- its id on the Redis stream
    place INTEGER                         -- the order of these ids
);
CREATE INDEX by_sent ON picks (sent_ns, n);
CREATE INDEX by_place ON picks (place, sent_ns);
"""
_STATES = """
CREATE TABLE IF NOT EXISTS states (
    source TEXT PRIMARY KEY,
    number INTEGER NOT NULL,  -- grows with each state, of whatever source
    body TEXT NOT NULL        -- JSON
) WITHOUT ROWID;
"""
_COLUMNS = "n, body, entry"
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class SpoolError(CannotCreateError):
    """The spool cannot be written or read."""


@dataclass(frozen=True, slots=True)
class Row:
    """A pick of the spool, the n-th; `entry` is its id on the Redis stream once it was sent."""

    n: int
    pick: Pick
    entry: str | None = None


@dataclass(frozen=True, slots=True)
class State:
    """Where the maker of a source's messages was when it had made the last one of a step.

    `body` is anything that JSON can hold. `number` is larger than that of each earlier state.
    """

    source: str
    number: int
    body: Any


def place_of(entry: str | None) -> int | None:
    """A number that orders entry ids of Redis as the stream does; None of an unknown one."""
    if not entry:
        return None
    milliseconds, _, number = entry.partition("-")
    # 41 bits and 20: a million entries within one millisecond of the server's clock.
    return (int(milliseconds) << 20) + min(int(number), (1 << 20) - 1)


class Drops:
    """Counts picks that were given up, and says so once a minute."""

    def __init__(self, clock: Clock) -> None:
        self.total = 0
        self._clock = clock
        self._log_due_ns = 0

    def count(self, oldest: str, where: str, count: int = 1) -> None:
        """`oldest` is the id of the first of them, `where` the bound that was reached."""
        self.total += count
        if self._clock() >= self._log_due_ns:
            self._log_due_ns = self._clock() + _DROP_LOG_INTERVAL_NS
            log.error("picks_dropped", total=self.total, oldest=oldest, bound=where)


class Spool:
    """Picks in order, sent or waiting. Not to be used by two threads at once.

    `path` None keeps everything in memory. At more than `max_mb` (MB of 10^6 bytes) the oldest sent
    picks go, then the oldest that wait: counted in `drops` and logged once a minute. `clock` gives
    POSIX ns and stamps `made_ns` of picks that lack it.

    Every method raises SpoolError when the disk is full, read-only or fails, and may simply
    be called again. A damaged file is moved to `<path>.damaged`, what waits in it is taken over as
    far as it can be read, and a new file begun. The constructor also raises when another process
    holds the spool.
    """

    def __init__(self, path: Path | None, max_mb: float, clock: Clock) -> None:
        self.waiting = 0
        self.drops = Drops(clock)
        self._path = path
        self._max_bytes = max_mb * _MB
        self._clock = clock
        self._in_flight_n = 0
        self._tidy_due_ns = 0
        self._unflushed = False
        self._lock = None if path is None else _hold(path)
        self._connection: sqlite3.Connection | None = None
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def add(self, picks: Sequence[Pick], states: Sequence[State] = ()) -> int:
        """Add the picks whose (id, rev) is not known yet; returns how many that were.

        With them the states of their sources, of which the last ones stay.
        """
        with self._transaction() as database:
            before = database.total_changes
            database.executemany(
                "INSERT OR IGNORE INTO picks (name, body) VALUES (?, ?)", map(self._row, picks)
            )
            added = database.total_changes - before
            database.executemany(
                "INSERT OR REPLACE INTO states VALUES (?, ?, ?)",
                [(state.source, state.number, json.dumps(state.body)) for state in states],
            )
            dropped = self._make_room(database) if added else []
        self.waiting += added - len(dropped)
        if dropped:
            self.drops.count(dropped[0], f"spool of {self._max_bytes / _MB:g} MB", len(dropped))
        return added

    def states(self) -> list[State]:
        """The last state of each source."""
        with self._guarded() as database:
            found = database.execute("SELECT source, number, body FROM states").fetchall()
        return [State(source, number, json.loads(body)) for source, number, body in found]

    def flush(self) -> None:
        """Return when everything added before is on the disk itself."""
        if not self._unflushed:
            return
        with self._guarded() as database:
            # The commit of anything syncs the journal with all that was committed before.
            database.execute("PRAGMA synchronous = FULL")
            database.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            database.execute("PRAGMA synchronous = NORMAL")
        self._unflushed = False

    def take(self, limit: int, skip: int = 0) -> list[Row]:
        """The oldest picks that wait, in order, `limit` at most, after the first `skip` of them."""
        with self._guarded() as database:
            found = database.execute(
                f"SELECT {_COLUMNS} FROM picks WHERE sent_ns IS NULL ORDER BY n LIMIT ? OFFSET ?",
                (limit, skip),
            ).fetchall()
        rows = self._readable(found)
        self._in_flight_n = rows[-1].n if rows else 0
        return rows

    def sent(self, entries: Mapping[str, str]) -> None:
        """The picks of these names are on the Redis stream, with these entry ids."""
        now_ns = self._clock()
        with self._transaction() as database:
            done = database.executemany(
                "UPDATE picks SET sent_ns = ?, entry = ?, place = ?"
                " WHERE name = ? AND sent_ns IS NULL",
                [(now_ns, entry, place_of(entry), name) for name, entry in entries.items()],
            ).rowcount
            if now_ns >= self._tidy_due_ns:
                self._tidy_due_ns = now_ns + _TIDY_INTERVAL_NS
                _forget(database, now_ns - _KNOWN_LIFE_NS)
        self.waiting -= done

    def latest_sent(self, since_ns: int, limit: int, before: Row | None = None) -> list[Row]:
        """The last entries that were sent at `since_ns` or later, the newest first.

        `before` is the last row of the page before. Picks whose entry is unknown are left out.
        """
        bound = 2**62 if before is None else place_of(before.entry)
        with self._guarded() as database:
            found = database.execute(
                f"SELECT {_COLUMNS} FROM picks WHERE place < ? AND sent_ns >= ?"
                " ORDER BY place DESC LIMIT ?",
                (bound, since_ns, limit),
            ).fetchall()
        return self._readable(found)

    def resend(self, names: Sequence[str]) -> None:
        """The picks of these names wait again, in their old place."""
        with self._transaction() as database:
            again = database.executemany(
                "UPDATE picks SET sent_ns = NULL, entry = NULL, place = NULL"
                " WHERE name = ? AND sent_ns NOTNULL",
                [(name,) for name in names],
            ).rowcount
        self.waiting += again

    def close(self) -> None:
        """Close the file and let others have it."""
        self._disconnect()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _readable(self, found: Sequence[tuple[int, str, str | None]]) -> list[Row]:
        """The rows whose message this version reads; what another one left goes."""
        rows, foreign = [], []
        for n, body, entry in found:
            try:
                rows.append(Row(n, _pick(body), entry))
            except DataError as error:
                foreign.append(n)
                self.drops.count(str(error), "message of another version")
        if foreign:
            with self._transaction() as database:
                database.executemany("DELETE FROM picks WHERE n = ?", [(n,) for n in foreign])
                self.waiting = _count_waiting(database)
        return rows

    def _row(self, pick: Pick) -> tuple[str, str]:
        stamped = pick if pick.made_ns else replace(pick, made_ns=self._clock())
        return pick.name, json.dumps(stamped.to_fields())

    def _make_room(self, database: sqlite3.Connection) -> list[str]:
        """Remove the oldest until the file is small enough; names of those that waited."""
        dropped: list[str] = []
        while _used_bytes(database) > self._max_bytes:
            if _delete_oldest(database, "sent_ns NOTNULL"):
                continue
            # What was taken is on its way to Redis, at most one batch of it.
            names = _delete_oldest(database, f"sent_ns IS NULL AND n > {self._in_flight_n}")
            if not names:
                break
            dropped += names
        return dropped

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._guarded() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    database.execute("ROLLBACK")
                raise
            self._unflushed = True

    @contextmanager
    def _guarded(self) -> Iterator[sqlite3.Connection]:
        """The open database; what sqlite raises becomes our error, and the next call opens anew."""
        if self._connection is None:
            self._open()
        assert self._connection is not None
        try:
            yield self._connection
        except sqlite3.Error as error:
            self._disconnect()
            if _is_damage(error):
                self._begin_anew(error)
            raise _explained(self._path, error) from error

    def _open(self) -> None:
        try:
            self._connection = _connect(self._path)
            self.waiting = _count_waiting(self._connection)
        except (sqlite3.Error, OSError) as error:
            self._disconnect()
            if not _is_damage(error):
                raise _explained(self._path, error) from error
            self._begin_anew(error)

    def _begin_anew(self, reason: Exception) -> None:
        """Move the damaged file aside and take over what can be read of the picks that wait."""
        assert self._path is not None
        try:
            aside = _move_aside(self._path)
            picks = _salvage(aside)
            self._connection = _connect(self._path)
        except (sqlite3.Error, OSError) as error:
            raise _explained(self._path, error) from error
        log.error("spool_damaged", file=str(aside), error=str(reason), taken_over=len(picks))
        self._in_flight_n = self.waiting = 0
        self.add(picks)

    def _disconnect(self) -> None:
        if self._connection is not None:
            # Closing writes the journal back, which a full disk refuses.
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _hold(path: Path) -> int:
    make_folder(path.parent)
    return hold(path.with_name(f"{path.name}.lock"))


def _connect(path: Path | None) -> sqlite3.Connection:
    """The database, made if it is not there, and checked."""
    if path is not None:
        # sqlite gives its other files the mode of this one.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    database = sqlite3.connect(
        ":memory:" if path is None else path,
        timeout=_BUSY_S,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
        (state,) = database.execute("PRAGMA quick_check(1)").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if state != "ok" or version not in (0, _SCHEMA_VERSION):
            raise _Damage(state if state != "ok" else f"it has version {version}")
        if version == 0:
            database.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT"
            )
        database.executescript(_STATES)
    except BaseException:
        database.close()
        raise
    return database


class _Damage(sqlite3.DatabaseError):
    """The file is a database, but not one of ours that is whole."""


def _is_damage(error: Exception) -> bool:
    # The low byte is the kind, the rest a finer reason.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, _Damage) or code in _DAMAGE


def _move_aside(path: Path) -> Path:
    """One damaged file is kept, the last one: its size is bounded as that of the spool."""
    aside = path.with_name(f"{path.name}.damaged")
    for suffix in ("", "-wal", "-shm"):
        old, new = Path(f"{path}{suffix}"), Path(f"{aside}{suffix}")
        new.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            old.rename(new)
    return aside


def _salvage(path: Path) -> list[Pick]:
    """The picks that wait, as many as can be read from a damaged file."""
    picks = []
    with suppress(sqlite3.Error, DataError), closing(sqlite3.connect(path)) as database:
        waiting = database.execute("SELECT body FROM picks WHERE sent_ns IS NULL ORDER BY n")
        for (body,) in waiting:
            picks.append(_pick(body))
    return picks


def _pick(body: str) -> Pick:
    try:
        return Pick.from_fields(json.loads(body))
    except ValueError as error:
        raise DataError(f"a row of the spool is no JSON: {error}") from error


def _count_waiting(database: sqlite3.Connection) -> int:
    (count,) = database.execute("SELECT count(*) FROM picks WHERE sent_ns IS NULL").fetchone()
    return int(count)


def _used_bytes(database: sqlite3.Connection) -> int:
    pages, free, page_bytes = (
        database.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * page_bytes)


def _delete_oldest(database: sqlite3.Connection, which: str) -> list[str]:
    found = database.execute(
        f"DELETE FROM picks WHERE n IN (SELECT n FROM picks WHERE {which} ORDER BY n LIMIT"
        f" {_ROOM_ROWS}) RETURNING name"
    ).fetchall()
    return [name for (name,) in found]


def _forget(database: sqlite3.Connection, before_ns: int) -> None:
    """Delete what was sent too long ago, and the oldest of too many."""
    database.execute("DELETE FROM picks WHERE sent_ns < ?", (before_ns,))
    database.execute(
        "DELETE FROM picks WHERE sent_ns NOTNULL AND n <= (SELECT n FROM picks"
        " WHERE sent_ns NOTNULL ORDER BY n DESC LIMIT 1 OFFSET ?)",
        (MAX_KNOWN,),
    )


def _explained(path: Path | None, error: Exception) -> SpoolError:
    return SpoolError(
        f"the spool {path} cannot be used: {error}; check the disk (space, read-only) and the "
        "permissions"
    )
