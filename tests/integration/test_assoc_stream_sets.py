"""Every set of picks, shuffled, doubled and delayed, settles as the batch does.

By default the first minutes of each; all of it, which takes minutes of a core for each set, with
MSNET_BIG_SETS=1.
"""

import json
import os
import sys
from datetime import UTC
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from streamer.association.network import Network
from streamer.association.offline import settled_events
from streamer.association.parameters import AssociationConfig
from streamer.association.pickfiles import PickRow, read_picks
from streamer.association.real_files import read_real_picks, read_real_stations
from streamer.association.stations import Station, read_stations
from streamer.association.velocity import LayeredModel

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from assoc_replay import (
    anonymous,
    catalogue,
    delayed,
    far,
    feed,
    finish,
    make_window,
)

WHOLE = os.environ.get("MSNET_BIG_SETS") == "1"
FIRST_PICKS = 900
ITALY = LayeredModel.from_layers([(-3.0, 5.0, 2.8), (1.0, 5.8, 3.2), (8.0, 6.3, 3.5)])
DAY_NS = 1_476_403_200 * 10**9
SETS = ("regional", "burst", "mine", "real_demo/picks_stalta", "real_demo/picks_phasenet_0.5",
        "real_syn/pk", "pyocto_test")  # fmt: skip


def read(shared_assoc, name):
    """Network and picks of a set, the picks by time."""
    if name == "pyocto_test":
        stations, model, rows = read_chile(shared_assoc / name)
    elif "/" in name:
        folder = shared_assoc / name.split("/")[0]
        stations, model = read_real_stations(folder / "station.dat"), ITALY
        rows = read_real_picks(shared_assoc / name, stations, DAY_NS)
    else:
        folder = shared_assoc / "synth" / name
        layers = json.loads((folder / "config.json").read_text())["model"]
        model = LayeredModel.from_layers(
            zip(layers["tops"], layers["vp"], layers["vs"], strict=True)
        )
        stations = read_stations(folder / "stations.csv")
        rows, _ = read_picks(folder / "picks.csv")
    rows = sorted(rows, key=lambda row: row.t_ns)
    return Network.build(stations, model), rows if WHOLE else rows[:FIRST_PICKS]


def read_chile(folder):
    """Northern Chile: stations, layers of 5 km, picks (PyOcto's example)."""
    stations = [
        Station(
            *row["id"].split(".")[:2], row["latitude"], row["longitude"], row["elevation"] / 1e3
        )
        for row in pyarrow.parquet.read_table(folder / "stations").to_pylist()
    ]
    nodes = np.genfromtxt(folder / "graeber.csv", delimiter=",", names=True)
    tops = np.arange(-5, 130, 5.0)
    vp, vs = (np.interp(tops + 2.5, nodes["depth"], nodes[speed]) for speed in ("vp", "vs"))
    picks = pyarrow.parquet.read_table(folder / "picks").to_pylist()
    rows = [
        PickRow(
            tuple(pick["station"].split(".")[:2]), pick["phase"],
            round(pick["time"].replace(tzinfo=UTC).timestamp() * 1e6) * 1000, 1.0, float("nan"),
            str(number),
        )
        for number, pick in enumerate(picks)
    ]  # fmt: skip
    return stations, LayeredModel.from_layers(zip(tops, vp, vs, strict=True)), rows


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", SETS)
def test_a_shuffled_doubled_delayed_stream_settles_as_the_batch(shared_assoc, name):
    network, rows = read(shared_assoc, name)
    rules = AssociationConfig()
    window = make_window(network, rules=rules)
    feed(window, delayed(rows, np.random.default_rng(1), mean_s=4.0), batch=100)
    finish(window, far(rows))
    batch = settled_events(network, rows, rules)
    assert catalogue(window) == anonymous(batch)
    assert len(batch) >= 2
