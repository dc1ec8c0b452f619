"""What `streaming.py` measures beside the comparison: cost curves, latency, a day offline."""

import statistics
import tempfile
from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import obspy
from contenders import (
    BEGIN_S,
    COMPONENTS,
    RATE,
    WARM_S,
    Classify,
    FullWindow,
    Streaming,
    Waves,
    cpu_s,
    measure,
)

from streamer.bench.network import GOLDEN
from streamer.config import Config
from streamer.offline import pick_files
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S
from streamer.waveforms.records import Record, encode

CURVE_STATIONS = (25, 50, 100, 200, 400, 800)
CURVE_WINDOWS_S = (10, 20, 30, 60, 90, 120)
CURVE_WINDOW_STATIONS = 64
TICK_S = 0.05  # as the daemon's picking.tick_ms
OFFLINE_REPEATS = 3
SECONDS_PER_HOUR = 3600
OURS, THEIRS = "#0072b2", "#d55e00"  # told apart by every kind of colour vision

Tell = Callable[[str], None]


def curves(waves: Waves, rounds: int, tell: Tell) -> dict[str, Any]:
    """CPU ms per second of data by number of stations, and per station-second by window length.

    Streaming has no window: its cost per station-second is the slope of the former.
    """
    growing = [Streaming(waves, n, f"streaming, {n} stations") for n in CURVE_STATIONS]
    windows = [FullWindow(waves, CURVE_WINDOW_STATIONS, w) for w in CURVE_WINDOWS_S]
    turns = measure([*growing, *windows], rounds, tell)
    median_ms = [1000 * statistics.median(each.cpu_s) for each in turns]
    by_stations, by_window = median_ms[: len(growing)], median_ms[len(growing) :]
    slope, offset = np.polyfit(CURVE_STATIONS, by_stations, 1)
    return {
        "stations": CURVE_STATIONS,
        "streaming_ms": by_stations,
        "streaming_ms_per_station_s": float(slope),
        "streaming_ms_without_stations": float(offset),
        "windows_s": CURVE_WINDOWS_S,
        "full_window_ms_per_station_s": [ms / CURVE_WINDOW_STATIONS for ms in by_window],
    }


