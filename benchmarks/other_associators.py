"""PyOcto or GaMMA on one synthetic set, in the environment that has it; prints JSON.

    PYTHON benchmarks/other_associators.py pyocto|gamma FOLDER
    PYTHON benchmarks/other_associators.py chile SHARED/assoc/pyocto_test FOLDER

Needs nothing of msnet-stream. PyOcto (with pyrocko for its travel-time tables) has the tolerances
that did best of a few on the crustal sets of seed 1, scaled to the mine by pick errors; GaMMA has
BGMM, DBSCAN and its own estimate of eps. No full tuning of either. Both are told the thresholds
of the sets: 3 P, 2 S, 8 picks, 2 stations with both. `chile` writes PyOcto's own test data (51
events on 20 stations; pyarrow reads it) as a set like the others.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from pyproj import CRS, Transformer

# Of each preset: tolerance of PyOcto's tables (s), match (s), least node (km), event spacing (s).
PYOCTO = {
    "regional": (1.0, 0.8, 8.0, 3.0),
    "burst": (1.0, 0.8, 8.0, 2.0),
    "mine": (0.05, 0.05, 0.3, 0.2),
    "chile": (2.0, 1.5, 10.0, 3.0),
}
# Of each preset: mean P and S velocity (km/s) and greatest residual (s) of GaMMA.
GAMMA = {
    "regional": (6.0, 3.35, 0.8),
    "burst": (6.0, 3.35, 0.8),
    "mine": (3.9, 2.2, 0.05),
    "chile": (7.0, 4.0, 2.0),
}


def main() -> None:
    engine, folder = sys.argv[1], Path(sys.argv[2])
    if engine == "chile":
        write_chile(folder, Path(sys.argv[3]))
        return
    config = json.loads((folder / "config.json").read_text())
    picks = pd.read_csv(folder / "picks.csv")
    stations = pd.read_csv(folder / "stations.csv")
    found, cpu_s = (pyocto if engine == "pyocto" else gamma)(config, picks, stations)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"found": found, "cpu_s": cpu_s, "megabytes": megabytes}))


def write_chile(data: Path, folder: Path) -> None:
    """Picks and stations; events without a place, for the data have none but their picks."""
    picks = pd.read_parquet(data / "picks").sort_values("time", kind="stable")
    stations = pd.read_parquet(data / "stations")
    nodes = pd.read_csv(data / "graeber.csv")
    folder.mkdir(parents=True, exist_ok=True)
    code = stations["id"].str.split(".", expand=True)
    pd.DataFrame({
        "net": code[0], "sta": code[1], "lat": stations["latitude"],
        "lon": stations["longitude"], "elev_km": stations["elevation"] / 1000,
    }).to_csv(folder / "stations.csv", index=False)  # fmt: skip
    numbers = {old: new for new, old in enumerate(sorted(set(picks["event"]) - {-1}))}
    numbers[-1] = -1
    owner = picks["event"].map(numbers).to_numpy()
    pd.DataFrame({
        "pick_id": np.arange(len(picks)), "net": picks["station"].str.split(".").str[0],
        "sta": picks["station"].str.split(".").str[1], "phase": picks["phase"],
        "time": picks["time"].astype("int64") / 1e6, "prob": 1.0, "amp": "", "event": owner,
    }).to_csv(folder / "picks.csv", index=False)  # fmt: skip
    events = []
    for number in range(owner.max() + 1):
        own = picks[owner == number]
        n_p, n_s = (own[own["phase"] == phase]["station"].nunique() for phase in "PS")
        both = n_p + n_s - own["station"].nunique()
        detectable = int(n_p >= 3 and n_s >= 2 and n_p + n_s >= 8 and both >= 2)
        events.append((number, "nan", "nan", "nan", "nan", "nan", n_p, n_s, both, detectable))
    names = ["event", "time", "lat", "lon", "depth", "mag", "np", "ns", "nboth", "detectable"]
    pd.DataFrame(events, columns=names).to_csv(folder / "events.csv", index=False)
    # Layers of 5 km with the velocity in their middle.
    tops = np.arange(0, 130, 5.0)
    vp, vs = (np.interp(tops + 2.5, nodes["depth"], nodes[name]).tolist() for name in ("vp", "vs"))
    lat0, lon0 = float(stations["latitude"].mean()), float(stations["longitude"].mean())
    aperture_km = 111.19 * float(np.ptp(stations["latitude"]))
    (folder / "config.json").write_text(json.dumps({
        "preset": "chile", "lat0": lat0, "lon0": lon0, "aperture": aperture_km, "depth": [0, 150],
                "deepest_km": 150.0,
        "model": {"tops": tops.tolist(), "vp": vp, "vs": vs},
        "real": {"R": "1.0/150/0.1/10/5", "V": "7.0/4.0", "S": "3/2/8/2/1.5/0.5/1.0/0.3/1.0/4"},
    }))  # fmt: skip


def deepest_km(config: dict) -> float:
    return float(config["depth"][1]) + 0.1 * float(config["aperture"])


def pyocto(config: dict, picks: pd.DataFrame, stations: pd.DataFrame) -> tuple[list[dict], float]:
    import pyocto as library

    tolerance_s, match_s, node_km, apart_s = PYOCTO[config["preset"]]
    model = layered(config["model"], deepest_km(config))
    aperture_km = float(config["aperture"])
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model"
        step_km = aperture_km / 200
        library.VelocityModel1D.create_model(
            model, step_km, 1.6 * aperture_km, deepest_km(config) + 2 * step_km, path
        )
        velocity = library.VelocityModel1D(path, tolerance=tolerance_s)
        half_deg = 0.6 * aperture_km / 111.19
        wide_deg = half_deg / np.cos(np.radians(config["lat0"]))
        associator = library.OctoAssociator.from_area(
            lat=(config["lat0"] - half_deg, config["lat0"] + half_deg),
            lon=(config["lon0"] - wide_deg, config["lon0"] + wide_deg),
            zlim=(0, deepest_km(config)),
            time_before=aperture_km / 3,
            velocity_model=velocity,
            n_picks=8, n_p_picks=3, n_s_picks=2, n_p_and_s_picks=2,
            pick_match_tolerance=match_s, min_node_size=node_km,
            min_node_size_location=min(1.5, node_km / 5), min_interevent_time=apart_s,
            n_threads=1,
        )  # fmt: skip
        names = stations.rename(
            columns={"lat": "latitude", "lon": "longitude", "elev_km": "elevation"}
        )
        names["id"], names["elevation"] = names["sta"], 1000 * names["elevation"]
        associator.transform_stations(names)
        table = pd.DataFrame(
            {"station": picks["sta"], "phase": picks["phase"], "time": picks["time"]}
        )
        start = time.process_time()
        events, assigned = associator.associate(table, names)
        cpu_s = time.process_time() - start
        associator.transform_events(events)
    own = assigned.groupby("event_idx")["pick_idx"].apply(list)
    found = [
        {
            "t": float(event.time), "lat": float(event.latitude), "lon": float(event.longitude),
            "dep": float(event.depth),
            "picks": [int(picks["pick_id"].iloc[i]) for i in own[event.idx]],
        }
        for event in events.itertuples()
    ]  # fmt: skip
    return found, cpu_s


def layered(model: dict, deep_km: float) -> pd.DataFrame:
    """Constant layers as PyOcto wants them: two depths for each."""
    tops = [*model["tops"], deep_km + 50.0]
    rows = [
        (depth, vp, vs)
        for top, bottom, vp, vs in zip(tops, tops[1:], model["vp"], model["vs"], strict=False)
        for depth in (top, bottom - 1e-3)
    ]
    return pd.DataFrame(rows, columns=["depth", "vp", "vs"])


def gamma(config: dict, picks: pd.DataFrame, stations: pd.DataFrame) -> tuple[list[dict], float]:
    from gamma.utils import association, estimate_eps

    p_km_s, s_km_s, residual_s = GAMMA[config["preset"]]
    crs = CRS.from_proj4(f"+proj=aeqd +lat_0={config['lat0']} +lon_0={config['lon0']} +units=km")
    to_km = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    x, y = to_km.transform(stations["lon"].to_numpy(), stations["lat"].to_numpy())
    places = pd.DataFrame(
        {"id": stations["sta"], "x(km)": x, "y(km)": y, "z(km)": -stations["elev_km"]}
    )
    table = pd.DataFrame({
        "id": picks["sta"], "type": picks["phase"].str.lower(), "prob": picks["prob"],
        "timestamp": pd.to_datetime(picks["time"], unit="s"),
    })  # fmt: skip
    half_km, deep_km = 0.6 * float(config["aperture"]), deepest_km(config)
    settings = {
        "dims": ["x(km)", "y(km)", "z(km)"], "use_amplitude": False,
        "x(km)": (-half_km, half_km), "y(km)": (-half_km, half_km), "z(km)": (0, deep_km),
        "vel": {"p": p_km_s, "s": s_km_s}, "use_dbscan": True,
        "dbscan_eps": estimate_eps(places, p_km_s), "dbscan_min_samples": 3,
        "oversample_factor": 5,
        "bfgs_bounds": (
            (-half_km - 1, half_km + 1), (-half_km - 1, half_km + 1), (0, deep_km + 1),
            (None, None),
        ),
        "min_picks_per_eq": 8, "min_p_picks_per_eq": 3, "min_s_picks_per_eq": 2,
        "max_sigma11": residual_s, "ncpu": 1, "method": "BGMM",
    }  # fmt: skip
    start = time.process_time()
    output, sys.stdout = sys.stdout, sys.stderr  # it prints a dot for each cluster
    events, assigned = association(table, places, settings, method="BGMM")
    sys.stdout = output
    cpu_s = time.process_time() - start
    own: dict[int, list[int]] = {}
    for row, event, _ in assigned:
        own.setdefault(event, []).append(int(picks["pick_id"].iloc[row]))
    found = []
    for event in events:
        lon, lat = to_km.transform(event["x(km)"], event["y(km)"], direction="INVERSE")
        moment = pd.Timestamp(event["time"]).timestamp()
        found.append({
            "t": moment, "lat": lat, "lon": lon, "dep": event["z(km)"],
            "picks": own.get(event["event_index"], []),
        })  # fmt: skip
    return [event for event in found if event["picks"]], cpu_s


if __name__ == "__main__":
    main()
