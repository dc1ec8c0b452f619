"""Associators on synthetic sets with known events: what they find, how well, and at what cost.

    python benchmarks/association.py ../shared/assoc [--seeds 2,3] [--generator PYTHON]
        [--pyocto-python PYTHON] [--gamma-python PYTHON] [--plot FILE] [--json FILE]

Sets of other seeds are made by make_synth.py in the given folder (it needs pyproj: `--generator`
names a python that has it). Every engine runs on the same picks in a process of its own; the least
CPU time of all repeats counts, without compilation. `program` is the REAL program where it is on
PATH (CPU and memory of all it started, with its files); else what it made of the stored sets is
scored, with the CPU seconds that were measured then. PyOcto and GaMMA run where a python that has
them is named (`make associators` prepares both under .associators; other_associators.py has their
settings); one that takes more than `--limit` CPU seconds is ended.
"""

import argparse
import json
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from streamer.association.geodesy import KM_PER_DEG
from streamer.association.message import Event
from streamer.association.network import Network
from streamer.association.offline import settled_events
from streamer.association.parameters import AssociationConfig
from streamer.association.pickfiles import PickRow, pick_table, read_picks
from streamer.association.real_files import read_real_catalogue, real_parameters
from streamer.association.real_program import RealProgram
from streamer.association.stations import read_stations
from streamer.association.velocity import LayeredModel

PRESETS = ("regional", "burst", "mine")
ENGINES = ("best", "real", "program", "pyocto", "gamma")
OTHERS = Path(__file__).with_name("other_associators.py")
# CPU seconds and MB of the REAL program (C, one thread, -Os) on the sets of seed 1.
PROGRAM_S = 3600.0
PROGRAM_COST = {"regional": (81.7, 353), "burst": (71.0, 387), "mine": (159.5, 354)}


def load(folder: Path) -> tuple[dict, Network, list[PickRow]]:
    config = json.loads((folder / "config.json").read_text())
    layers = config["model"]
    model = LayeredModel.from_layers(zip(layers["tops"], layers["vp"], layers["vs"], strict=True))
    stations = read_stations(folder / "stations.csv")
    rows, _ = read_picks(folder / "picks.csv")
    # PyOcto's own set is of a subduction zone: its events are deeper than the default.
    return config, Network.build(stations, model, config.get("deepest_km")), rows


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
    if engine == "program" and shutil.which("REAL") is None:
        cpu_s, megabytes = PROGRAM_COST[config["preset"]]
        return score(folder, found_by_program(folder)) | {"cpu_s": cpu_s, "megabytes": megabytes}
    real = real_parameters(config["real"], config["lat0"])

    settings = AssociationConfig(profile="best" if engine == "best" else "real", real=real)
    if engine == "program":
        return score(folder, by_program(network, rows, settings)) | costs(resource.RUSAGE_CHILDREN)

    def events(picks: list[PickRow]) -> list[Event]:
        return settled_events(network, picks, settings)

    few = rows[:500]
    events(few)  # compiles, or reads what was compiled
    start = time.process_time()
    found = events(rows)
    cpu_s = time.process_time() - start
    megabytes = costs(resource.RUSAGE_SELF)["megabytes"]
    result = score(folder, [as_found(event) for event in found])
    n_p = sum(row.phase == "P" for row in rows)
    return result | {"cpu_s": cpu_s, "megabytes": megabytes, "p_per_s": n_p / cpu_s}


def by_program(network: Network, rows: list[PickRow], settings: AssociationConfig) -> list[dict]:
    """What the REAL program finds in all picks at once, as it is meant to be run: a day's file."""
    engine = RealProgram(network.stations, network.model, settings.real, timeout_s=PROGRAM_S)
    table = pick_table(rows, network.stations)
    return [
        {
            "t": event.node.time_s, "lat": event.node.lat, "lon": event.node.lon,
            "dep": event.node.depth_km, "picks": [int(table.ids[row]) for row in event.picks],
        }
        for event in engine.associate(table)
    ]  # fmt: skip


