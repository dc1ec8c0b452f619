"""The settled events of a block of event time: a function of its picks and of earlier events.

A block's run looks at the picks of the block and of the one after it, searches from the P picks of
the former and of half of the latter, and commits what it finds with an origin before the block's
end. Picks of committed events are no longer to be had by later blocks, and residuals of the last
committed events tell later blocks the station delays and the errors of picks.
"""

import bisect
import hashlib
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np

from streamer.association.best import Before, Best
from streamer.association.best_kernels import Errors
from streamer.association.blocks import AHEAD, Chunk, Grid, joined
from streamer.association.events import located_event
from streamer.association.geodesy import KM_PER_DEG, Floats
from streamer.association.magnitude import attenuation
from streamer.association.message import Event
from streamer.association.network import Network
from streamer.association.parameters import AssociationConfig, Attenuation, BestParameters
from streamer.association.pick_errors import initial_errors, learnt_errors
from streamer.association.pickfiles import PHASES, P, PickTable
from streamer.association.real import Ints, Real, RealEvent
from streamer.association.real_program import RealProgram
from streamer.timebase import NS_PER_S

# Delays and errors are learnt from this many events: of a changed clock or instrument nothing is
# left after as many, and nothing older can matter.
LEARNT_EVENTS = 200

# (phase, station, residual with the station's delay in s) of each pick of an event.
Spread = tuple[tuple[int, int, float], ...]
RealEngine = Callable[[PickTable], list[RealEvent]]


@dataclass(frozen=True, eq=False)
class Settled:
    """An event as its block's run has it (its id that of a first version), and what it teaches.

    Each is equal to itself alone, so that a sequence of them is quickly known again.
    """

    event: Event
    spread: Spread

    @cached_property
    def pick_ids(self) -> frozenset[str]:
        """Whose picks are no longer to be had."""
        return frozenset(arrival.pick_id for arrival in self.event.arrivals)

    @cached_property
    def text(self) -> str:
        """The event as JSON."""
        return self.event.to_json()

    @cached_property
    def digest(self) -> bytes:
        """Equal for equal events."""
        text = f"{self.text}{self.spread}"
        return hashlib.sha1(text.encode(), usedforsecurity=False).digest()


@dataclass(frozen=True)
class Scene:
    """All that the settled events of `block` depend on.

    `chunks`: picks of the blocks that the grid says are seen; `earlier`: events of the blocks
    before within its memory; `teachers`: the last events before; `alive` [station].
    """

    block: int
    chunks: tuple[Chunk, ...]
    earlier: tuple[Settled, ...]
    teachers: tuple[Settled, ...]
    alive: frozenset[int]

    @cached_property
    def digest(self) -> bytes:
        """Equal for scenes that give equal events."""
        digest = hashlib.sha1(
            repr((self.block, sorted(self.alive))).encode(), usedforsecurity=False
        )
        for parts in (self.chunks, self.earlier, self.teachers):
            for part in parts:
                digest.update(part.digest)
            digest.update(b"|")
        return digest.digest()

    def taken(self) -> AbstractSet[str]:
        """Ids of the picks that earlier events have."""
        return frozenset[str]().union(*(settled.pick_ids for settled in self.earlier))

    def has_p(self, grid: Grid) -> bool:
        """Whether there is a P pick from which a search may start."""
        return any(bool(np.any(chunk.phase == P)) for chunk in self.chunks[grid.behind :])


class School:
    """What events teach of delays and errors; the last answers are kept.

    What a block was the last one to teach, open events and the next block learn.
    """

    def __init__(self, network: Network, rules: BestParameters) -> None:
        self._n_stations = len(network.stations)
        self._rules = rules
        self._initial = initial_errors(network, rules)
        self.learnt = lru_cache(maxsize=2)(self._learnt)
        self._row = lru_cache(maxsize=2 * LEARNT_EVENTS)(self._spread_row)

    def _learnt(self, teachers: tuple[Settled, ...]) -> tuple[Floats, Errors]:
        """Their table of residuals [event, phase, station], and the delays and errors by it."""
        spread_s = np.empty((len(teachers), len(PHASES), self._n_stations))
        for row_s, one in zip(spread_s, teachers, strict=True):
            row_s[:] = self._row(one)
        return spread_s, learnt_errors(self._initial, spread_s, self._rules)

    def _spread_row(self, one: Settled) -> Floats:
        """What an event teaches, [phase, station], NaN without a pick."""
        row_s = np.full((len(PHASES), self._n_stations), np.nan)
        for phase, station, residual_s in one.spread:
            row_s[phase, station] = residual_s
        return row_s


