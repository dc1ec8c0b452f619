"""The spool: order, memory of what was sent, bounds, damage, and whose it is."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bus_picks import NOW_NS, make_pick
from structlog.testing import capture_logs

from streamer.bus import spool as spool_module
from streamer.bus.spool import Spool, SpoolError, State
from streamer.errors import CannotCreateError

DAY_NS = 86_400_000_000_000


class Time:
    """A clock to be set."""

    def __init__(self) -> None:
        self.now_ns = NOW_NS

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "spool.sqlite"


@pytest.fixture
def spool(path: Path, time: Time) -> Iterator[Spool]:
    with closing(Spool(path, 10, time)) as opened:
        yield opened


def numbers(rows: list[Any]) -> list[int]:
    """The numbers of the picks of `make_pick`."""
    return [int(row.pick.id.split("T")[-1][:6]) for row in rows]


def mark_sent(spool: Spool, *numbers: int) -> None:
    spool.sent({make_pick(number).name: f"{number + 1}-0" for number in numbers})


def test_picks_come_out_in_the_order_they_went_in_until_they_are_sent(spool: Spool) -> None:
    """What waits is given again and again; what was sent never."""
    spool.add([make_pick(number) for number in (3, 1, 2)])
    assert numbers(spool.take(2)) == [3, 1]
    assert numbers(spool.take(2)) == [3, 1]
    mark_sent(spool, 3, 1)
    assert (numbers(spool.take(2)), spool.waiting) == ([2], 1)


def test_the_last_state_of_each_source_is_kept_with_its_picks(path: Path, time: Time) -> None:
    with closing(Spool(path, 10, time)) as spool:
        spool.add([make_pick(1)], [State("A", 1, {"at": 5}), State("B", 2, [])])
        spool.add([make_pick(2)], [State("A", 3, {"at": 6})])
        spool.add([make_pick(3)])
    with closing(Spool(path, 10, time)) as spool:
        assert spool.states() == [State("A", 3, {"at": 6}), State("B", 2, [])]


def test_a_state_that_cannot_be_written_leaves_its_picks_out_too(spool: Spool) -> None:
    spool.add([make_pick(1)], [State("A", 1, 5)])
    with pytest.raises(TypeError):
        spool.add([make_pick(2)], [State("A", 2, object())])
    assert numbers(spool.take(9)) == [1]
    assert spool.states() == [State("A", 1, 5)]


def test_a_spool_of_an_earlier_version_has_no_states(path: Path, time: Time) -> None:
    with closing(Spool(path, 10, time)) as spool:
        spool.add([make_pick(1)])
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE states")
    with closing(Spool(path, 10, time)) as spool:
        assert spool.states() == []
        assert numbers(spool.take(9)) == [1]


def test_known_revision_is_ignored_even_after_it_was_sent_and_a_restart(
    path: Path, time: Time
) -> None:
    """A daemon that computes a pick again after a restart adds only what is new."""
    with closing(Spool(path, 10, time)) as spool:
        assert spool.add([make_pick(1), make_pick(2), make_pick(1)]) == 2
        mark_sent(spool, 1)
    with closing(Spool(path, 10, time)) as spool:
        assert spool.waiting == 1
        assert spool.add([make_pick(1), make_pick(2), make_pick(1, rev=1)]) == 1
        assert [row.pick.name for row in spool.take(9)] == [
            make_pick(2).name,
            make_pick(1, rev=1).name,
        ]


def test_time_of_publication_is_stamped_once(spool: Spool, time: Time) -> None:
    """A repetition after an outage is the same message."""
    spool.add([make_pick(1), make_pick(2, made_ns=7)])
    time.now_ns += DAY_NS
    assert [row.pick for row in spool.take(9)] == [
        make_pick(1, made_ns=NOW_NS, prob=0.8765),
        make_pick(2, made_ns=7),
    ]


def test_sent_picks_are_forgotten_after_a_day(spool: Spool, time: Time) -> None:
    """The memory of what was sent is bounded in time."""
    spool.add([make_pick(1), make_pick(2)])
    mark_sent(spool, 1)
    time.now_ns += DAY_NS + 1
    mark_sent(spool, 2)
    assert spool.add([make_pick(1), make_pick(2)]) == 1


def test_sent_picks_are_forgotten_beyond_a_number(
    spool: Spool, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of what was sent is bounded in rows: the oldest go."""
    monkeypatch.setattr(spool_module, "MAX_KNOWN", 3)
    spool.add([make_pick(number) for number in range(6)])
    mark_sent(spool, *range(5))
    assert spool.add([make_pick(number) for number in range(6)]) == 2


def test_picks_to_be_sent_again_take_their_old_place(spool: Spool) -> None:
    """What a server lost goes before what came later."""
    spool.add([make_pick(number) for number in range(5)])
    mark_sent(spool, 0, 1, 2)
    newest, *older = spool.latest_sent(0, 2)
    assert (numbers([newest]), newest.entry, numbers(older)) == ([2], "3-0", [1])
    assert numbers(spool.latest_sent(0, 9, before=older[-1])) == [0]
    spool.resend([make_pick(1).name, make_pick(2).name])
    assert (numbers(spool.take(9)), spool.waiting) == ([1, 2, 3, 4], 4)


