"""Associators on synthetic sets with known events: what they find, how well, and at what cost.

    python benchmarks/association.py ../shared/assoc [--seeds 2,3] [--generator PYTHON]

Sets of other seeds are made by make_synth.py in the given folder (it needs pyproj: `--generator`
names a python that has it). Every engine runs on the same picks in a process of its own, in turns;
the least CPU time of all repeats counts, without compilation. `program` scores what the REAL
program made of the stored sets; its CPU seconds are those measured when it ran.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from streamer.association.geodesy import KM_PER_DEG
from streamer.association.message import Event
from streamer.association.network import Network
from streamer.association.offline import settled_events
from streamer.association.parameters import AssociationConfig
from streamer.association.pickfiles import PickRow, read_picks
from streamer.association.real_files import read_real_catalogue, real_parameters
from streamer.association.stations import read_stations
from streamer.association.velocity import LayeredModel

PRESETS = ("regional", "burst", "mine")
ENGINES = ("best", "real", "program")
# CPU seconds and MB of the REAL program (C, one thread, -Os) on the sets of seed 1.
PROGRAM_COST = {"regional": (81.7, 353), "burst": (71.0, 387), "mine": (159.5, 354)}


def load(folder: Path) -> tuple[dict, Network, list[PickRow]]:
    config = json.loads((folder / "config.json").read_text())
    layers = config["model"]
    model = LayeredModel.from_layers(zip(layers["tops"], layers["vp"], layers["vs"], strict=True))
    stations = read_stations(folder / "stations.csv")
    rows, _ = read_picks(folder / "picks.csv")
    return config, Network.build(stations, model), rows


def found_by_program(folder: Path) -> list[dict]:
    """Events of the stored phase_sel.txt; picks by station, phase and time to 0.1 ms."""
    names = {}
    for line in (folder / "picks.csv").read_text().splitlines()[1:]:
        name, _, sta, phase, time_s, *_ = line.split(",")
        names[sta, phase, round(float(time_s) * 1e4)] = int(name)
    found = []
    for event in read_real_catalogue(folder / "real_program" / "phase_sel.txt"):
        place = {"t": event.time_s, "lat": event.lat, "lon": event.lon, "dep": event.depth_km}
        rows = [names[sta, phase, round(time_s * 1e4)] for _, sta, phase, time_s in event.picks]
        found.append(place | {"picks": rows})
    return found


def as_found(event: Event) -> dict:
    return {
        "t": event.t_ns / 1e9, "lat": event.lat, "lon": event.lon, "dep": event.depth_km,
        "picks": [int(arrival.pick_id) for arrival in event.arrivals],
    }  # fmt: skip


def run(engine: str, folder: Path) -> dict:
    """One engine on one set: its events scored, with CPU seconds (after a first run) and MB."""
    config, network, rows = load(folder)
    if engine == "program":
        cpu_s, megabytes = PROGRAM_COST[config["preset"]]
        return score(folder, found_by_program(folder)) | {"cpu_s": cpu_s, "megabytes": megabytes}
    real = real_parameters(config["real"], config["lat0"])

    def events(picks: list[PickRow]) -> list[Event]:
        return settled_events(network, picks, AssociationConfig(profile=engine, real=real))

    few = rows[:500]
    events(few)  # compiles, or reads what was compiled
    start = time.process_time()
    found = events(rows)
    cpu_s = time.process_time() - start
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    result = score(folder, [as_found(event) for event in found])
    n_p = sum(row.phase == "P" for row in rows)
    return result | {"cpu_s": cpu_s, "megabytes": megabytes, "p_per_s": n_p / cpu_s}


def score(folder: Path, found: list[dict]) -> dict:
    """Recall of detectable events, precision, and median errors by pick ownership.

    An event is found if 60 % of its picks are of one true event, at least 4 of them and 40 % of
    that event's picks; a second match is false.
    """
    columns = np.genfromtxt(folder / "picks.csv", delimiter=",", skip_header=1, usecols=(0, 7))
    owner = columns[:, 1].astype(int)
    truth = np.loadtxt(folder / "events.csv", delimiter=",", skiprows=1)
    sizes = np.bincount(owner[owner >= 0], minlength=len(truth))
    claims = []
    for i, event in enumerate(found):
        counts = np.bincount(owner[event["picks"]][owner[event["picks"]] >= 0], minlength=1)
        best = int(counts.argmax())
        if counts[best] >= max(0.6 * len(event["picks"]), 4, 0.4 * sizes[best]):
            claims.append((counts[best], best, i))
    matched = {}
    for _, best, i in sorted(claims, reverse=True):
        matched.setdefault(best, i)
    detectable = truth[:, -1] == 1
    epicentre, depth = [], []
    for best, i in matched.items():
        event, (_, _, lat, lon, depth_km, *_) = found[i], truth[best]
        north = (event["lat"] - lat) * KM_PER_DEG
        east = (event["lon"] - lon) * KM_PER_DEG * np.cos(np.radians(lat))
        epicentre.append(np.hypot(north, east))
        depth.append(abs(event["dep"] - depth_km))
    return {
        "events": len(found),
        "recall": sum(detectable[best] for best in matched) / detectable.sum(),
        "precision": len(matched) / max(len(found), 1),
        "epicentre_km": float(np.median(epicentre)),
        "depth_km": float(np.median(depth)),
    }


def sets(shared: Path, seeds: list[int], generator: str, scratch: Path) -> list[Path]:
    folders = [shared / "synth" / preset for preset in PRESETS]
    for seed in seeds:
        for preset in PRESETS:
            folder = scratch / f"{preset}-{seed}"
            arguments = [folder, "--preset", preset, "--seed", str(seed)]
            subprocess.run(
                [generator, shared / "make_synth.py", *arguments],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            folders.append(folder)
    return folders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--seeds", default="")
    parser.add_argument("--generator", default=sys.executable)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--one", choices=ENGINES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run(arguments.one, arguments.shared), default=float))
        return
    seeds = [int(seed) for seed in arguments.seeds.split(",") if seed]
    head = (
        "set            engine   events recall  prec.     F1  epi km depth km   CPU s    MB    P/s"
    )
    print(head)
    with tempfile.TemporaryDirectory() as scratch:
        for folder in sets(arguments.shared, seeds, arguments.generator, Path(scratch)):
            engines = [e for e in ENGINES if e != "program" or (folder / "real_program").exists()]
            results: dict[str, list[dict]] = {engine: [] for engine in engines}
            for _ in range(arguments.repeats):
                for engine in engines:
                    command = [sys.executable, __file__, folder, "--one", engine]
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    results[engine].append(json.loads(done.stdout))
            for engine in engines:
                show(folder.name, engine, min(results[engine], key=lambda result: result["cpu_s"]))


def show(name: str, engine: str, result: dict) -> None:
    recall, precision = result["recall"], result["precision"]
    f1 = 2 * recall * precision / max(recall + precision, 1e-9)
    print(
        f"{name:14} {engine:8} {result['events']:6} {recall:6.3f} {precision:6.3f} {f1:6.3f} "
        f"{result['epicentre_km']:7.3f} {result['depth_km']:8.3f} {result['cpu_s']:7.2f} "
        f"{result['megabytes']:5} {result.get('p_per_s', 0):6.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