class Settler(Protocol):
    """A profile: how the events of a block are found."""

    grid: Grid
    n_stations: int
    school: School

    @property
    def searcher(self) -> Best | None:
        """Whose search grids others may use."""
        ...

    def settle(self, scene: Scene) -> list[Settled]:
        """The events of the block, by time."""
        ...


def make_settler(network: Network, settings: AssociationConfig) -> Settler:
    """The settler of the profile in use."""
    law = attenuation(settings.attenuation)
    if settings.profile == "best":
        return SettleBest(network, settings.best, law)
    return SettleReal(network, _real_engine(network, settings), settings, law)


def _real_engine(network: Network, settings: AssociationConfig) -> RealEngine:
    """REAL's algorithm, ours or its program: what finds events in a table of picks."""
    if settings.engine == "real-program":
        program = RealProgram(
            network.stations, network.model, settings.real, timeout_s=settings.program_timeout_s
        )
        return program.associate
    travel = network.travel

    def times(station: Ints, distance_deg: Floats, depth_km: Floats) -> Floats:
        return travel.times(station, distance_deg * KM_PER_DEG, depth_km)

    real = Real(network.stations, times, settings.real)
    every = np.arange(len(network.stations))
    return lambda table: real.associate(table, stations=every)


def _search_end_ns(grid: Grid, block: int) -> int:
    """P picks before this start searches: events that compete with those of the block."""
    return (grid.start_ns(block + 1) + grid.start_ns(block + 1 + AHEAD)) // 2


class SettleBest:
    """Profile `best`."""

    def __init__(self, network: Network, rules: BestParameters, law: Attenuation) -> None:
        self._network = network
        self._law = law
        self.n_stations = len(network.stations)
        self._best = Best(network, rules)
        self.school = School(network, rules)
        self.grid = Grid.of(network, self._best.odds_span_s)

    @property
    def searcher(self) -> Best:
        """Whose search grids others may use."""
        return self._best

    def settle(self, scene: Scene) -> list[Settled]:
        """The events of the block, by time."""
        grid, network = self.grid, self._network
        if not scene.has_p(grid):
            return []
        epoch_ns = grid.start_ns(scene.block - grid.behind)
        table = joined(scene.chunks, epoch_ns)
        limits_ns = grid.start_ns(scene.block), _search_end_ns(grid, scene.block)
        alive = np.zeros(self.n_stations, np.bool_)
        alive[list(scene.alive)] = True
        spread_s, errors = self.school.learnt(scene.teachers)
        before = Before(
            taken=scene.taken(),
            origins_s=[(one.event.t_ns - epoch_ns) / NS_PER_S for one in scene.earlier],
            spread_s=spread_s,
            errors=errors,
            search_s=((limits_ns[0] - epoch_ns) / NS_PER_S, (limits_ns[1] - epoch_ns) / NS_PER_S),
            alive=alive,
        )
        end_s = (grid.start_ns(scene.block + 1) - epoch_ns) / NS_PER_S
        found = self._best.associate(table, before)
        errors = self._best.errors
        return [
            _settled(
                network,
                errors,
                located_event(
                    network, errors, table, one.picks, one.origin, "best", self._law, one.gain
                ),
            )
            for one in found
            if one.origin[0] < end_s
        ]


class SettleReal:
    """Profile `real`: REAL's events, located with station delays learnt from earlier ones."""

    def __init__(
        self, network: Network, engine: RealEngine, settings: AssociationConfig, law: Attenuation
    ) -> None:
        self._network = network
        self.n_stations = len(network.stations)
        self.school = School(network, settings.best)
        self._engine = engine
        self._law = law
        self._separation_s = settings.real.event_separation_s
        self.grid = Grid.of(network, 0.0)
        self.searcher: Best | None = None

    def settle(self, scene: Scene) -> list[Settled]:
        """The events of the block, by time."""
        grid, network = self.grid, self._network
        if not scene.has_p(grid):
            return []
        epoch_ns = grid.start_ns(scene.block - grid.behind)
        table = joined(scene.chunks, epoch_ns)
        start_s, end_s = (
            (grid.start_ns(block) - epoch_ns) / NS_PER_S for block in (scene.block, scene.block + 1)
        )
        taken = scene.taken()
        _, errors = self.school.learnt(scene.teachers)
        settled = []
        for one in self._engine(table):
            inside = start_s - self._separation_s <= one.node.time_s < end_s
            known = sum(table.ids[row] in taken for row in one.picks)
            if inside and 2 * known <= len(one.picks):
                event = located_event(
                    network, errors, table, one.picks, _origin(one), "real", self._law
                )
                settled.append(_settled(network, errors, event))
        return settled


