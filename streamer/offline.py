"""Picks of recordings in files: rings, steps, network and onset rule of the daemon, fed from files.

The clock is the time of the data, so that waiting for a component means the same as in the daemon,
and stations advance together in batches as they do live.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streamer.clock import DataClock
from streamer.config import Config
from streamer.errors import ConfigError, DataError, MsnetError
from streamer.picking.engine import Engine, build_engine
from streamer.picking.track import Step
from streamer.picks import Pick
from streamer.seedid import Nslc
from streamer.stationspec import StationSpec, parse_station_spec
from streamer.timebase import NS_PER_S, iso
from streamer.waveforms.merge import FileSpan, by_cells, survey
from streamer.waveforms.records import Record

log = structlog.get_logger()

# Data time between looks at the stations. Few long steps cost less, as do many stations together.
CELL_S = 240
LONGEST_CELL_S = 3840
CELLS_KEPT = 2.5  # in the rings


def pick_files(paths: Iterable[Path], config: Config) -> list[Pick]:
    """The final picks of the waveforms in `paths` by time, with a progress bar on a terminal.

    `config.stations` selects channels. Raises NoInputError and DataError for files without
    waveforms, ConfigError if no channel is selected.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("looking at files", total=None)
        spans = survey(
            paths, on_file=lambda path: progress.update(task, description=f"reading {path.name}")
        )
        picker = ArchivePicker(config, _selected(spans, config.stations))
        start_ns = min(span.start_ns for span in picker.spans)
        end_ns = max(span.end_ns for span in picker.spans)
        progress.update(task, total=end_ns - start_ns)

        def show(t_ns: int) -> None:
            progress.update(
                task, completed=t_ns - start_ns, description=f"picking {iso(t_ns)[:16]}"
            )

        picks = sorted(picker.picks(show), key=lambda pick: (pick.t_ns, pick.id))
        progress.update(task, completed=end_ns - start_ns)
    return picks


def _selected(spans: list[FileSpan], stations: tuple[str, ...]) -> list[FileSpan]:
    """The spans with only the selected channels, without those that have none."""
    if not stations:
        return spans
    spec: StationSpec = parse_station_spec(stations)
    everything: set[Nslc] = set().union(*(span.channels for span in spans))
    chosen = [
        replace(span, channels={nslc for nslc in span.channels if spec.matches(nslc)})
        for span in spans
    ]
    chosen = [span for span in chosen if span.channels]
    if not chosen:
        nearest = ", ".join(spec.nearest(str(nslc) for nslc in everything))
        raise ConfigError(f"no channel in the files matches --stations {spec}; nearest: {nearest}")
    return chosen


class ArchivePicker:
    """Picks the surveyed channels of one archive; what does not fit is counted in `rejected`."""

    def __init__(self, config: Config, spans: list[FileSpan]) -> None:
        self._clock = DataClock()
        waveforms = config.waveforms
        self._channels: set[Nslc] = set().union(*(span.channels for span in spans))
        stations = len({channel.instrument for channel in self._channels})
        self._cell_s = max(LONGEST_CELL_S // stations, CELL_S)
        longer = {"buffer_s": max(waveforms.buffer_s, CELLS_KEPT * self._cell_s)}
        longer_rings = {"waveforms": waveforms.model_copy(update=longer)}
        self.engine: Engine = build_engine(config.model_copy(update=longer_rings), self._clock)
        self.spans = spans
        self.rejected = 0
        self._patience_ns = int(waveforms.component_timeout_s * NS_PER_S)
        for channel in sorted(self._channels):
            try:
                self.engine.bank.declare(channel)
            except DataError as error:
                self._channels.discard(channel)
                log.warning("channel_rejected", nslc=str(channel), error=str(error))

    def picks(self, on_progress: Callable[[int], None] = lambda t_ns: None) -> Iterator[Pick]:
        """Picks as they become final, roughly by time; `on_progress` hears the data time, ns.

        All of a cell is in the rings before its steps are taken: what is missing then is missing
        for good, and the clock goes on by as long as the daemon would wait for it.
        """
        for end_ns, runs in by_cells(self.spans, self._cell_s):
            self._clock.advance(end_ns)
            for run in runs:
                if run.nslc in self._channels:
                    yield from self._take(run)
            self._clock.advance(end_ns + self._patience_ns)
            on_progress(end_ns)
            yield from self._until_done(self._cell_s // 4)
        yield from self._until_done(1)
        yield from self._infer(self.engine.scheduler.finish())

    def _take(self, record: Record) -> Iterator[Pick]:
        scheduler = self.engine.scheduler
        while not scheduler.has_room(record):
            batches = scheduler.collect(1)
            if not batches and not scheduler.has_room(record):
                raise MsnetError(f"no room for {record.nslc}: waveforms.buffer_s is too short")
            yield from self._infer(batches)
        try:
            self.engine.bank.accept(record)
        except DataError as error:
            self.rejected += 1
            log.warning("record_rejected", error=str(error))

    def _until_done(self, least_blocks: int) -> Iterator[Pick]:
        while batches := self.engine.scheduler.collect(least_blocks):
            yield from self._infer(batches)

    def _infer(self, batches: Iterable[list[Step]]) -> Iterator[Pick]:
        for batch in batches:
            responses = self.engine.inference.probabilities(batch)
            for pick in self.engine.picks(batch, responses):
                if pick.final and pick.status != "retract":
                    yield replace(pick, made_ns=time.time_ns())
