"""The loops of association are compiled before the first pick, and kept where that is possible."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from streamer.association import jit

# In a process of its own, in which nothing has been compiled or loaded yet: which loops are built
# (loaded) by a stream of another network that follows. Some events lie beside the network.
STREAM = """
import json, pkgutil, sys
from importlib import import_module
import numba
import numpy as np
import streamer.association as wing
from assoc_replay import RULES, delayed, far, feed, finish, make_window, told
from assoc_synthetic import CRUST, arrivals, noise, source, square_network
from streamer.association.network import Network
from streamer.association.parameters import RealParameters
from streamer.association.warm_up import warm_up

def compiled():
    names = [f"{wing.__name__}.{module.name}" for module in pkgutil.iter_modules(wing.__path__)]
    modules = [import_module(name) for name in names]
    return {
        f"{loop.__module__}.{loop.__name__}": len(loop.signatures)
        for module in modules for loop in vars(module).values()
        if isinstance(loop, numba.core.registry.CPUDispatcher)
    }

profile, warm = sys.argv[1:]
real = RealParameters(search_half_width_deg=0.2, grid_step_deg=0.04, least_picks=9)
rules = RULES.model_copy(update={"profile": profile, "real": real})
stations = square_network()
network = Network.build(stations, CRUST)
if warm == "warm":
    warm_up(rules)
before = compiled()
rng = np.random.default_rng(1)
places = [(0, 0), (5, -7), (30, 4), (-9, 11), (3, 28)]
sources = [source(20 + 15 * i, *place, 8.0) for i, place in enumerate(places)]
rows = [row for i, event in enumerate(sources)
        for row in arrivals(stations, event, f"e{i}", sigma_s=0.04, rng=rng)]
rows += noise(stations, 100.0, 1.0, rng)
window = make_window(network, rules=rules)
feed(window, delayed(rows, rng), lag_s=3.0)
finish(window, far(rows))
after = compiled()
new = sorted(name for name in after if after[name] != before[name])
print(json.dumps([len(told(window)), new]))
"""


def events_and_compiled(profile: str, *, warm: bool) -> tuple[int, list[str]]:
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests), str(tests.parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", STREAM, profile, "warm" if warm else "cold"],
        capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    return tuple(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("profile", ["best", "real"])
def test_nothing_is_compiled_with_the_first_events(profile):
    told, compiled = events_and_compiled(profile, warm=True)
    assert told >= 10
    assert compiled == []


@pytest.mark.timeout(600)
def test_without_the_warm_up_it_would_be():
    told, compiled = events_and_compiled("best", warm=False)
    assert told >= 10
    assert {"streamer.association.best_kernels.search", "streamer.association.anneal._anneal"} <= (
        set(compiled)
    )


def test_where_no_cache_can_be_kept_it_compiles_all_the_same(monkeypatch):
    def njit(*, nogil, cache=False):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(nogil=nogil)

    monkeypatch.setattr(jit, "njit", njit)
    assert jit.compiled(lambda x: x + 1)(1) == 2