def _origin(event: RealEvent) -> tuple[float, float, float, float]:
    node = event.node
    return node.time_s, node.lat, node.lon, node.depth_km


def _settled(network: Network, errors: Errors, event: Event) -> Settled:
    index = network.index
    spread = []
    for arrival in event.arrivals:
        phase, station = PHASES.index(arrival.phase), index[arrival.net, arrival.sta]
        value_s = arrival.residual_s + float(errors.static_s[phase, station])
        spread.append((phase, station, value_s))
    return Settled(event, tuple(spread))


@dataclass(frozen=True, slots=True)
class Run:
    """What a block had to go by, and what came of it."""

    digest: bytes
    events: tuple[Settled, ...]


class Catalogue:
    """The settled events block by block; a block runs again only if what it depends on changed.

    `chunk` gives the picks of a block, `present` the stations that have any in it.
    """

    def __init__(
        self,
        settler: Settler,
        chunk: Callable[[int], Chunk],
        present: Callable[[int], AbstractSet[int]],
    ) -> None:
        self.runs: dict[int, Run] = {}
        self.settler = settler
        self._chunk = chunk
        self._present = present
        self._eventful: list[int] = []  # blocks with events, ascending

    def settle(self, block: int) -> Run | None:
        """Run a block by what is known now; None if that gives what it had before."""
        scene = self._scene(block)
        known = self.runs.get(block)
        if known is None and not scene.has_p(self.settler.grid):
            return None
        if known is not None and known.digest == scene.digest:
            return None
        run = Run(scene.digest, tuple(self.settler.settle(scene)))
        self.put(block, run)
        return run

    def put(self, block: int, run: Run) -> None:
        """Set what is known of a block."""
        self.runs[block] = run
        at = bisect.bisect_left(self._eventful, block)
        listed = at < len(self._eventful) and self._eventful[at] == block
        if run.events and not listed:
            self._eventful.insert(at, block)
        elif listed and not run.events:
            del self._eventful[at]

    def next_run(self, block: int, default: int) -> int:
        """The first block from this one on that has run and had events."""
        at = bisect.bisect_left(self._eventful, block)
        return self._eventful[at] if at < len(self._eventful) else default

    def forget(self, before: int) -> None:
        """Drop the blocks before one, but for the events that later ones learn from."""
        at = bisect.bisect_left(self._eventful, before)
        n_events = 0
        while at > 0 and n_events < LEARNT_EVENTS:
            at -= 1
            n_events += len(self.runs[self._eventful[at]].events)
        kept = set(self._eventful[at:])
        self._eventful = self._eventful[at:]
        self.runs = {b: run for b, run in self.runs.items() if b >= before or b in kept}

    def _scene(self, block: int) -> Scene:
        grid = self.settler.grid
        return Scene(
            block=block,
            chunks=tuple(map(self._chunk, grid.seen(block))),
            earlier=tuple(
                one for b in range(block - grid.behind, block) for one in self._events(b)
            ),
            teachers=self.teachers(block),
            alive=self._alive(block),
        )

    def _alive(self, block: int) -> frozenset[int]:
        """The stations that have picks in or shortly before the blocks that are looked at."""
        alive: set[int] = set()
        newest = block + AHEAD
        for each in range(newest, block - self.settler.grid.alive_blocks - 1, -1):
            alive |= self._present(each)
            if len(alive) == self.settler.n_stations:
                break
        return frozenset(alive)

    def _events(self, block: int) -> Sequence[Settled]:
        run = self.runs.get(block)
        return run.events if run is not None else ()

    def teachers(self, block: int) -> tuple[Settled, ...]:
        """The last events before the block, the latest last."""
        latest_first: list[Settled] = []
        at = bisect.bisect_left(self._eventful, block)
        while at > 0 and len(latest_first) < LEARNT_EVENTS:
            at -= 1
            latest_first += reversed(self.runs[self._eventful[at]].events)
        return tuple(latest_first[LEARNT_EVENTS - 1 :: -1])
