"""Rsv/Pick, live: which share of each station's picks survives association, by phase.

It is the precision measure of the paper (picks that an event explains over all picks), here of
settled picks, over the last hour and the last day of event time.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

HOUR_S, DAY_S = 3600, 86_400
# A station has collapsed if its share of the last hour is less than this part of its share of the
# day, as compared with the whole network; it has recovered above the second one.
COLLAPSED, RECOVERED = 1 / 3, 1 / 2
# Least picks of the station, in the hour and the day, and of the network's events in the hour.
LEAST_HOUR, LEAST_DAY, LEAST_NETWORK = 20, 100, 40

Path = tuple[str, str]  # NET.STA and phase


@dataclass(frozen=True, slots=True)
class Share:
    """Picks of one station and phase, and how many of them have an event, in an hour and a day."""

    picks_1h: int
    kept_1h: int
    picks_24h: int
    kept_24h: int

    @property
    def share_1h(self) -> float | None:
        """Of the last hour; None without picks."""
        return _ratio(self.kept_1h, self.picks_1h)

    @property
    def share_24h(self) -> float | None:
        """Of the last day; None without picks."""
        return _ratio(self.kept_24h, self.picks_24h)

    def fields(self) -> dict[str, int | float | None]:
        """Counts, and shares 0-1 (null without picks), as `msnet:rsv` has them."""
        shares = {"share_1h": self.share_1h, "share_24h": self.share_24h}
        return asdict(self) | {k: None if v is None else round(v, 4) for k, v in shares.items()}

    @property
    def change(self) -> float | None:
        """Share of the hour as a part of that of the day; None if there is none to compare with."""
        hour, day = self.share_1h, self.share_24h
        return None if hour is None or not day else hour / day


def _ratio(kept: int, picks: int) -> float | None:
    # An event's picks count with its origin, which may lie in the block before: never above 1.
    return min(1.0, kept / picks) if picks else None


class Shares:
    """Counts by block of `block_s` s, summed over an hour and a day up to the newest block."""

    def __init__(self, block_s: int) -> None:
        self._hour, self._day = HOUR_S // block_s, DAY_S // block_s
        self._blocks: dict[int, tuple[Counter[Path], Counter[Path]]] = {}
        self._collapsed: set[Path] = set()

    @property
    def collapsed(self) -> frozenset[Path]:
        """Stations and phases that `changes` last said have collapsed."""
        return frozenset(self._collapsed)

    @property
    def day_blocks(self) -> int:
        """Blocks in a day."""
        return self._day

    def put(self, block: int, picks: Iterable[Path], kept: Iterable[Path]) -> None:
        """Set the picks of a block, and those of its events."""
        self._blocks[block] = Counter(picks), Counter(kept)

    def dump(self, block: int) -> list[tuple[str, str, int, int]]:
        """The counts of a block: station, phase, picks, kept."""
        picks, kept = self._blocks[block]
        return [(*path, picks[path], kept[path]) for path in sorted(picks.keys() | kept.keys())]

    def load(self, block: int, counts: Iterable[tuple[str, str, int, int]]) -> None:
        """Inverse of `dump`."""
        rows = list(counts)
        self._blocks[block] = (
            Counter({(station, phase): n for station, phase, n, _ in rows}),
            Counter({(station, phase): n for station, phase, _, n in rows}),
        )

    def shares(self) -> dict[Path, Share]:
        """The shares of all stations and phases that had picks in the last day."""
        if not self._blocks:
            return {}
        newest = max(self._blocks)
        for block in [b for b in self._blocks if b <= newest - self._day]:
            del self._blocks[block]
        sums = [Counter[Path]() for _ in range(4)]
        for block, (picks, kept) in self._blocks.items():
            if block > newest - self._hour:
                sums[0].update(picks)
                sums[1].update(kept)
            sums[2].update(picks)
            sums[3].update(kept)
        return {path: Share(*(each[path] for each in sums)) for path in sorted(sums[2])}

    def changes(self, shares: dict[Path, Share]) -> Iterator[tuple[Path, Share, bool]]:
        """Stations and phases whose share has collapsed (True) or recovered since the last call."""
        for phase in ("P", "S"):
            of_phase = [share for (_, each), share in shares.items() if each == phase]
            network = Share(
                sum(share.picks_1h for share in of_phase),
                sum(share.kept_1h for share in of_phase),
                sum(share.picks_24h for share in of_phase),
                sum(share.kept_24h for share in of_phase),
            )
            if not network.change or network.kept_1h < LEAST_NETWORK:
                continue  # nothing happened that a station could have missed
            for path, share in shares.items():
                if path[1] != phase or share.change is None:
                    continue
                relative = share.change / network.change
                enough = share.picks_1h >= LEAST_HOUR and share.picks_24h >= LEAST_DAY
                if enough and relative < COLLAPSED and path not in self._collapsed:
                    self._collapsed.add(path)
                    yield path, share, True
                elif relative > RECOVERED and path in self._collapsed:
                    self._collapsed.discard(path)
                    yield path, share, False