def test_last_entry_is_the_last_of_the_stream_not_of_the_picks(spool: Spool) -> None:
    """A duplicate keeps the entry it has: an older one than that of picks sent again before it."""
    spool.add([make_pick(number) for number in range(3)])
    entries = {0: "12-0", 1: "9-11", 2: "9-2"}
    spool.sent({make_pick(number).name: entry for number, entry in entries.items()})
    assert numbers(spool.latest_sent(0, 9)) == [0, 1, 2]


def test_full_spool_gives_up_what_was_sent_then_the_oldest_and_counts_it(
    path: Path, time: Time
) -> None:
    """The file keeps to its bound; losses are counted and logged once a minute."""
    with closing(Spool(path, 0.3, time)) as spool, capture_logs() as logs:
        spool.add([make_pick(number) for number in range(100)])
        mark_sent(spool, *range(100))
        for start in range(100, 1000, 100):
            spool.add([make_pick(number) for number in range(start, start + 100)])
        left = numbers(spool.take(1000))
        dropped = spool.drops.total
        assert 0 < dropped == 900 - len(left)
        assert left == list(range(100 + dropped, 1000))
        assert spool.waiting == len(left)
        assert spool.add([make_pick(1)]) == 1, "sent picks go first"
    (line,) = [entry for entry in logs if entry["event"] == "picks_dropped"]
    assert (line["oldest"], line["bound"]) == (make_pick(100).name, "spool of 0.3 MB")
    assert path.stat().st_size < 0.4e6


def test_damaged_file_is_moved_aside_and_what_waits_is_taken_over(path: Path, time: Time) -> None:
    """Damage of one page of the file costs no pick that can still be read."""
    with closing(Spool(path, 10, time)) as spool:
        spool.add([make_pick(number) for number in range(300)])
        mark_sent(spool, 0)
    content = bytearray(path.read_bytes())
    with closing(sqlite3.connect(path)) as database:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'by_sent'"
        (page,) = database.execute(query).fetchone()
    content[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    with capture_logs() as logs, closing(Spool(path, 10, time)) as spool:
        taken_over = spool.waiting
        assert spool.add([make_pick(999)]) == 1
    (line,) = logs
    assert line["event"] == "spool_damaged"
    assert line["taken_over"] == taken_over
    assert line["file"] == f"{path}.damaged"
    assert Path(line["file"]).read_bytes()[:16] == b"SQLite format 3\x00"


def test_file_that_is_no_database_is_moved_aside(path: Path, time: Time) -> None:
    """Rubbish in place of the spool does not keep the daemon from starting, nor is it deleted."""
    path.parent.mkdir()
    path.write_bytes(b"rubbish" * 1000)
    with capture_logs() as logs, closing(Spool(path, 10, time)) as spool:
        assert (spool.add([make_pick(1)]), spool.waiting) == (1, 1)
    assert [entry["event"] for entry in logs] == ["spool_damaged"]
    assert path.with_name("spool.sqlite.damaged").read_bytes() == b"rubbish" * 1000


def test_second_process_is_told_who_holds_the_spool(spool: Spool, path: Path) -> None:
    """Two daemons with one state folder: the second ends with the process id of the first."""
    script = (
        "from pathlib import Path; from streamer.bus.spool import Spool; "
        f"Spool(Path({str(path)!r}), 1, lambda: 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"is held by process {os.getpid()}: end that one" in done.stderr


def test_files_of_the_spool_are_private_under_any_umask(path: Path, time: Time) -> None:
    """The folder is 0700 and every file 0600, whatever the umask."""
    before = os.umask(0)
    try:
        with closing(Spool(path, 10, time)) as spool:
            spool.add([make_pick(1)])
            spool.flush()
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(
        ("spool.sqlite", "spool.sqlite-shm", "spool.sqlite-wal", "spool.sqlite.lock"), 0o600
    )
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_folder_that_cannot_be_made_is_an_error_with_a_remedy(tmp_path: Path, time: Time) -> None:
    """A state folder below a file is refused before anything is picked."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotCreateError, match="choose another state folder"):
        Spool(tmp_path / "file" / "spool.sqlite", 1, time)


def test_damage_under_a_running_daemon_is_one_error_and_a_new_file(path: Path, time: Time) -> None:
    """Rubbish written over the open file: the call fails once, the next one works."""
    with closing(Spool(path, 100, time)) as spool, capture_logs() as logs:
        spool.add([make_pick(number) for number in range(6000)])
        for name in (path, Path(f"{path}-wal")):
            with name.open("r+b") as file:
                file.seek(100)
                file.write(b"\xff" * (name.stat().st_size - 100))
        with pytest.raises(SpoolError, match="check the disk"):
            spool.take(6000)
        assert spool.add([make_pick(9999)]) == 1
    assert [entry["event"] for entry in logs] == ["spool_damaged"]
