"""All compiled loops of the worker built, or read from their cache, before the first pick.

What a loop is compiled for are the types of its arguments. A minute of a small network that never
was has them all: picks that come at once and late, events within the network and beside it.
"""

from streamer.association.network import Network
from streamer.association.parameters import AssociationConfig, BestParameters, RealParameters
from streamer.association.store import Store
from streamer.association.synthetic import Scenario, Synthetic
from streamer.association.window import Window
from streamer.timebase import NS_PER_S

SCENARIO = Scenario(
    stations=16, aperture_km=40.0, events=6, duration_s=60.0, least_magnitude=2.5, false_per_min=0.2
)
WESTERN = 9
# Loops of REAL that look at a coarse grid are the same as those of a fine one.
COARSE = RealParameters(search_half_width_deg=0.15, grid_step_deg=0.05)


def warm_up(rules: AssociationConfig) -> int:
    """Run what a worker of these rules runs; how many messages of events came of it."""
    made = Synthetic.make(SCENARIO)
    # The west of it: what happens in the east is beside the network, and is located differently.
    west = sorted(made.stations, key=lambda station: station.lon)[:WESTERN]
    network = Network.build(west, made.model)
    picks = [pick for pick in made.picks if (pick.net, pick.sta) in network.index]
    small = rules.model_copy(
        update={"real": COARSE, "best": BestParameters(), "engine": "native", "lateness_s": 0.0}
    )
    store = Store(None)
    try:
        window = Window(store, network, small)
        with store.transaction():
            for pick in picks:
                window.take(pick, pick.made_ns)
            while window.advance(picks[-1].made_ns + 600 * NS_PER_S):
                continue
            window.save()
        return len(store.unsent(1000))
    finally:
        store.close()