def costs(of: int) -> dict:
    """CPU seconds and MB of this process, or of those that it ran."""
    used = resource.getrusage(of)
    return {"cpu_s": used.ru_utime + used.ru_stime, "megabytes": used.ru_maxrss // 1024}


def matches(folder: Path, picks: list[list[int]]) -> dict[int, int]:
    """Which found event, by the ids of its picks, is which true one: by number of the true one.

    An event is found if 60 % of its picks are of one true event, at least 4 of them and 40 % of
    that event's picks; a second match is false.
    """
    columns = np.genfromtxt(folder / "picks.csv", delimiter=",", skip_header=1, usecols=(0, 7))
    owner = columns[:, 1].astype(int)
    sizes = np.bincount(owner[owner >= 0])
    claims = []
    for i, own in enumerate(picks):
        counts = np.bincount(owner[own][owner[own] >= 0], minlength=1)
        best = int(counts.argmax())
        if counts[best] >= max(0.6 * len(own), 4, 0.4 * sizes[best]):
            claims.append((counts[best], best, i))
    matched: dict[int, int] = {}
    for _, best, i in sorted(claims, reverse=True):
        matched.setdefault(best, i)
    return matched


def score(folder: Path, found: list[dict]) -> dict:
    """Recall of detectable events, precision, and median errors by pick ownership."""
    matched = matches(folder, [event["picks"] for event in found])
    truth = np.loadtxt(folder / "events.csv", delimiter=",", skiprows=1)
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


def sets(arguments: argparse.Namespace, scratch: Path) -> list[Path]:
    """The stored sets, those of other seeds, and PyOcto's own if a python can read it."""
    shared, seeds = arguments.shared, [int(seed) for seed in arguments.seeds.split(",") if seed]
    folders = [] if arguments.only_seeds else [shared / "synth" / preset for preset in PRESETS]
    for seed in seeds:
        for preset in PRESETS:
            folder = scratch / f"{preset}-{seed}"
            options = [folder, "--preset", preset, "--seed", str(seed)]
            subprocess.run(
                [arguments.generator, shared / "make_synth.py", *options],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            folders.append(folder)
    if arguments.gamma_python:
        folder = scratch / "chile"
        command = [arguments.gamma_python, OTHERS, "chile", shared / "pyocto_test", folder]
        subprocess.run(command, check=True)
        folders.append(folder)
    return folders


def turns(engine: str, folder: Path, arguments: argparse.Namespace) -> dict | None:
    """The run with the least CPU time of all repeats; None if one took more than the limit."""
    done = []
    for _ in range(arguments.repeats):
        print(f"{time.strftime('%H:%M:%S')} {folder.name} {engine}", file=sys.stderr, flush=True)
        done.append(turn(engine, folder, arguments))
        if done[-1] is None:  # too slow once is too slow
            return None
    return min(done, key=lambda result: result["cpu_s"])


def turn(engine: str, folder: Path, arguments: argparse.Namespace) -> dict | None:
    """One engine on one set in a process of its own; None if it took more than the limit."""
    if engine in ("pyocto", "gamma"):
        command = [getattr(arguments, f"{engine}_python"), OTHERS, engine, folder]
    else:
        command = [sys.executable, __file__, folder, "--one", engine]

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (arguments.limit, arguments.limit))

    done = subprocess.run(
        command, check=False, capture_output=True, text=True, preexec_fn=limited
    )  # fmt: skip
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return None
    if done.returncode:
        how = f"{done.returncode}: {done.stderr[-2000:]}"
        raise SystemExit(f"{engine} failed on {folder.name} with {how}")
    result = json.loads(done.stdout)
    if "found" in result:
        result |= score(folder, result.pop("found"))
    return result


def engines_for(folder: Path, arguments: argparse.Namespace) -> list[str]:
    asked = {
        "program": shutil.which("REAL") is not None or (folder / "real_program").exists(),
        "pyocto": bool(arguments.pyocto_python),
        "gamma": bool(arguments.gamma_python),
    }
    return [engine for engine in ENGINES if asked.get(engine, True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--seeds", default="")
    parser.add_argument("--only-seeds", action="store_true", help="leave out the stored sets")
    parser.add_argument("--generator", default=sys.executable)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--pyocto-python", type=Path)
    parser.add_argument("--gamma-python", type=Path)
    parser.add_argument("--jobs", type=int, default=1, help="runs beside each other")
    parser.add_argument("--limit", type=int, default=900, help="CPU seconds of one run")
    parser.add_argument("--json", type=Path, help="write all results")
    parser.add_argument("--plot", type=Path, help="draw recall and precision against CPU time")
    parser.add_argument("--one", choices=ENGINES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run(arguments.one, arguments.shared), default=float))
        return
    print(
        "set            engine   events recall  prec.     F1  epi km depth km   CPU s    MB    P/s"
    )
    results: dict[str, dict[str, dict | None]] = {}
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(arguments.jobs) as pool:
        folders = sets(arguments, Path(scratch))
        known = {
            (folder, engine): pool.submit(turns, engine, folder, arguments)
            for folder in folders
            for engine in engines_for(folder, arguments)
        }
        for (folder, engine), result in known.items():
            results.setdefault(folder.name, {})[engine] = result.result()
            show(folder.name, engine, result.result(), arguments.limit)
            if arguments.json:
                arguments.json.write_text(json.dumps(results, indent=1, default=float))
    if arguments.plot:
        plot(results, arguments.plot)


def plot(results: dict[str, dict[str, dict | None]], path: Path) -> None:
    """F1 of each engine by set, beside its CPU time."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names = list(results)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for k, engine in enumerate(ENGINES):
        rows = [(n, results[name].get(engine)) for n, name in enumerate(names)]
        rows = [(n, row) for n, row in rows if row]
        if not rows:
            continue
        places = [n + (k - 2) * 0.15 for n, _ in rows]
        f1 = [harmonic(row["recall"], row["precision"]) for _, row in rows]
        left.bar(places, f1, 0.15, label=engine)
        right.bar(places, [row["cpu_s"] for _, row in rows], 0.15)
    left.set(ylabel="F1 of events", ylim=(0, 1.02))
    right.set(ylabel="CPU s", yscale="log")
    for axes in (left, right):
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    left.legend(ncols=5, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1))
    figure.savefig(path, dpi=130)


def harmonic(recall: float, precision: float) -> float:
    return 2 * recall * precision / max(recall + precision, 1e-9)


def show(name: str, engine: str, result: dict | None, limit: int) -> None:
    if result is None:
        print(f"{name:14} {engine:8} not done within {limit} CPU s", flush=True)
        return
    recall, precision = result["recall"], result["precision"]
    print(
        f"{name:14} {engine:8} {result['events']:6} {recall:6.3f} {precision:6.3f} "
        f"{harmonic(recall, precision):6.3f} {result['epicentre_km']:7.3f} "
        f"{result['depth_km']:8.3f} {result['cpu_s']:7.2f} {result['megabytes']:5} "
        f"{result.get('p_per_s', 0):6.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
