"""A publisher on a disk that fills up, or turns read-only; run in a mount namespace of its own.

    unshare -rm python disk_trouble.py full|read-only EMPTY_FOLDER

Prints what happened as JSON. A disk that is read-only at the start is tried last: no spool can be
begun there.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bus_picks import NOW_NS, make_pick
from outages import until
from structlog.testing import capture_logs

from streamer.bus import publisher as publisher_module
from streamer.bus.publisher import Publisher
from streamer.bus.redis_streams import PublishResult
from streamer.bus.spool import Row, Spool
from streamer.checkpoint import Keeper, load_checkpoint
from streamer.errors import MsnetError
from streamer.picking.judged import Judged
from streamer.picks import Pick
from streamer.seedlink.state import Ledger


class Stream:
    """Redis that remembers the names of the picks, each once as the real one."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def publish(self, picks: Sequence[Pick], after: Row | None = None) -> PublishResult:
        new = [pick.name for pick in picks if pick.name not in self.names]
        self.names += new
        entries = [f"{self.names.index(pick.name) + 1}-0" for pick in picks]
        return PublishResult(entries, len(picks) - len(new))

    async def missing(self, rows: Sequence[Row]) -> list[Row]:
        return []


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


class StillEngine:
    """An engine without stations, for checkpoints."""

    def judged(self) -> dict[str, Judged]:
        return {}

    def take_restart_gaps(self) -> dict[str, float]:
        return {}


async def read_only(folder: Path) -> dict[str, object]:
    """The disk refuses all writes while the publisher runs, then takes them again."""
    mount("-t", "tmpfs", "tmpfs", str(folder))
    stream = Stream()
    spool = Spool(folder / "spool.sqlite", 10, lambda: NOW_NS)
    publisher = Publisher(stream, spool, clock=lambda: NOW_NS)
    keeper = Keeper(folder, StillEngine(), Ledger({}, {}), publisher, lambda: NOW_NS)
    publisher_module._SPOOL_RETRY_S = 0.05
    running = asyncio.create_task(publisher.run())

    async def submit(first: int, count: int) -> None:
        for number in range(first, first + count):
            publisher.submit(make_pick(number), source="A", state=number)
        await until(lambda: publisher.pending == 0)

    def checkpoint() -> int:
        return load_checkpoint(folder).told

    await submit(0, 10)
    written = [await keeper.keep()]
    mount("--bind", str(folder), str(folder))
    mount("-o", "remount,bind,ro", str(folder))
    spool._disconnect()  # as sqlite does at the first write that is refused
    await submit(10, 50)
    await keeper.close(0.3)
    while_read_only = checkpoint()
    await asyncio.to_thread(subprocess.run, ["umount", str(folder)], check=True)
    await asyncio.wait_for(publisher.secure(), 5)
    await submit(60, 10)
    written.append(await keeper.keep())
    running.cancel()
    await publisher.close()
    return {
        "names": stream.names,
        "written": written,
        "checkpoints": [while_read_only, checkpoint()],
        "dropped": publisher.dropped,
    }


async def trouble(folder: Path) -> dict[str, object]:
    mount("-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder))
    filler = folder / "filler"
    stream = Stream()
    path = folder / "spool.sqlite"
    publisher = Publisher(stream, Spool(path, 10, lambda: NOW_NS), clock=lambda: NOW_NS)
    publisher_module._SPOOL_RETRY_S = 0.05
    running = asyncio.create_task(publisher.run())

    async def submit(first: int, count: int) -> None:
        for number in range(first, first + count):
            publisher.submit(make_pick(number))
        await until(lambda: publisher.pending == 0)

    await submit(0, 10)
    with suppress(OSError):
        filler.write_bytes(b"x" * 1_000_000)
    await submit(10, 500)
    secure = asyncio.create_task(publisher.secure())
    done, _ = await asyncio.wait({secure}, timeout=0.3)
    filler.unlink()
    await asyncio.wait_for(secure, 5)
    await submit(510, 10)
    known = publisher.repeated
    await submit(515, 5)
    running.cancel()
    await publisher.close()
    mount("-o", "remount,ro", str(folder))
    try:
        Spool(path, 10, lambda: NOW_NS)
    except MsnetError as error:
        refusal = f"{error.exit_code} {error}"
    return {
        "refusal": refusal,
        "names": stream.names,
        "secure_while_in_trouble": bool(done),
        "repeated": publisher.repeated - known,
        "dropped": publisher.dropped,
    }


if __name__ == "__main__":
    with capture_logs() as logs:
        scene = {"full": trouble, "read-only": read_only}[sys.argv[1]]
        outcome = asyncio.run(scene(Path(sys.argv[2])))
    print(json.dumps({**outcome, "logs": logs}))