def save_curves(found: dict[str, Any], file: BinaryIO) -> None:
    """A PNG of both curves."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    slope, offset = found["streaming_ms_per_station_s"], found["streaming_ms_without_stations"]
    most = max(found["stations"])
    left.plot(found["stations"], found["streaming_ms"], "o", color=OURS, label="measured")
    line = [offset, offset + slope * most]
    left.plot([0, most], line, color="0.6", label=f"{slope:.3f} ms per station")
    left.set(xlabel="stations", ylabel="CPU ms per second of data", title="streaming")
    windows = found["windows_s"], found["full_window_ms_per_station_s"]
    right.plot(*windows, "o-", color=THEIRS, label="full window")
    right.axhline(slope, color=OURS, label="streaming: has no window")
    right.set(xlabel="window (s)", ylabel="CPU ms per station-second", ylim=(0, None))
    right.set_title("the same network, step 1 s")
    for axes in (left, right):
        axes.legend()
    figure.savefig(file, dpi=120, format="png")


def latencies(waves: Waves, stations: int, seconds: int, tell: Tell) -> dict[str, float]:
    """Processing latency (ms) of a core that has nothing else to do, and its utilisation.

    The clock is virtual: it runs on by the CPU time of what is really done, and by the waiting for
    the next tick. Each station's second arrives at a moment of its own, evenly spread; what has
    arrived is taken in together, and processed when the look at the stations that follows it ends.
    """
    picker = Streaming(waves, stations)
    phases_s = sorted(n * GOLDEN % 1 for n in range(stations))
    now_s = float(WARM_S)
    busy_s, late_s = 0.0, []
    for second in range(WARM_S, WARM_S + seconds):
        arrive_s = [second + phase for phase in phases_s]
        waiting = [picker.records(n, second) for n in range(stations)]
        done = 0
        while done < stations:
            tick_s, first = now_s, done
            picker.advance(now_s + 1)  # records arrive when their last sample is past
            while (arrived := bisect_right(arrive_s, now_s)) > done:
                records = list(chain.from_iterable(waiting[done:arrived]))
                spent_s = cpu_s(partial(picker.take, records))
                now_s, busy_s, done = now_s + spent_s, busy_s + spent_s, arrived
            spent_s = cpu_s(picker.pick)
            now_s, busy_s = now_s + spent_s, busy_s + spent_s
            late_s += [now_s - arrived_s for arrived_s in arrive_s[first:done]]
            now_s = max(now_s, tick_s + TICK_S)
        tell(f"latency, {stations} stations")
    quantiles = {f"p{q}_ms": float(np.percentile(late_s, q)) * 1000 for q in (50, 95, 99)}
    return {"stations": stations, **quantiles, "utilisation": busy_s / (now_s - WARM_S)}


def offline(
    waves: Waves, hours: float, tell: Tell, recording: Path | None = None
) -> dict[str, object]:
    """CPU seconds for `hours` of one station in a miniSEED file: ours and SeisBench's, in turn.

    They are those of `recording`, over and over, or else of `waves`.
    """
    seconds = round(hours * SECONDS_PER_HOUR)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "station.mseed"
        samples = (
            waves.between(0, 0, seconds) if recording is None else repeated(recording, seconds)
        )
        write_station(samples, path)
        tell("offline, writing")
        peer = Classify(waves, 1, "PhaseNet", merged=True)
        picks = len(pick_files([path], Config()))
        spent: dict[str, list[float]] = {"ours_s": [], "peer_reading_s": [], "peer_classify_s": []}
        for _ in range(OFFLINE_REPEATS):
            spent["ours_s"].append(cpu_s(lambda: pick_files([path], Config())))
            tell("offline, msnet-stream pick")
            spent["peer_reading_s"].append(cpu_s(lambda: obspy.read(path, format="MSEED")))
            stream = obspy.read(path, format="MSEED")
            spent["peer_classify_s"].append(cpu_s(partial(peer.picks, stream)))
            tell("offline, SeisBench")
    medians = {name: statistics.median(times) for name, times in spent.items()}
    peer_s = medians["peer_reading_s"] + medians["peer_classify_s"]
    return {
        "hours": hours,
        "picks": picks,
        **medians,
        "ratio": peer_s / medians["ours_s"],
        "ratio_to_classify_alone": medians["peer_classify_s"] / medians["ours_s"],
    }


def repeated(recording: Path, seconds: int) -> npt.NDArray[np.int32]:
    """Samples (3, n) of a recording of one station at 100 Hz, over and over for so long.

    Where it begins anew is at a whole second. Raises ValueError for another rate or components.
    """
    stream = obspy.read(recording).sort()
    if len(stream) != len(COMPONENTS) or any(t.stats.sampling_rate != RATE for t in stream):
        raise ValueError(f"{recording}: not three components of {RATE} Hz without gaps")
    first = max(trace.stats.starttime for trace in stream)
    traces = [trace.slice(first).data for trace in stream[::-1]]  # Z, N, E
    length = min(map(len, traces)) // int(RATE) * int(RATE)
    wanted = np.arange(seconds * int(RATE)) % length
    return np.stack([trace[:length].astype(np.int32)[wanted] for trace in traces])


def write_station(samples: npt.NDArray[np.int32], path: Path) -> None:
    """A miniSEED file of one station, component by component as archives have it."""
    with path.open("wb") as file:
        for component, trace in zip(COMPONENTS, samples, strict=True):
            nslc = Nslc("XX", "DAY", "", f"HH{component}")
            for data in encode(Record(nslc, BEGIN_S * NS_PER_S, RATE, trace)):
                file.write(data)
