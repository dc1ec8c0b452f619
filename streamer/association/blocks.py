"""Event time in blocks on an absolute grid: what of the picks one settled result may depend on.

A block is settled by the picks of itself, of the block after it, and of those shortly before it,
and of nothing else: so that the same picks give the same events whenever, in whatever order and
however often they come.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from streamer.association.geodesy import Floats
from streamer.association.network import Network
from streamer.association.pickfiles import PHASES, PickRow, PickTable
from streamer.timebase import NS_PER_S

# A block is as long as S takes across the network and its surroundings, in steps of this.
BLOCK_STEP_S = 10
AHEAD = 1  # blocks that are looked at beyond the one that is settled
ALIVE_S = 6 * 3600  # a station whose last pick is older than this is taken to be out of order
Codes = Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class Grid:
    """Blocks of `block_s` s since the epoch; `behind` blocks before one give rates and odds."""

    block_s: int
    behind: int

    @classmethod
    def of(cls, network: Network, memory_s: float) -> "Grid":
        """The grid for a network and for a method that remembers `memory_s` s."""
        reach_km = math.sqrt(2) * network.aperture_km + float(network.search_radius_km.max())
        block_s = BLOCK_STEP_S * math.ceil(reach_km / network.s_km_s / BLOCK_STEP_S)
        return cls(block_s, max(1, math.ceil(memory_s / block_s)))

    @property
    def alive_blocks(self) -> int:
        """How many blocks back a pick shows that its station works."""
        return ALIVE_S // self.block_s

    def block(self, t_ns: int) -> int:
        """The block that a time (POSIX ns) lies in."""
        return t_ns // (self.block_s * NS_PER_S)

    def start_ns(self, block: int) -> int:
        """When a block begins, POSIX ns."""
        return block * self.block_s * NS_PER_S

    def seen(self, block: int) -> range:
        """The blocks whose picks matter for what is settled in `block`."""
        return range(block - self.behind, block + AHEAD + 1)


def most_picks(grid: Grid, per_s: float) -> int:
    """How many picks of a station and phase one block may have at so many a second."""
    return max(1, round(per_s * grid.block_s))


@dataclass(frozen=True)
class Chunk:
    """The picks of one block by time, station, phase and id: columns [pick].

    `crowded` counts, by station, picks that were left out because there were too many.
    """

    station: NDArray[np.int32]
    phase: NDArray[np.int8]
    t_ns: NDArray[np.int64]
    prob: Floats
    amp: Floats
    ids: list[str]
    crowded: Mapping[tuple[str, str], int]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, rows: Iterable[PickRow], codes: Codes, most: int) -> "Chunk":
        """From picks in any order, of known stations; of one station and phase the `most` likely.

        So a station that picks noise without end costs no more than that.
        """
        kept, crowded = _without_crowds(list(rows), most)
        kept.sort(key=lambda row: (row.t_ns, codes[row.code], row.phase, row.id))
        return cls(
            station=np.array([codes[row.code] for row in kept], np.int32),
            phase=np.array([PHASES.index(row.phase) for row in kept], np.int8),
            t_ns=np.array([row.t_ns for row in kept], np.int64),
            prob=np.array([row.prob for row in kept], np.float64),
            amp=np.array([row.amp for row in kept], np.float64),
            ids=[row.id for row in kept],
            crowded=crowded,
        )

    @cached_property
    def digest(self) -> bytes:
        """Equal for equal picks."""
        columns = (self.station, self.phase, self.t_ns, self.prob, self.amp)
        digest = hashlib.sha1("\n".join(self.ids).encode(), usedforsecurity=False)
        for column in columns:
            digest.update(column.tobytes())
        return digest.digest()

    @cached_property
    def stations(self) -> frozenset[int]:
        """The stations that have picks here."""
        return frozenset(self.station.tolist())


def _without_crowds(
    rows: list[PickRow], most: int
) -> tuple[list[PickRow], Counter[tuple[str, str]]]:
    """The picks but for the least likely of a station and phase that has more than `most`."""
    crowded: Counter[tuple[str, str]] = Counter()
    numbers = Counter((row.code, row.phase) for row in rows)
    if max(numbers.values(), default=0) <= most:
        return rows, crowded
    kept: list[PickRow] = []
    seen: Counter[tuple[tuple[str, str], str]] = Counter()
    for row in sorted(rows, key=lambda row: (-row.prob, row.t_ns, row.id)):
        path = row.code, row.phase
        seen[path] += 1
        if seen[path] <= most:
            kept.append(row)
        else:
            crowded[row.code] += 1
    return kept, crowded


def joined(chunks: Sequence[Chunk], epoch_ns: int) -> PickTable:
    """One table of the picks of successive blocks, times after `epoch_ns`."""
    t_ns = np.concatenate([np.empty(0, np.int64), *(chunk.t_ns for chunk in chunks)])
    return PickTable(
        station=np.concatenate([np.empty(0, np.int32), *(chunk.station for chunk in chunks)]),
        phase=np.concatenate([np.empty(0, np.int8), *(chunk.phase for chunk in chunks)]),
        time_s=(t_ns - epoch_ns) / NS_PER_S,
        prob=np.concatenate([np.empty(0), *(chunk.prob for chunk in chunks)]),
        amp=np.concatenate([np.empty(0), *(chunk.amp for chunk in chunks)]),
        ids=[name for chunk in chunks for name in chunk.ids],
        epoch_ns=epoch_ns,
    )
