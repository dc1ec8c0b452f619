"""Picks in, versions of events out: the window of event time that is open, and what is settled.

Two speeds. Each pick may complete, change or end a preliminary event at once (`fast`). When the
watermark, the time up to which all picks are known, has passed a block and what it looks at, the
block is settled (`settle`) and has the last word: preliminary events become final, or are
retracted. A pick that comes later makes the blocks that can depend on it run again.

Everything here is a function of the order of picks and watermarks; the clock has no part in it.
"""

import hashlib
import math
from bisect import bisect_left, insort
from collections import Counter, OrderedDict
from typing import Any

import numpy as np
import structlog

from streamer.association.blocks import AHEAD, ALIVE_S, Chunk, Grid, joined, most_picks
from streamer.association.events import located_event
from streamer.association.fast import Fast, Open
from streamer.association.geodesy import distance_km
from streamer.association.lifecycle import Ledger
from streamer.association.magnitude import attenuation
from streamer.association.network import Network
from streamer.association.parameters import AssociationConfig, BestParameters
from streamer.association.pickfiles import PHASES, PickRow, from_message
from streamer.association.relocator import relocator
from streamer.association.settle import Catalogue, Run, make_settler
from streamer.association.share import Shares
from streamer.association.store import Known, Store, StoredPick
from streamer.picks import Pick
from streamer.timebase import NS_PER_S

log = structlog.get_logger()

NEVER_NS = -(2**62)
NO_BLOCK = 2**62
CHUNKS_KEPT = 400


