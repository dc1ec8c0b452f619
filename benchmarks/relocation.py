"""Double differences against absolute locations: how well places relative to neighbours are known.

    python benchmarks/relocation.py ../shared/assoc [--seeds 2,3] [--generator PYTHON]

Sets of make_synth.py are associated and located by profile `best`. The first 60 % of the events
found are relocated together and stay; each later one is then relocated against them, as in the
worker. Scored are pairs of later events whose true places are near each other: the error of the
vector from one to the other, which no common shift can improve. `picks` is what errors of picks
alone would leave of it: Cramer and Rao's bound for locations with all path errors known.

Path errors of make_synth.py are drawn anew for each event and station ("drawn"), so that neighbours
share nothing but station delays. In the ground they come from rock that neighbours share: "ground"
takes them from a smooth random field over source positions for each station and phase, 3 % of the
travel time, correlated over a fifth of the aperture; in "quiet" picks are three times as exact too,
and in "rough" it is 5 %.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from association import PRESETS, load, matches

from streamer.association import best_kernels as kernels
from streamer.association.geodesy import east_north_km
from streamer.association.message import Event
from streamer.association.network import Network
from streamer.association.offline import settled_events
from streamer.association.parameters import RelocationParameters
from streamer.association.pickfiles import PHASES
from streamer.association.relocate import DoubleDifference

KINDS = {
    "drawn": [],
    "ground": ["--relerr", "0"],
    "quiet": ["--relerr", "0", "--sigp", "{p}", "--sigs", "{s}"],
    "rough": ["--relerr", "0", "--sigp", "{p}", "--sigs", "{s}"],
}
SIGMA_S = {"regional": 0.06, "burst": 0.06, "mine": 0.004}  # of P picks, as make_synth.py has them
QUIETER = 3.0
FIELD_SIGMA = {"ground": 0.03, "quiet": 0.03, "rough": 0.05}  # of travel time
FIELD_SHARE = 0.2  # of the aperture
WAVES = 60
REFERENCE_SHARE = 0.6
# Fisher information of a pick in 1/sigma^2: one in ten has three times the error.
PICK_INFORMATION = 0.796


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--seeds", default="2")
    parser.add_argument("--generator", default=sys.executable)
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--paths", default=",".join(KINDS))
    arguments = parser.parse_args()
    print(
        "set          paths   pairs  apart km  absolute  relocated  ratio    picks  ms each"
        "  in 1 sigma"
    )
    with tempfile.TemporaryDirectory() as scratch:
        for seed in map(int, arguments.seeds.split(",")):
            for preset in arguments.presets.split(","):
                for kind in arguments.paths.split(","):
                    folder = Path(scratch) / f"{preset}-{seed}-{kind}"
                    make(arguments, folder, preset, seed, kind)
                    sigma_s = SIGMA_S[preset] / (QUIETER if "{p}" in KINDS[kind] else 1)
                    show(f"{preset}-{seed}", kind, measure(folder, sigma_s))


def make(arguments: argparse.Namespace, folder: Path, preset: str, seed: int, kind: str) -> None:
    sigma_s = SIGMA_S[preset] / QUIETER
    options = [o.format(p=sigma_s, s=2 * sigma_s) for o in KINDS[kind]]
    script = arguments.shared / "make_synth.py"
    command = [arguments.generator, script, folder, "--preset", preset, "--seed", str(seed)]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
    if kind != "drawn":
        give_path_errors(folder, seed, FIELD_SIGMA[kind])


def give_path_errors(folder: Path, seed: int, share: float) -> None:
    """Move true picks by a smooth function of the place of their event, for each path."""
    config, network, _ = load(folder)
    lines = (folder / "picks.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    truth = np.loadtxt(folder / "events.csv", delimiter=",", skiprows=1)
    places = np.array([
        (*east_north_km(config["lat0"], config["lon0"], lat, lon), depth)
        for _, _, lat, lon, depth, *_ in truth
    ])  # fmt: skip
    length_km = FIELD_SHARE * config["aperture"]
    fields: dict[tuple[str, str], np.ndarray] = {}
    rng = np.random.default_rng(seed)
    for station in network.stations:
        for phase in "PS":
            waves = rng.normal(0, 1 / length_km, (3, WAVES))
            phases = rng.uniform(0, 2 * np.pi, WAVES)
            sums = np.cos(places @ waves + phases).sum(axis=1)
            fields[station.sta, phase] = share * np.sqrt(2 / WAVES) * sums
    for row in rows:
        event = int(row[7])
        if event >= 0:
            time_s = float(row[4])
            travel_s = time_s - truth[event, 1]
            row[4] = f"{time_s + travel_s * fields[row[2], row[3]][event]:.4f}"
    rows.sort(key=lambda row: float(row[4]))
    for number, row in enumerate(rows):
        row[0] = str(number)
    (folder / "picks.csv").write_text("\n".join([lines[0], *map(",".join, rows)]) + "\n")


def measure(folder: Path, sigma_s: float) -> dict:
    _, network, rows = load(folder)
    events = settled_events(network, rows)
    matched = matches(
        folder, [[int(arrival.pick_id) for arrival in event.arrivals] for event in events]
    )
    truth = np.loadtxt(folder / "events.csv", delimiter=",", skiprows=1)
    engine = DoubleDifference(network, RelocationParameters())
    first = round(REFERENCE_SHARE * len(events))
    reference = engine.reference(engine.relocate_all(events[:first]))
    start = time.process_time()
    relocated = [engine.relocate(event, reference) for event in events[first:]]
    cpu_s = time.process_time() - start
    own = {i: k for k, i in matched.items()}
    known = [
        (event, moved, truth[own[i]])
        for i, (event, moved) in enumerate(zip(events[first:], relocated, strict=True), first)
        if moved is not None and i in own
    ]
    picks = bound(network, known, sigma_s)
    result = pair_errors(known, network.spacing_km)
    return result | {"picks": picks, "ms": 1000 * cpu_s / len(relocated)}


def bound(network: Network, known: list, sigma_s: float) -> float:
    """Median error of the vectors between near events that errors of picks leave at least."""
    fit = kernels.new_fit(len(network.stations))
    covariances = []
    for event, _, true in known:
        kernels.predict(np.array([0.0, *true[2:5]]), network.ground, fit)
        at = tuple(np.array([
            (PHASES.index(arrival.phase), network.index[arrival.net, arrival.sta])
            for arrival in event.arrivals
        ]).T)  # fmt: skip
        slopes = [np.ones(len(at[0])), fit.by_east[at], fit.by_north[at], fit.by_depth[at]]
        scaled = np.array(slopes) * np.sqrt(PICK_INFORMATION) / (sigma_s * (1 + at[0]))
        covariances.append(np.linalg.inv(scaled @ scaled.T)[1:, 1:])
    rng = np.random.default_rng(0)
    errors_km = [
        np.linalg.norm(rng.multivariate_normal(np.zeros(3), covariances[i] + covariances[k]))
        for i, (_, _, true) in enumerate(known)
        for k, (_, _, other) in enumerate(known[:i])
        if np.linalg.norm(vector(true[2:5], other[2:5])) <= network.spacing_km / 2
    ]
    return float(np.median(errors_km))


def pair_errors(known: list, nearest_km: float) -> dict:
    """Median errors of the vectors between events nearer than half a station spacing."""
    before, after, apart, sigmas = [], [], [], []
    for i, (event, moved, true) in enumerate(known):
        for other, other_moved, other_true in known[:i]:
            real = vector(true[2:5], other_true[2:5])
            if np.linalg.norm(real) > nearest_km / 2:
                continue
            apart.append(np.linalg.norm(real))
            before.append(np.linalg.norm(vector(place(event), place(other)) - real))
            error = vector(place(moved), place(other_moved)) - real
            after.append(np.linalg.norm(error))
            sigma = np.hypot(errors(moved), errors(other_moved))
            sigmas.append(np.abs(error) < sigma)
    return {
        "pairs": len(apart), "apart": np.median(apart), "before": np.median(before),
        "after": np.median(after), "covered": np.mean(sigmas),
    }  # fmt: skip


def place(event: Event) -> tuple[float, float, float]:
    return event.lat, event.lon, event.depth_km


def errors(event: Event) -> np.ndarray:
    return np.array([event.lon_error_km, event.lat_error_km, event.depth_error_km])


def vector(one, other) -> np.ndarray:
    return np.array([*east_north_km(other[0], other[1], one[0], one[1]), one[2] - other[2]])


def show(name: str, kind: str, result: dict) -> None:
    print(
        f"{name:12} {kind:7} {result['pairs']:5} {result['apart']:9.3f} {result['before']:10.4f} "
        f"{result['after']:10.4f} {result['before'] / result['after']:6.2f} {result['picks']:8.4f} "
        f"{result['ms']:8.1f} {result['covered']:11.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
