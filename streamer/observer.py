"""What the running daemon can be asked: metrics, readiness, the state of each station, waveforms.

It reads what the stages count and keep anyway; the stages tell it only what would be lost
otherwise. All that is read may be read beside the event loop.
"""

import time
from collections.abc import Callable, Mapping

from streamer import __version__
from streamer.bus.asks import Answer, Ask
from streamer.bus.publisher import Publisher
from streamer.clock import Clock
from streamer.metrics import Metrics, Reading
from streamer.picking.engine import Engine
from streamer.picking.report import PickTally, StationReport, reports
from streamer.picking.snippets import Snippets
from streamer.picking.track import Response, Step
from streamer.picks import Pick
from streamer.reload import Reloads
from streamer.seedid import Instrument
from streamer.timebase import NS_PER_S
from streamer.waveforms.ring import Verdict

# Behind this nothing of a network flows any more; a record may take a minute to fill.
_FLOWING_S = 300.0
_SUPPRESSED = "suppressed_"
# Samples that were received and not used, as `waveforms` counts them.
_DROPPED = {
    "expired": "expired_samples",
    "repeated": "repeated_samples",
    "unusable": "unusable_samples",
}


class Observer:
    """Looks at one engine and its publisher, and at the stages that `watch` names."""

    def __init__(self, engine: Engine, publisher: Publisher, clock: Clock) -> None:
        self.metrics = Metrics(self.read)
        self.snippets = Snippets(engine.bank, clock)
        self._engine = engine
        self._publisher = publisher
        self._clock = clock
        self._totals: Callable[[], Mapping[str, int]] = dict
        self._waiting: Callable[[], int] = int
        self._connected: Callable[[], bool] = bool
        self._reloads: Reloads | None = None
        self._tally = PickTally()
        self._last = (time.monotonic(), 0)  # of the blocks, for the real-time factor

    def watch(
        self,
        totals: Callable[[], Mapping[str, int]],
        waiting: Callable[[], int],
        connected: Callable[[], bool],
        reloads: Reloads,
    ) -> None:
        """Where to ask: counters of all stages, packets that wait, is a SeedLink server there.

        And when the configuration was read again.
        """
        self._totals, self._waiting, self._connected = totals, waiting, connected
        self._reloads = reloads

    def batch_done(self, batch: list[Step], responses: list[Response], duration_s: float) -> None:
        """The network has answered a batch."""
        self.metrics.batch_done(len(batch), duration_s)
        self.snippets.note(batch, responses)

    def pick_made(self, pick: Pick) -> None:
        """A message goes to the publisher."""
        if pick.rev == 0:
            self.metrics.pick_made(pick.t_ns, pick.data_ns, self._clock(), pick.stages_s)
        if pick.final and pick.status != "retract":
            instrument = Instrument(pick.net, pick.sta, pick.loc, pick.cha[:-1])
            self._tally.add(instrument, pick.phase, pick.t_ns)

    def stations(self) -> list[StationReport]:
        """How each station is now."""
        tracks = self._engine.scheduler.tracks()
        inventory = self._engine.picker.inventory
        return list(reports(self._engine.bank, tracks, self._tally, inventory, self._clock()))

    def health(self) -> dict[str, int]:
        """A few numbers that tell how this daemon does."""
        return {
            "stations": len(self._engine.bank.stations),
            "connected": int(self._connected()),
            "step_s": self._engine.scheduler.step_blocks,
            "published": self._publisher.published,
            "pending": self._publisher.pending,
            "dropped": self._publisher.dropped,
        }

    def answer(self, ask: Ask) -> Answer | None:
        """The waveforms that a viewer asks for; None if the station is not here."""
        return self.snippets.answer(ask.instrument, ask.start_ns, ask.stop_ns)

    def why_not_ready(self) -> str | None:
        """What keeps picks from coming: no server, or no data; None if nothing does."""
        if not self._connected():
            return "no SeedLink server is connected"
        if not any(report.data_latency_s < _FLOWING_S for report in self.stations()):
            return f"no station has data younger than {_FLOWING_S:g} s"
        return None

    def read(self) -> Reading:
        """All series with their present values."""
        counts = self._totals()
        return {
            **self._network(),
            **({} if self._reloads is None else self._reloads.reading()),
            **self._stages(counts),
            **_of_stations(self.stations()),
        }

    def _network(self) -> Reading:
        provenance = self._engine.picker.provenance
        labels = (__version__, provenance.model, provenance.model_sha)
        return {
            "msnet_build_info": {labels: 1.0},
            "msnet_seedlink_connected": float(self._connected()),
            "msnet_redis_up": float(self._publisher.is_up),
        }

    def _stages(self, counts: Mapping[str, int]) -> Reading:
        results: dict[tuple[str, ...], float] = {
            (str(verdict),): float(counts.get(verdict, 0)) for verdict in Verdict
        }
        results["rejected",] = float(counts.get("records_rejected", 0))
        suppressed: dict[tuple[str, ...], float] = {
            (name.removeprefix(_SUPPRESSED),): float(count)
            for name, count in counts.items()
            if name.startswith(_SUPPRESSED)
        }
        dropped: dict[tuple[str, ...], float] = {
            (reason,): float(counts.get(name, 0)) for reason, name in _DROPPED.items()
        }
        publisher = self._publisher
        return {
            "msnet_seedlink_reconnects_total": float(counts.get("disconnections", 0)),
            "msnet_seedlink_records_total": results,
            "msnet_seedlink_holes_total": float(counts.get("holes", 0)),
            "msnet_seedlink_packets_left_out_total": {
                (reason,): float(counts.get(f"packets_{reason}", 0))
                for reason in ("duplicate", "unasked")
            },
            "msnet_samples_dropped_total": dropped,
            "msnet_onsets_suppressed_total": suppressed,
            "msnet_packets_waiting": float(self._waiting()),
            "msnet_step_interval_seconds": float(counts.get("step_s", 0)),
            "msnet_steps_total": float(counts.get("steps", 0)),
            "msnet_realtime_factor": self._realtime_factor(counts.get("blocks", 0)),
            "msnet_picks_published_total": float(publisher.published),
            "msnet_picks_duplicate_total": float(publisher.duplicates),
            "msnet_picks_dropped_total": {("bound",): float(publisher.dropped)},
            "msnet_spool_entries": float(publisher.pending),
        }

    def _realtime_factor(self, blocks: int) -> float:
        """Blocks are seconds of data of one station."""
        (before_s, before), now_s = self._last, time.monotonic()
        self._last = (now_s, blocks)
        return (blocks - before) / max(now_s - before_s, 1e-3)


def _of_stations(stations: list[StationReport]) -> Reading:
    labelled = [(_labels(report.instrument), report) for report in stations]
    return {
        "msnet_station_data_latency_seconds": {k: r.data_latency_s for k, r in labelled},
        "msnet_station_feed_latency_seconds": {k: r.feed_latency_s for k, r in labelled},
        "msnet_station_last_sample_timestamp_seconds": {
            k: r.end_ns / NS_PER_S for k, r in labelled
        },
        "msnet_station_gaps_total": {k: r.gaps for k, r in labelled},
        "msnet_station_overlaps_total": {k: r.overlaps for k, r in labelled},
        "msnet_station_samples_total": {k: r.samples for k, r in labelled},
        "msnet_station_picks_total": {
            (*k, phase): count for k, r in labelled for phase, count in r.picks.items()
        },
        "msnet_station_timing_quality_percent": {
            k: r.timing_quality for k, r in labelled if r.timing_quality is not None
        },
    }


def _labels(instrument: Instrument) -> tuple[str, ...]:
    return (
        instrument.network,
        instrument.station,
        instrument.location,
        instrument.band_instrument,
    )