class Window:
    """All the state of an association worker; `store` is its memory on disk.

    Call `take` and `advance` within a transaction of the store, and `save` at its end.
    """

    def __init__(
        self,
        store: Store,
        network: Network,
        rules: AssociationConfig,
    ) -> None:
        settler = make_settler(network, rules)
        self._relocated = relocator(network, rules.relocation)
        self._law = attenuation(rules.attenuation)
        fast_rules = _preliminary_rules(rules)
        self.counts: Counter[str] = Counter()
        self.unknown_stations: Counter[str] = Counter()
        self.grid = settler.grid
        self.rules = rules
        self.watermark_ns = NEVER_NS
        self.shares = Shares(self.grid.block_s)
        self._store = store
        self._network = network
        self._fast_rules = fast_rules
        self._most = most_picks(self.grid, rules.most_picks_per_s)
        self._chunks: OrderedDict[int, Chunk] = OrderedDict()
        self._present: dict[int, frozenset[int]] = {}
        self._filled: list[int] = []  # blocks with picks that count, ascending
        self._crowds: Counter[tuple[int, tuple[str, str], str]] = Counter()
        self._orphans: dict[str, int] = {}  # id of events that their block no longer has
        self._frontier: int | None = None  # blocks before it are settled
        self._dirty: int | None = None  # the first of them that has to be looked at again
        self._passing = False  # some blocks that are due have not been looked at
        self._forgotten = -NO_BLOCK  # blocks before it are
        self._fast: Fast | None = None
        self._regrid()
        self._ledger = Ledger(store)
        self._catalogue = Catalogue(settler, self._chunk, self._stations_in)
        self._load()

    @property
    def station_codes(self) -> list[tuple[str, str]]:
        """Network and station codes of the network."""
        return [station.code for station in self._network.stations]

    # Picks

    def take(self, pick: Pick, received_ns: int) -> None:
        """One message, received (or entered into the stream) at a time: POSIX ns."""
        known = self._store.pick(pick.id)
        if known is not None and known.rev >= pick.rev:
            self.counts["duplicates"] += 1
            return
        self.counts["picks"] += 1
        if pick.t_ns > min(pick.made_ns, received_ns) + self.rules.future_s * NS_PER_S:
            self.counts["picks_future"] += 1
            log.warning("pick_in_future", station=f"{pick.net}.{pick.sta}", pick_id=pick.id)
            return
        if pick.t_ns < self.watermark_ns - self.rules.retention_s * NS_PER_S:
            self.counts["picks_too_old"] += 1
            log.warning("pick_too_old", station=f"{pick.net}.{pick.sta}", pick_id=pick.id)
            return
        row, block = from_message(pick), self.grid.block(pick.t_ns)
        is_known = row.code in self._network.index
        gone = pick.status == "retract"
        changed = self._take_back(known) if known is not None else []
        value = None
        if is_known and not gone and self._may_be_fast(row, block):
            fast = self._fast_at(block)
            value = fast.new_value(row)
            changed = self._join(fast, row, value) + changed
        if self._frontier is None:
            self._frontier = block - AHEAD
        stored = StoredPick(row, pick.rev, bool(pick.final), gone, block, value)
        self._store.put_pick(stored)
        if is_known:
            self._touch(known, stored)
        else:
            self._note_unknown(row)
        for number in dict.fromkeys(changed):
            self._tell(number)

    def _note_unknown(self, row: PickRow) -> None:
        name = ".".join(row.code)
        self.unknown_stations[name] += 1
        self.counts["picks_of_unknown_stations"] += 1
        if self.unknown_stations[name] == 1:
            log.warning("station_unknown", station=name)

    def _may_be_fast(self, row: PickRow, block: int) -> bool:
        """Whether a pick may still be of a preliminary event."""
        if self._frontier is not None and block < self._frontier:
            self.counts["picks_late"] += 1
            return False
        crowd = block, row.code, row.phase
        if self._crowds[crowd] >= self._most:
            self.counts["picks_crowded"] += 1
            log.warning("station_noisy", station=".".join(row.code), most=self._most)
            return False
        self._crowds[crowd] += 1
        return self._fast is None or not self._fast.is_late(row.t_ns)

    def _fast_at(self, block: int) -> Fast:
        if self._fast is None:
            self._fast = self._new_fast(self.grid.start_ns(block))
            self._count_all(self._fast)
        return self._fast

    def _new_fast(self, epoch_ns: int) -> Fast:
        like = self._catalogue.settler.searcher
        return Fast(self._network, self._fast_rules, epoch_ns, like)

    def _count_all(self, fast: Fast) -> None:
        for known in self._ledger.standing():
            fast.count(known.event.t_ns)

    def _join(self, fast: Fast, row: PickRow, value: float) -> list[int]:
        newest_block = self.grid.block(fast.newest_ns)
        at = fast.insert(row, value)
        changed = fast.look(row, at)
        if self.grid.block(fast.newest_ns) != newest_block:
            fast.prune()
            changed = [number for number in changed if number in fast.open]
        return changed

    def _take_back(self, known: StoredPick) -> list[int]:
        """Undo what an earlier revision of a pick did."""
        if self._fast is None or known.row.id not in self._fast.rows:
            return []
        self._crowds[known.block, known.row.code, known.row.phase] -= 1
        return self._fast.remove(known.row.id)

    def _touch(self, known: StoredPick | None, now: StoredPick) -> None:
        """Have the blocks look again whose picks have changed."""
        for pick in (known, now):
            if pick is None or not pick.counts:
                continue
            self._chunks.pop(pick.block, None)
            self._set_present(pick)
            first = pick.block - AHEAD
            if self._frontier is not None and first < self._frontier:
                self._dirty = first if self._dirty is None else min(self._dirty, first)

    def _set_present(self, pick: StoredPick) -> None:
        """Note which stations have picks in the block of a pick that came or went."""
        present = self._present.get(pick.block)
        station = frozenset({self._network.index[pick.row.code]})
        if present is None:
            self._present[pick.block] = station
            insort(self._filled, pick.block)
        else:
            # A station whose last pick of the block went away is dropped when the block is read.
            self._present[pick.block] = present | station

    def _chunk(self, block: int) -> Chunk:
        chunk = self._chunks.get(block)
        if chunk is None:
            index = self._network.index
            rows = self._store.picks_of_block(block) if block in self._present else []
            chunk = Chunk.of((row for row in rows if row.code in index), index, self._most)
            self._chunks[block] = chunk
            if block in self._present:
                self._present[block] = chunk.stations
            while len(self._chunks) > CHUNKS_KEPT:
                self._chunks.popitem(last=False)
        self._chunks.move_to_end(block)
        return chunk

    def _stations_in(self, block: int) -> frozenset[int]:
        return self._present.get(block, frozenset())

    # Preliminary events

    def _tell(self, number: int) -> None:
        """Publish what has become of an open event, if it is worth it."""
        assert self._fast is not None
        open_event = self._fast.open.get(number)
        if open_event is None:
            return
        known = self._ledger.of_number(number)
        if known is None:
            if open_event.enough:
                self._publish(number, open_event)
        elif not open_event.stands:
            self._retract(known)
        elif self._has_changed(open_event):
            self._publish(number, open_event)

    def _has_changed(self, now: Open) -> bool:
        told = now.told
        if told is None or len(now.picks) >= told[0] + self.rules.update_picks:
            return True
        _, lat, lon, depth_km = map(float, now.origin)
        moved_km = math.hypot(distance_km(told[1], told[2], lat, lon), depth_km - told[3])
        return moved_km > self.rules.update_share * self._network.spacing_km

    def _publish(self, number: int, open_event: Open) -> None:
        fast = self._fast
        assert fast is not None
        rows = [fast.rows[name][0] for name in open_event.picks]
        chunk = Chunk.of(rows, self._network.index, len(rows))
        table = joined([chunk], fast.epoch_ns)
        time_s, lat, lon, depth_km = map(float, open_event.origin)
        event = located_event(
            self._network, fast.best.errors, table, np.arange(len(rows)),
            (time_s, lat, lon, depth_km), "best", self._law, open_event.gain,
        )  # fmt: skip
        before = self._ledger.of_number(number)
        if before is not None:
            fast.count(before.event.t_ns, gone=True)
        fast.count(event.t_ns)
        self._ledger.preliminary(event, number)
        open_event.told = (len(rows), lat, lon, depth_km)
        self.counts["events_preliminary" if before is None else "events_updated"] += 1

    # Settled events

    def advance(self, watermark_ns: int, most_runs: int = 50) -> bool:
        """All picks before the watermark are known; settle what is due, at most so many blocks.

        What late picks have changed is settled again when the next block is due, all at once.
        Returns whether more is due: call again with the same watermark.
        """
        self.watermark_ns = max(self.watermark_ns, watermark_ns)
        if self._frontier is None:
            return False
        due_ns = self.watermark_ns - round(self.rules.lateness_s * NS_PER_S)
        end = max(self.grid.block(due_ns) - AHEAD, self._frontier)
        if end == self._frontier and not self._passing:
            return False
        block = self._frontier if self._dirty is None else self._dirty
        runs = 0
        while block < end and runs < most_runs:
            block = min(self._next(block), end)
            if block < end:
                runs += self._settle(block)
                block += 1
        if block < self._frontier:
            self._dirty = block
        else:
            self._frontier, self._dirty = block, None
        self._retire(block)
        self._passing = block < end
        return self._passing

    def _next(self, block: int) -> int:
        """The next block that may have events, or had."""
        at = bisect_left(self._filled, block)
        filled = self._filled[at] - AHEAD if at < len(self._filled) else NO_BLOCK
        return max(block, min(filled, self._catalogue.next_run(block, NO_BLOCK)))

    def _settle(self, block: int) -> int:
        """Settle one block; whether it ran."""
        run = self._catalogue.settle(block)
        self._count_shares(block)
        if run is None:
            return 0
        self._store.put_run(block, run)
        self._settled(block, run)
        return 1

    def _settled(self, block: int, run: Run) -> None:
        claimed: set[str] = set()
        fast = self._fast
        for one in run.events:
            known = self._ledger.match(one.pick_ids, claimed)
            number = None if known is None else known.number
            version = 0 if known is None else known.event.version
            if fast is not None and known is not None:
                fast.count(known.event.t_ns, gone=True)
            now = self._ledger.settled(self._relocated(one.event), known, block)
            claimed.add(now.event.id)
            self._orphans.pop(now.event.id, None)
            self.counts[f"events_{now.event.status}"] += now.event.version > version
            if fast is not None:
                fast.count(now.event.t_ns)
                if number is not None and number in fast.open:
                    fast.close(number)
                fast.take(one.pick_ids)
        for known in self._ledger.of_block(block):
            if known.event.id not in claimed:
                self._orphans[known.event.id] = block
        if fast is not None and run.events:
            self._learn(fast)

    def _learn(self, fast: Fast) -> None:
        """Let open events have the delays and errors that settled ones teach."""
        school = self._catalogue.settler.school
        _, fast.best.errors = school.learnt(self._catalogue.teachers(NO_BLOCK))

    def _retire(self, before: int) -> None:
        """Retract what the blocks before one should have found again and have not."""
        gone = [name for name, block in self._orphans.items() if block + 1 < before]
        for name in gone:
            del self._orphans[name]
        limit_ns = self.grid.start_ns(before - 1)
        unconfirmed = [k for k in self._ledger.preliminaries() if k.event.t_ns < limit_ns]
        for known in [*unconfirmed, *map(self._ledger.get, gone)]:
            self._retract(known)

    def _retract(self, known: Known) -> None:
        self._ledger.retract(known)
        self.counts["events_retracted"] += 1
        if self._fast is not None:
            self._fast.count(known.event.t_ns, gone=True)
            if known.number is not None and known.number in self._fast.open:
                self._fast.close(known.number)

    def _count_shares(self, block: int) -> None:
        chunk, run = self._chunk(block), self._catalogue.runs.get(block)
        names = [f"{station.net}.{station.sta}" for station in self._network.stations]
        picks = [
            (names[station], PHASES[phase])
            for station, phase in zip(chunk.station.tolist(), chunk.phase.tolist(), strict=True)
        ]
        kept = [
            (names[station], PHASES[phase])
            for one in (run.events if run is not None else ())
            for phase, station, _ in one.spread
        ]
        self.shares.put(block, picks, kept)
        self._store.put_tally(block, self.shares.dump(block))

    # Memory

    def save(self) -> None:
        """Keep what is not kept with each change; the last call of a transaction."""
        self._forget()
        self._store.put_meta(
            {
                "watermark_ns": self.watermark_ns,
                "frontier": self._frontier,
                "dirty": self._dirty,
                "passing": self._passing,
                "orphans": self._orphans,
                "unknown": self.unknown_stations,
                "stations": self._network_digest(),
                "block_s": self.grid.block_s,
                "fast": None if self._fast is None else self._fast.dump(),
                "forgotten": self._forgotten,
            }
        )

    def _forget(self) -> None:
        """Drop what no pick that may still come can depend on, once per block."""
        if self._frontier is None:
            return
        # What is still to be settled, if only again, needs what was before it.
        settled = self._frontier if self._dirty is None else self._dirty
        known_ns = min(self.grid.start_ns(settled), self.watermark_ns)
        late_ns = known_ns - round(self.rules.retention_s * NS_PER_S)
        oldest = self.grid.block(late_ns - ALIVE_S * NS_PER_S)
        if oldest <= self._forgotten:
            return
        self._forgotten = oldest
        run = self.grid.block(late_ns) - self.grid.behind - AHEAD
        self._catalogue.forget(run)
        self._store.forget(self.grid.start_ns(oldest), run, self._catalogue.runs)
        self._store.forget_tallies(self._frontier - self.shares.day_blocks)
        self._ledger.forget(self.grid.start_ns(oldest))
        gone = bisect_left(self._filled, oldest)
        for block in self._filled[:gone]:
            del self._present[block]
        del self._filled[:gone]
        self._crowds = Counter({k: n for k, n in self._crowds.items() if k[0] >= self._frontier})

    def _load(self) -> None:
        """Go on from what the store has."""
        index = self._network.index
        for block, code in self._store.presence():
            if code in index:
                stations = self._present.get(block, frozenset())
                self._present[block] = stations | {index[code]}
        self._filled = sorted(self._present)
        for block, counts in self._store.tallies():
            self.shares.load(block, counts)
        meta = self._store.meta()
        if "frontier" in meta:
            self._resume(meta)

    def _resume(self, meta: dict[str, Any]) -> None:
        self.watermark_ns, self._frontier = meta["watermark_ns"], meta["frontier"]
        self._dirty, self._orphans = meta["dirty"], meta["orphans"]
        self._passing, self._forgotten = meta["passing"], meta["forgotten"]
        self.unknown_stations.update(meta["unknown"])
        if meta["stations"] != self._network_digest():
            # Another network, other events: all that is still here is settled again.
            log.info("stations_changed", stations=len(self._network.stations))
            if self._filled and self._frontier is not None:
                self._dirty = min(self._filled[0] - AHEAD, self._frontier)
            return
        for block, run in self._store.runs():
            self._catalogue.put(block, run)
        if meta["fast"] is not None:
            self._fast = self._new_fast(meta["fast"]["epoch_ns"])
            self._count_all(self._fast)
            picks = self._store.picks_in_use(meta["fast"]["since_ns"])
            self._fast.load(meta["fast"], picks)
            for pick in picks:
                self._crowds[pick.block, pick.row.code, pick.row.phase] += 1
            settled = {name for known in self._ledger.standing() if known.block is not None
                       for name in (a.pick_id for a in known.event.arrivals)}  # fmt: skip
            self._fast.take(settled)
            self._learn(self._fast)

    def _regrid(self) -> None:
        """Bring what the store has to the blocks of this network: wider ones may be longer."""
        meta = self._store.meta()
        before = Grid(meta.get("block_s", self.grid.block_s), 1)
        if "frontier" not in meta or before.block_s == self.grid.block_s:
            return
        moved = {
            key: self.grid.block(before.start_ns(meta[key]))
            for key in ("frontier", "dirty", "forgotten")
            if meta[key] is not None
        }
        with self._store.transaction():
            self._store.regrid(self.grid.block_s * NS_PER_S)
            self._store.put_meta(moved | {"orphans": {}, "block_s": self.grid.block_s})

    def _network_digest(self) -> str:
        """Equal if events are those of the same stations, in blocks of the same length."""
        network = repr((self._network.stations, self.grid.block_s))
        return hashlib.sha256(network.encode()).hexdigest()


def _preliminary_rules(rules: AssociationConfig) -> BestParameters:
    """The likelihoods of `best`, with the least numbers of the profile in use."""
    if rules.profile == "best":
        return rules.best
    names = ("least_p", "least_s", "least_picks", "least_both", "greatest_gap_deg")
    numbers = {name: getattr(rules.real, name) for name in names}
    return rules.best.model_copy(update=numbers | {"deepest_km": rules.real.deepest_km or None})
