"""The sets of the REAL program: what went in, with which parameters, and what came out."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamer.association.geodesy import KM_PER_DEG
from streamer.association.pickfiles import PickTable, pick_table, read_picks
from streamer.association.real import Real, Times
from streamer.association.real_files import (
    CatalogueEvent,
    RealTable,
    read_real_catalogue,
    read_real_picks,
    read_real_stations,
    real_parameters,
)

DEMO_R = "0.1/20/0.04/2/5"
SYN = {"R": "0.1/20/0.02/2/5", "V": "6.2/3.3", "S": "3/2/5/2/0.5/0.0/1.5"}
DEMO = {
    "stalta": ("picks_stalta", "out_stalta", "6.2/3.3", "3/2/12/3/0.5/0.2/1/0.25/0.2/4"),
    "phasenet": ("picks_phasenet_0.5", "out_phasenet", "6.2/3.4", "3/2/8/2/0.5/0.1/1.2/0.0"),
}
SYNTHETIC = ("regional", "burst", "mine")
SETS = ("real_syn_layer", "real_syn_homo", *DEMO, *SYNTHETIC)


@dataclass(frozen=True)
class PeerSet:
    """One run of the REAL program and the associator that should repeat it."""

    real: Real
    picks: PickTable
    catalogue: list[CatalogueEvent]
    stations: list

    def agreement(self) -> tuple[float, float, int]:
        """Share of origins at the same node and time, share of their picks, events of ours."""
        ours = self.real.associate(self.picks)
        epoch_s = self.picks.epoch_ns / 1e9
        same, picks, same_picks = 0, 0, 0
        for theirs in self.catalogue:
            # Files have times to 1 ms, latitudes and longitudes to 1e-4 deg, depths to 10 m.
            twin = next(
                (
                    event
                    for event in ours
                    if abs(event.node.time_s + epoch_s - theirs.time_s) < 0.0016
                    and abs(event.node.lat - theirs.lat) < 1e-4
                    and abs(event.node.lon - theirs.lon) < 1e-4
                    and abs(event.node.depth_km - theirs.depth_km) < 0.006
                ),
                None,
            )
            if twin is None:
                continue
            same += 1
            mine = {self._key(i, epoch_s) for i in twin.picks}
            picks += len(theirs.picks)
            for net, sta, phase, time_s in theirs.picks:
                tenths = round(time_s * 1e4)
                same_picks += any((net, sta, phase, tenths + d) in mine for d in (0, 1, -1))
        return same / len(self.catalogue), same_picks / max(picks, 1), len(ours)

    def _key(self, i: int, epoch_s: float) -> tuple[str, str, str, int]:
        station = self.stations[self.picks.station[i]]
        phase = "PS"[self.picks.phase[i]]
        return station.net, station.sta, phase, round((self.picks.time_s[i] + epoch_s) * 1e4)


def straight(station, distance_deg, depth_km):
    """REAL without a table: straight rays at 6.2 and 3.3 km/s."""
    km = np.hypot(distance_deg * KM_PER_DEG, depth_km)
    return np.stack([km / 6.2, km / 3.3])


def peer_set(folder: Path, name: str) -> PeerSet:
    """A set by its name in SETS."""
    farthest_deg: float = np.inf
    times: Times = straight
    if name in SYNTHETIC:
        at = folder / "synth" / name
        config = json.loads((at / "config.json").read_text())["real"]
        rules = real_parameters(config, 42.75)
        output = at / "real_program"
        stations = read_real_stations(at / "station.dat")
        rows, _ = read_picks(at / "picks.csv")
        travel: RealTable | None = RealTable.read(at / "ttdb.txt")
    elif name in DEMO:
        at = folder / "real_demo"
        picks, out, v, s = DEMO[name]
        rules, output = real_parameters({"R": DEMO_R, "V": v, "S": s}, 42.75), at / out
        stations = read_real_stations(at / "station.dat")
        rows = read_real_picks(at / picks, stations, 0)
        travel = RealTable.read(at / "tt_db" / "ttdb.txt")
    else:
        at = folder / "real_syn"
        rules = real_parameters(SYN, 0.0)
        layered = name.endswith("layer")
        output = at / ("out_layer" if layered else "out_homo")
        stations = read_real_stations(at / "station.dat")
        rows = read_real_picks(at / "pk", stations, 0)
        travel = RealTable.read(at / "tt_db" / "ttdb.txt") if layered else None
    if travel is not None:
        farthest_deg, times = travel.farthest_deg, travel.times
    real = Real(stations, times, rules, farthest_deg)
    catalogue = read_real_catalogue(output / "phase_sel.txt")
    return PeerSet(real, pick_table(rows, stations), catalogue, stations)
