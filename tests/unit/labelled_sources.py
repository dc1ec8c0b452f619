"""Small data sets in the formats of others, written for the tests by the formats' descriptions."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

RATE_HZ = 100
P_INDEX, S_INDEX = 1500, 1900
LENGTH = 3000


def waves(seed: int, length: int = LENGTH, components: int = 3) -> npt.NDArray[np.float32]:
    """float32 (components, length): noise with something stronger from P on."""
    x = np.random.default_rng(seed).normal(size=(components, length))
    x[:, P_INDEX:] *= 10
    return x.astype(np.float32)


def write_csv(path: Path, rows: Sequence[dict[str, object]]) -> None:
    """Columns in the order of their first appearance."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows(rows)


def seisbench_row(name: str, **changes: object) -> dict[str, object]:
    """Metadata of a sound trace, as SeisBench names the columns."""
    return {
        "trace_name": name,
        "trace_start_time": "2021-03-04T05:06:07.080000Z",
        "trace_sampling_rate_hz": RATE_HZ,
        "trace_channel": "HH",
        "station_network_code": "CH",
        "station_code": "ABCD",
        "station_location_code": "",
        "station_latitude_deg": 46.0,
        "station_longitude_deg": 8.0,
        "station_elevation_m": 500.0,
        "source_id": f"event of {name}",
        "source_magnitude": 1.5,
        "source_depth_km": 8.0,
        "path_ep_distance_km": 20.0,
        "trace_p_arrival_sample": P_INDEX,
        "trace_p_status": "manual",
        "trace_s_arrival_sample": S_INDEX,
        "trace_s_status": "manual",
    } | changes


def write_seisbench(
    folder: Path,
    rows: Sequence[dict[str, object]],
    data: dict[str, npt.NDArray[np.generic]],
    *,
    chunk: str = "",
    data_format: dict[str, object] | None = None,
) -> None:
    """`data` by the name of the bucket or trace."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / f"metadata{chunk}.csv", rows)
    with h5py.File(folder / f"waveforms{chunk}.hdf5", "w") as file:
        for name, samples in data.items():
            file.create_dataset(f"data/{name}", data=samples)
        told = data_format or {"dimension_order": "CW", "component_order": "ZNE"}
        for key, value in told.items():
            file.create_dataset(f"data_format/{key}", data=value)


def stead_row(name: str, **changes: object) -> dict[str, object]:
    """A row of STEAD's table, with its ways of writing nothing."""
    return {
        "network_code": "TA",
        "receiver_code": "109C",
        "receiver_type": "HH",
        "receiver_latitude": 32.9,
        "receiver_longitude": -117.1,
        "receiver_elevation_m": 150.0,
        "p_arrival_sample": 700.0,
        "p_status": "manual",
        "p_weight": 0.5,
        "s_arrival_sample": 1100.0,
        "s_status": "manual",
        "s_weight": 0.5,
        "source_id": "12345",
        "source_origin_time": "2006-07-23 15:58:50.81",
        "source_latitude": 32.7,
        "source_longitude": -116.9,
        "source_depth_km": "None",
        "source_magnitude": 2.1,
        "source_distance_km": 30.0,
        "snr_db": "[55.1 56.2 57.3]",
        "coda_end_sample": "[[2000.]]",
        "trace_start_time": "2006-07-23 15:58:59.960000",
        "trace_category": "earthquake_local",
        "trace_name": name,
    } | changes


def write_stead(
    folder: Path, rows: Sequence[dict[str, object]], names: Iterable[str], stem: str = "merge"
) -> None:
    """(6000, 3) samples for each name; component k of (E, N, Z) has the offset 1000 k."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / f"{stem}.csv", rows)
    with h5py.File(folder / f"{stem}.hdf5", "w") as file:
        for seed, name in enumerate(names):
            samples = waves(seed, 6000) + np.arange(3)[:, None] * 1000
            file.create_dataset(f"data/{name}", data=samples.T.astype(np.float32))
