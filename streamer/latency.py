"""Where the time between an onset and its publication went.

A pick message has seven instants, each later than the one before; a stage is the way from one to
the next. So the stages of a pick add up to the time between its onset and its publication.
"""

from collections.abc import Sequence
from itertools import pairwise

from streamer.timebase import NS_PER_S

INSTANTS = ("t_ns", "seen_ns", "rec_ns", "data_ns", "turn_ns", "done_ns", "made_ns")
"""Members of a pick message, POSIX ns."""

STAGES = ("look_ahead", "record", "telemetry", "wait", "network", "publish")
"""What lies between them.

look_ahead: data behind the onset that the network had seen; record: until the newest record had
ended; telemetry: until it arrived here; wait: until the station had its turn; network: until the
pick was made; publish: until it was on its way to Redis.
"""


def stages_s(instants: Sequence[int | None]) -> dict[str, float]:
    """Seconds of each stage, negative where clocks disagree; empty if an instant is not told."""
    told = [instant for instant in instants if instant is not None]
    if len(told) < len(INSTANTS):
        return {}
    return {
        stage: (end - begin) / NS_PER_S
        for stage, (begin, end) in zip(STAGES, pairwise(told), strict=True)
    }
