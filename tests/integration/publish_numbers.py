"""A process that publishes picks first, first + 1 ... and tells after each hundred that it is safe.

What a daemon does, without the waveforms: its picks are the same after each start, and it begins
again at the last one that it was told is safe, minus a few.
"""

import asyncio
import sys
import time
from pathlib import Path

from bus_picks import make_pick
from bus_servers import stream_on

from streamer.bus.publisher import Publisher
from streamer.bus.redis_url import parse_redis_url
from streamer.bus.spool import Spool

STEP = 20
OVERLAP = 50


async def publish(socket: Path, state: Path, total: int) -> None:
    checkpoint = state / "checkpoint"
    first = int(checkpoint.read_text()) if checkpoint.exists() else 0
    stream = stream_on(parse_redis_url(f"unix://{socket}", environ={}), reply_timeout_s=0.4)
    await stream.connect()
    spool = Spool(state / "spool.sqlite", 10, time.time_ns)
    publisher = Publisher(stream, spool, batch=7, clock=time.time_ns)
    running = asyncio.create_task(publisher.run())
    for start in range(max(first - OVERLAP, 0), total, STEP):
        for number in range(start, min(start + STEP, total)):
            publisher.submit(make_pick(number))
        await publisher.secure()
        fresh = checkpoint.with_suffix(".new")
        fresh.write_text(str(start + STEP))
        fresh.replace(checkpoint)
        print(start + STEP, flush=True)
    assert await publisher.drain(20) == 0
    running.cancel()
    await publisher.close()
    await stream.close()


if __name__ == "__main__":
    asyncio.run(publish(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
