"""Every series that the daemon exports to Prometheus, and where its value comes from.

What is counted anyway is read when somebody asks, in the thread that answers; only what has a
distribution is observed as it happens, once a batch or once a pick. Seismologists' terms: data
latency is SeisComP's "delay" (now - time of the last sample), feed latency its "latency" (arrival -
time of the last sample of the record).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from streamer.latency import STAGES
from streamer.timebase import NS_PER_S

# From a batch of one station on an idle core to one that an interval of a second cannot hold.
_INFERENCE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# A sure pick comes after a second, a final one after six; a digitiser may fill a record for a
# minute.
_LATENCY_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 1.5, 2.5, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 300.0)
_PUBLISH_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)

STATION = ("network", "station", "location", "instrument")


@dataclass(frozen=True)
class Series:
    """One exported series: `kind` as Prometheus calls it, `labels`, and its meaning."""

    name: str
    kind: str
    meaning: str
    labels: Sequence[str] = ()


_RELOADS = (
    Series("msnet_config_last_reload_attempt_timestamp_seconds", "gauge",
           "when the configuration was last to be read again, POSIX s"),
    Series("msnet_config_last_reload_success_timestamp_seconds", "gauge",
           "when the configuration was last read without an error, POSIX s"),
)  # fmt: skip
SERIES: tuple[Series, ...] = (
    Series("msnet_build_info", "gauge", "1; version and network are in the labels",
           ("version", "model", "model_sha")),
    Series("msnet_station_data_latency_seconds", "gauge",
           "now - time of the last sample of a station", STATION),
    Series("msnet_station_feed_latency_seconds", "gauge",
           "arrival - time of the last sample of the newest record", STATION),
    Series("msnet_station_last_sample_timestamp_seconds", "gauge",
           "time of the last sample, POSIX s", STATION),
    Series("msnet_station_gaps_total", "counter", "gaps in the data of all components", STATION),
    Series("msnet_station_overlaps_total", "counter",
           "records that repeat samples, in part or as a whole", STATION),
    Series("msnet_station_samples_total", "counter", "samples received", STATION),
    Series("msnet_station_picks_total", "counter", "final picks by phase", (*STATION, "phase")),
    Series("msnet_station_timing_quality_percent", "gauge",
           "timing quality in the newest record (blockette 1001); 0 is not known", STATION),
    Series("msnet_seedlink_connected", "gauge", "1 while a SeedLink server is connected"),
    Series("msnet_seedlink_reconnects_total", "counter",
           "connections that ended or failed, and were made anew"),
    Series("msnet_seedlink_records_total", "counter",
           "records by what became of them (accepted, gap, overlap, late, duplicate, expired, "
           "future, rejected)", ("result",)),
    Series("msnet_seedlink_holes_total", "counter",
           "channels that did not go on where they had ended after a new connection"),
    Series("msnet_seedlink_packets_left_out_total", "counter",
           "packets that came twice (duplicate) or were not asked for (unasked)", ("reason",)),
    Series("msnet_samples_dropped_total", "counter", "samples that were not used, by reason",
           ("reason",)),
    Series("msnet_onsets_suppressed_total", "counter",
           "onsets that did not become picks, by reason", ("reason",)),
    Series("msnet_packets_waiting", "gauge", "packets received that are not in a ring yet"),
    Series("msnet_step_interval_seconds", "gauge", "advance of the network; wider under overload"),
    Series("msnet_steps_total", "counter", "advances of a station by one step"),
    Series("msnet_realtime_factor", "gauge",
           "seconds of data picked per second, over all stations, since the last look"),
    Series("msnet_inference_seconds", "histogram", "time of one batch in the network"),
    Series("msnet_inference_batch_size", "histogram", "stations in one batch"),
    Series("msnet_pick_latency_seconds", "histogram",
           "from the onset to the arrival of its last sample (data), from there to the message "
           "(compute), and from the onset to the message (total); parts of data are look_ahead, "
           "record and telemetry, parts of compute wait and network (docs/messages.md)",
           ("stage",)),
    Series("msnet_picks_published_total", "counter", "messages that Redis has confirmed"),
    Series("msnet_picks_duplicate_total", "counter", "messages that Redis already had"),
    Series("msnet_picks_dropped_total", "counter", "picks lost, by reason", ("reason",)),
    Series("msnet_spool_entries", "gauge", "messages that wait for Redis"),
    Series("msnet_redis_up", "gauge", "1 unless the last batch of messages failed"),
    *_RELOADS,
)  # fmt: skip
WORKER_SERIES: tuple[Series, ...] = (
    Series("msnet_association_picks_total", "counter",
           "picks read, by what became of them (taken, duplicate, late, too_old, future, "
           "unknown_station, crowded)", ("result",)),
    Series("msnet_events_total", "counter", "versions of events, by their state", ("status",)),
    Series("msnet_dead_letters_total", "counter", "messages that could not be used"),
    Series("msnet_stream_lag", "gauge", "picks on the stream that a consumer group has not read",
           ("group",)),
    Series("msnet_association_watermark_age_seconds", "gauge",
           "picks are known to be complete up to so long ago"),
    Series("msnet_station_rsv_ratio", "gauge",
           "Rsv/Pick: share of the picks of the last hour that have an event",
           ("network", "station", "phase")),
    *_RELOADS,
    Series("msnet_station_rsv_collapsed", "gauge",
           "1 while far fewer of a station's picks have an event than in the last day",
           ("network", "station", "phase")),
)  # fmt: skip
_BY_NAME = {series.name: series for series in (*SERIES, *WORKER_SERIES)}

Reading = Mapping[str, float | Mapping[tuple[str, ...], float]]


class Exporter:
    """The registry of one process.

    `read` gives the present values by name of series, those with labels by the values of these; it
    is called in the thread that answers a scrape, beside the event loop.
    """

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Readings(read))

    def render(self) -> bytes:
        """All series in the text format of Prometheus."""
        return generate_latest(self._registry)


class Metrics(Exporter):
    """Those of a picker, which has distributions too."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        super().__init__(read)
        # A second series for every histogram, of no use here.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._inference = self._histogram("msnet_inference_seconds", _INFERENCE_BUCKETS_S)
        self._batch = self._histogram("msnet_inference_batch_size", _BATCH_BUCKETS)
        latency = self._histogram("msnet_pick_latency_seconds", _LATENCY_BUCKETS_S)
        stages = ("data", "compute", "total", *STAGES[:-1])
        self._latency = {stage: latency.labels(stage) for stage in stages}

    def batch_done(self, stations: int, duration_s: float) -> None:
        """The network has answered a batch."""
        self._inference.observe(duration_s)
        self._batch.observe(stations)

    def pick_made(
        self, t_ns: int, data_ns: int, now_ns: int, stages_s: Mapping[str, float]
    ) -> None:
        """A pick of an onset at `t_ns`, whose last sample arrived at `data_ns`, goes out.

        `stages_s`: by name, all but the last of `latency.STAGES`.
        """
        parts = {name: stages_s[name] for name in STAGES[:-1] if name in stages_s}
        parts["data"] = (data_ns - t_ns) / NS_PER_S
        parts["compute"] = (now_ns - data_ns) / NS_PER_S
        parts["total"] = (now_ns - t_ns) / NS_PER_S
        for stage, duration_s in parts.items():
            self._latency[stage].observe(duration_s)

    def _histogram(self, name: str, buckets: Sequence[float]) -> Histogram:
        series = _BY_NAME[name]
        return Histogram(
            name, series.meaning, series.labels, buckets=buckets, registry=self._registry
        )


class _Readings(Collector):
    """The series whose values exist anyway."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not read to learn the names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """One family a series. A name that is not in `SERIES` raises KeyError: a fault of ours."""
        for name, value in self._read().items():
            series = _BY_NAME[name]
            family: CounterMetricFamily | GaugeMetricFamily
            if series.kind == "counter":
                family = CounterMetricFamily(name, series.meaning, labels=series.labels)
            else:
                family = GaugeMetricFamily(name, series.meaning, labels=series.labels)
            values = value if isinstance(value, Mapping) else {(): value}
            for labels, number in values.items():
                family.add_metric(labels, number)
            yield family
