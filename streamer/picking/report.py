"""How each station is at this moment: what `status`, the metrics and the heartbeats tell of it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from streamer.picking.track import Track
from streamer.picks import Phase
from streamer.seedid import Instrument
from streamer.timebase import NS_PER_S, sample_time_ns
from streamer.waveforms.inventory import Inventory
from streamer.waveforms.stations import Station, StationBank


@dataclass(frozen=True, slots=True, kw_only=True)
class StationReport:
    """One instrument. Latencies in s; `end_ns` is the time of its last sample (UTC ns).

    data latency: now - time of the last sample; feed latency: arrival - time of the last sample in
    the newest record. Counters are since the start of the daemon. `timing_quality` in %, None where
    the records do not tell it or tell 0, as many digitisers always do. All onsets before
    `through_ns` (UTC ns) have been judged.
    """

    instrument: Instrument
    components: int
    end_ns: int
    data_latency_s: float
    feed_latency_s: float
    gaps: int
    overlaps: int
    samples: int
    missing_samples: int
    timing_quality: int | None
    picks: Mapping[Phase, int]
    last_pick_ns: int | None
    through_ns: int | None
    lat: float | None = None
    lon: float | None = None
    elev: float | None = None


class PickTally:
    """Final picks of each instrument by phase, and the time of the last."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[Instrument, Phase]] = Counter()
        self.last_ns: dict[Instrument, int] = {}

    def add(self, instrument: Instrument, phase: Phase, t_ns: int) -> None:
        """One more."""
        self.counts[instrument, phase] += 1
        self.last_ns[instrument] = max(t_ns, self.last_ns.get(instrument, 0))


def reports(
    bank: StationBank,
    tracks: Iterable[Track],
    picks: PickTally,
    inventory: Inventory,
    now_ns: int,
) -> Iterator[StationReport]:
    """Of all instruments that have data. May be called beside the event loop."""
    through_ns = {track.station.instrument: _through_ns(track) for track in list(tracks)}
    for station in list(bank.stations.values()):
        if station.rate is not None and station.end:
            yield _report(station, picks, inventory, now_ns, through_ns.get(station.instrument))


def _through_ns(track: Track) -> int | None:
    decided = track.detector.decided
    return sample_time_ns(decided, track.rate) if decided else None


def _report(
    station: Station,
    picks: PickTally,
    inventory: Inventory,
    now_ns: int,
    through_ns: int | None,
) -> StationReport:
    assert station.rate is not None
    end_ns = sample_time_ns(station.end - 1, station.rate)
    counts, instrument = station.counts, station.instrument
    place = inventory.find(next(c.nslc for c in station.components if c is not None), end_ns)
    qualities = [
        c.timing_quality for c in station.components if c is not None and c.timing_quality > 0
    ]
    return StationReport(
        instrument=instrument,
        components=len(station.rings()),
        end_ns=end_ns,
        data_latency_s=(now_ns - end_ns) / NS_PER_S,
        feed_latency_s=(station.arrived_ns - end_ns) / NS_PER_S,
        gaps=counts["gap"],
        overlaps=counts["overlap"] + counts["duplicate"],
        samples=station.samples,
        missing_samples=counts["missing_samples"],
        timing_quality=min(qualities) if qualities else None,
        picks={phase: picks.counts[instrument, phase] for phase in get_args(Phase)},
        last_pick_ns=picks.last_ns.get(instrument),
        through_ns=through_ns,
        lat=place.lat,
        lon=place.lon,
        elev=place.elev_m,
    )
