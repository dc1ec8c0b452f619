"""Settled events: block by block, and a function of the picks alone."""

import numpy as np
import pytest
from assoc_synthetic import CRUST, EPOCH_NS, arrivals, noise, source, square_network

from streamer.association.blocks import Chunk, Grid
from streamer.association.network import Network
from streamer.association.offline import settled_events
from streamer.association.parameters import AssociationConfig, RealParameters
from streamer.association.pickfiles import PickRow
from streamer.association.settle import Catalogue, make_settler

STATIONS = square_network()
NETWORK = Network.build(STATIONS, CRUST)
SOURCES = 12


@pytest.fixture(scope="module")
def rows():
    """An event every 25 s or so for five minutes, and noise."""
    rng = np.random.default_rng(11)
    found = []
    for i in range(SOURCES):
        where = source(20 + 25 * i + rng.uniform(0, 9), *rng.uniform(-14, 14, 2), 8.0)
        found += arrivals(STATIONS, where, f"e{i}", sigma_s=0.04, rng=rng)
    return [row for row in found if rng.random() < 0.85] + noise(STATIONS, 340.0, 3.0, rng)


@pytest.mark.parametrize("profile", ["best", "real"])
def test_events_do_not_depend_on_the_order_of_the_picks(rows, profile):
    real = RealParameters(search_half_width_deg=0.2, grid_step_deg=0.04, least_picks=16)
    settings = AssociationConfig(profile=profile, real=real)
    forward = settled_events(NETWORK, rows, settings)
    order = np.random.default_rng(0).permutation(len(rows))
    assert settled_events(NETWORK, [rows[i] for i in order], settings) == forward
    found = {arrival.pick_id.split("-")[0] for event in forward for arrival in event.arrivals}
    assert found >= {f"e{i}" for i in range(SOURCES)}
    assert profile == "real" or len(forward) == SOURCES


def test_a_block_border_through_an_event_neither_loses_nor_doubles_it():
    grid = make_settler(NETWORK, AssociationConfig()).grid
    border_s = (grid.start_ns(grid.block(EPOCH_NS) + 2) - EPOCH_NS) / 1e9
    for shift_s in (-0.05, -0.01, 0.0, 0.01, 0.05):
        event = source(border_s + shift_s, 2.0, 3.0, 8.0)
        rng = np.random.default_rng(int(100 * shift_s + 50))
        rows = arrivals(STATIONS, event, "a", sigma_s=0.04, rng=rng)
        assert len(settled_events(NETWORK, rows)) == 1, shift_s


def test_a_block_runs_again_only_if_what_it_depends_on_changed(rows):
    settler = make_settler(NETWORK, AssociationConfig())
    chunks: dict[int, Chunk] = {}
    by_block: dict[int, list[PickRow]] = {}
    for row in rows:
        by_block.setdefault(settler.grid.block(row.t_ns), []).append(row)

    def chunk(block):
        return chunks.get(block) or Chunk.of(by_block.get(block, ()), NETWORK.index, 99)

    catalogue = Catalogue(settler, chunk, lambda block: chunk(block).stations)
    blocks = range(min(by_block) - 1, max(by_block) + 1)
    assert any([catalogue.settle(block) for block in blocks])  # noqa: C419 - all of them run
    assert not any([catalogue.settle(block) for block in blocks])  # noqa: C419
    late = by_block[blocks[4]].pop()
    assert catalogue.settle(blocks[1]) is None
    assert catalogue.settle(blocks[4]) is not None
    by_block[blocks[4]].insert(0, late)
    for block in blocks:
        catalogue.settle(block)
    events = [one.event for block in blocks for one in catalogue.runs[block].events]
    assert sorted(events, key=lambda event: event.t_ns) == settled_events(NETWORK, rows)


def test_of_a_station_that_picks_without_end_the_likeliest_picks_count():
    crowd = [PickRow(("XX", "S00"), "P", EPOCH_NS + i, i / 100, 1.0, f"{i}") for i in range(100)]
    chunk = Chunk.of(crowd, NETWORK.index, most=7)
    assert chunk.ids == [str(i) for i in range(93, 100)]
    assert chunk.crowded == {("XX", "S00"): 93}


def test_a_block_is_as_long_as_s_waves_need_and_lies_on_the_clock():
    grid = Grid.of(NETWORK, memory_s=100.0)
    assert grid.block_s % 10 == 0
    assert grid.start_ns(grid.block(EPOCH_NS)) <= EPOCH_NS < grid.start_ns(grid.block(EPOCH_NS) + 1)
    assert grid.behind * grid.block_s >= 100
