"""Picks for tests that need any, or a few alike."""

from dataclasses import replace
from typing import Any

from streamer.picks import Pick

NOW_NS = 1_800_000_000_000_000_000


def make_pick(number: int, rev: int = 0, **fields: Any) -> Pick:
    """Pick number so and so, of a real-looking station."""
    pick = Pick(
        id=f"CI.PASC.00.HH.P.20261122T{number:06d}.000.abcdef",
        rev=rev,
        status="new" if rev == 0 else "update",
        net="CI",
        sta="PASC",
        loc="00",
        cha="HHZ",
        phase="P",
        t_ns=1_700_000_000_000_000_000 + number * 1_000_000_000,
        prob=0.8765,
        model="msnet/test@1",
        model_sha="01234567",
        cfg="89abcdef",
        agency="XX",
        author="test",
        data_ns=1_700_000_001_000_000_000,
        made_ns=0,
    )
    return replace(pick, **fields)
