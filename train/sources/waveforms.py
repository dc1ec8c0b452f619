"""Any format ObsPy reads -> the segments of a record on one sample grid."""

import warnings
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import obspy
from obspy.io.mseed import ObsPyMSEEDError

from streamer.timebase import NS_PER_S, as_rate
from train.sources.recording import COMPONENT_ROW, Segment, UnreadableError, as_samples

_RATE_TOLERANCE = 1e-3  # relative: digitisers write 99.9999 for 100


def read(path: Path, start_ns: int | None = None, end_ns: int | None = None) -> Any:
    """The traces of a file, cut to a range where one is given; raises UnreadableError."""
    bounds = {
        name: obspy.UTCDateTime(ns=ns)
        for name, ns in (("starttime", start_ns), ("endtime", end_ns))
        if ns is not None
    }
    return _quietly(path, **bounds)


def headers(path: Path) -> Any:
    """The traces of a file without their samples; raises UnreadableError."""
    return _quietly(path, headonly=True)


def _quietly(path: Path, **options: Any) -> Any:
    """What is odd but readable is judged by the rules of the selection, so nothing is printed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return obspy.read(str(path), **options)
    except (OSError, TypeError, ValueError, ObsPyMSEEDError) as error:
        raise UnreadableError("no_waveform", f"{path}: cannot be read: {error}") from error


def segments(
    traces: Iterable[Any], start_ns: int, rate: Fraction, what: str
) -> tuple[Segment, ...]:
    """The known components from `start_ns` on; where two traces contradict each other, a gap.

    Raises UnreadableError if a trace has another sampling rate.
    """
    stream = obspy.Stream([t for t in traces if t.stats.channel[-1:] in COMPONENT_ROW])
    for trace in stream:
        if abs(trace.stats.sampling_rate / float(rate) - 1) > _RATE_TOLERANCE:
            raise UnreadableError(
                "mixed_rates", f"{what}: {trace.id} at {trace.stats.sampling_rate} Hz, not {rate}"
            )
        trace.stats.sampling_rate = float(rate)
    if len({trace.data.dtype for trace in stream}) > 1:
        for trace in stream:
            trace.data = as_samples(trace.data, what).astype("float64")
    if len({trace.id for trace in stream}) < len(stream):
        stream.merge(method=0)
        stream = stream.split()
    found = []
    for trace in stream.sort():
        lead_ns = trace.stats.starttime.ns - start_ns
        first = round(lead_ns * rate / NS_PER_S)
        samples = as_samples(trace.data[max(-first, 0) :], what)
        if len(samples):
            found.append(Segment(trace.stats.channel[-1], max(first, 0), samples))
    return tuple(found)


def rate_of(trace: Any) -> Fraction:
    """Sampling rate of a trace as an exact fraction."""
    return as_rate(float(trace.stats.sampling_rate))
