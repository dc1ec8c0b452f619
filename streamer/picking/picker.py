"""From onsets to picks: identity, life cycle, time, channel, quality, and what is suppressed.

A pick begins (rev 0) where a preview of the network is sure enough, about a second after the onset,
or where the final probabilities have an onset that no preview had. It is updated if a later preview
moves it, and ends with the final probabilities: confirmed by an onset of theirs, or retracted. All
this happens at fixed places of the absolute grid, so that the messages do not depend on how the
data arrived; the id is that of the first message.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from model.look_ahead import (
    EARLY_RULE,
    EARLY_THRESHOLDS,
    S_AFTER_P_SAMPLES,
    early_onsets,
)
from model.msnet import PHASES
from model.onsets import Onset
from model.preprocess import BLOCK
from model.time_errors import NO_TIME_ERRORS, TimeErrors
from streamer.picking.artefacts import Artefact, artefact, is_clipped
from streamer.picking.excerpt import Excerpt, excerpt, marked
from streamer.picking.measures import first_motion, measure
from streamer.picking.track import Response, Step, Track
from streamer.picks import Pick, Status, pick_id
from streamer.timebase import NS_PER_MS, NS_PER_S, sample_time_ns
from streamer.waveforms.inventory import NO_INVENTORY, Inventory
from streamer.waveforms.ring import Mark
from streamer.waveforms.stations import Component

# Where data begin, the first blocks have nothing before them that an onset could stand out from.
BLIND_BLOCKS = 2

# A provisional pick that moves by less is left as it is until it is final: 0.1 s at 100 Hz.
MOVED_SAMPLES = 10


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Who picks, with what: copied into every pick. `thresholds` are probabilities for P and S.

    `provisional`: whether picks are published before they are final.
    """

    model: str
    model_sha: str
    thresholds: tuple[float, float]
    separation_samples: int
    sampling: tuple[tuple[str, str], ...]
    agency: str
    author: str
    provisional: bool = True

    @property
    def early_thresholds(self) -> tuple[float, ...]:
        """Probabilities of P and S from which a preview is believed."""
        pairs = zip(self.thresholds, EARLY_THRESHOLDS, strict=True)
        return tuple(max(pair) for pair in pairs)

    @property
    def cfg(self) -> str:
        """8 hex digits of the settings that decide about picks."""
        early = [self.early_thresholds, EARLY_RULE] if self.provisional else None
        settings = json.dumps(
            [self.thresholds, self.separation_samples, BLIND_BLOCKS, self.sampling, early]
        )
        return hashlib.sha256(settings.encode()).hexdigest()[:8]

    @property
    def origin_hex6(self) -> str:
        """The tail of pick ids: the same model and settings give the same ids anywhere."""
        return hashlib.sha256(f"{self.model_sha}{self.cfg}".encode()).hexdigest()[:6]


class Picker:
    """Runs the onset rule over what the network answers, and leads each pick through its life.

    `inventory` says where the sensors are; `time_errors` how sure onset times are.
    """

    def __init__(
        self,
        provenance: Provenance,
        inventory: Inventory = NO_INVENTORY,
        time_errors: TimeErrors = NO_TIME_ERRORS,
    ) -> None:
        self.provenance = provenance
        self.inventory = inventory
        self._time_errors = time_errors
        self.counts: Counter[str] = Counter()
        self._cfg, self._origin = provenance.cfg, provenance.origin_hex6
        self._separation = provenance.separation_samples

    def pick(self, step: Step, response: Response) -> list[Pick]:
        """The messages of this step, in the order in which they became due."""
        if self._pass_over(step, response):
            return []
        lag = step.end - response.stop
        messages: list[Pick] = []
        for end, preview in () if step.track.late else response.previews:
            messages += self._judge(step, response, end - lag)
            messages += self._believe(step, response, end, preview)
        messages += self._judge(step, response, response.stop)
        if step.ends:
            messages += self._settle(step, response, step.track.detector.finish())
        return messages

    def _pass_over(self, step: Step, response: Response) -> bool:
        """Judge a step in which nothing is and for which nothing waits, as nearly always.

        Whether it was such a step.
        """
        track = step.track
        if response.previews or track.provisional or step.ends:
            return False
        first = max(response.start, step.begins, track.next_output)
        stop = response.stop
        if first >= stop or not track.detector.pass_over(first, stop, response.highest):
            return False
        track.next_output = stop
        return True

    def _judge(self, step: Step, response: Response, stop: int) -> Iterator[Pick]:
        """The final probabilities up to sample `stop`.

        A pick that is not final meets them block by block, as if they had come so.
        """
        track, detector = step.track, step.track.detector
        first = max(response.start, step.begins, track.next_output)
        if first < stop and detector.open and detector.end != first:
            yield from self._settle(step, response, detector.finish())
        while first < stop:
            end = first + (stop - first - 1) % BLOCK + 1 if track.provisional else stop
            piece = response.probability[:, first - response.start : end - response.start]
            track.next_output = end
            onsets = detector.push(first, piece)
            if onsets or track.provisional:
                yield from self._settle(step, response, onsets)
            first = end

    def _settle(self, step: Step, response: Response, onsets: list[Onset]) -> Iterator[Pick]:
        """Final onsets, each confirming the provisional pick that is nearest; then retractions."""
        track = step.track
        for onset in onsets:
            track.settled[onset.phase] = onset.index
            provisional = self._nearest(track, onset)
            if not track.wants(onset):
                continue
            new = self._to_pick(step, response, onset)
            if isinstance(new, Artefact):
                self.counts[f"suppressed_{new}"] += 1
                continue
            self.counts[f"picks_{new.phase}"] += 1
            if not step.again:
                track.note_published(onset)
            if track.late:
                self.counts["picks_late"] += 1
            if new.lat is None and len(self.inventory):
                self.counts["picks_without_place"] += 1
            if provisional is None:
                yield self._unlike_vacated(track, new)
            else:
                track.provisional.remove(provisional)
                if new.id != provisional[1].id and not step.again:
                    track.vacated.append((provisional[1].id, onset.index))
                yield _revision(provisional[1], new, "update", final=1)
        decided = track.detector.decided
        # A trace that has ended decided up to its end, and nothing about what may follow.
        reach = self._separation if track.detector.open else 0
        for provisional in list(track.provisional):
            onset, pick = provisional
            if onset.index + reach < decided:
                track.provisional.remove(provisional)
                self.counts["picks_retracted"] += 1
                if not step.again:
                    track.vacated.append((pick.id, onset.index))
                seen_ns, rec_ns = _ends_ns(step, step.end)
                now = replace(pick, seen_ns=seen_ns, rec_ns=rec_ns, data_ns=step.arrived_ns)
                yield _revision(pick, now, "retract", final=1)

    def _unlike_vacated(self, track: Track, new: Pick) -> Pick:
        """With data that came late an onset may be where a pick began that is elsewhere now."""
        used = {name for name, _ in track.vacated}
        t_ns = new.t_ns
        while new.id in used:
            t_ns += NS_PER_MS
            name = pick_id(track.station.instrument, new.phase, t_ns, self._origin)
            new = replace(new, id=name)
        return new

    def _believe(
        self, step: Step, response: Response, end: int, preview: npt.NDArray[np.float32]
    ) -> Iterator[Pick]:
        """Provisional picks, new or moved, of a preview that ends at sample `end`."""
        track, thresholds = step.track, self.provenance.early_thresholds
        for onset in early_onsets(preview, end, thresholds, self._separation):
            known = self._nearest(track, onset)
            if known is None:
                wanted = self._is_news(track, onset, step.begins) and _may_be_early(track, onset)
            else:
                wanted = abs(onset.index - known[0].index) > MOVED_SAMPLES
            if not wanted:  # most previews show what an earlier one has shown
                continue
            new = self._to_pick(step, response, onset, known=end)
            if isinstance(new, Artefact):
                continue
            if known is None:
                self.counts["picks_provisional"] += 1
                message = replace(new, final=0)
            else:
                track.provisional.remove(known)
                message = _revision(known[1], new, "update", final=0)
            track.provisional.append((onset, message))
            yield message

    def _is_news(self, track: Track, onset: Onset, begins: int) -> bool:
        """Not judged yet, and no second opinion on an onset that is final."""
        judged = max(track.detector.decided, begins)
        return onset.index >= max(judged, track.settled[onset.phase] + self._separation)

    def _nearest(self, track: Track, onset: Onset) -> tuple[Onset, Pick] | None:
        """The provisional pick that `onset` is about."""
        near = [
            (abs(known.index - onset.index), n)
            for n, (known, _) in enumerate(track.provisional)
            if known.phase == onset.phase and abs(known.index - onset.index) <= self._separation
        ]
        return track.provisional[min(near)[1]] if near else None

    def _sigma_s(self, track: Track, onset: Onset) -> float | None:
        """Standard deviation of the onset, which belongs to the samples, not to the seconds."""
        sigma_s = self._time_errors.sigma_s(PHASES[onset.phase], onset.probability)
        return None if sigma_s is None else sigma_s * track.seconds_each

    def _to_pick(
        self, step: Step, response: Response, onset: Onset, known: int | None = None
    ) -> Pick | Artefact:
        """The pick of an onset as if it were final and the first, or why it is suppressed.

        Nothing is known from sample `known` on, which is no gap; by default what the step has.
        """
        track, block = step.track, int(onset.index // BLOCK)
        if not response.validity(block, BLIND_BLOCKS, 0).any(axis=0).all():
            return Artefact.DATA_START
        before, after = track.context.reach(block)
        if known is None:
            known = step.end
        else:
            after = min(after, known // BLOCK - 1 - block)
        around = excerpt(track, onset.index, known)
        calibrating = marked(track, Mark.CALIBRATION, block, block + 1)
        if cause := Artefact.CALIBRATION if calibrating else artefact(around):
            return cause
        valid = response.validity(block, before, after)
        phase = PHASES[onset.phase]
        slot, component = _reported_on(track, phase, valid[:, before])
        instrument = track.station.instrument
        t_ns = _onset_time_ns(track, onset, component)
        measures = measure(around, slot)
        motion = first_motion(around, slot) if phase == "P" and slot == 0 else None
        place = self.inventory.find(component.nslc, t_ns)
        seen_ns, rec_ns = _ends_ns(step, known)
        return Pick(
            id=pick_id(instrument, phase, t_ns, self._origin),
            rev=0,
            status="new",
            net=instrument.network,
            sta=instrument.station,
            loc=instrument.location,
            cha=component.nslc.channel,
            phase=phase,
            t_ns=t_ns,
            prob=onset.probability,
            model=self.provenance.model,
            model_sha=self.provenance.model_sha,
            cfg=self._cfg,
            agency=self.provenance.agency,
            author=self.provenance.author,
            data_ns=step.arrived_ns,
            made_ns=0,
            n_comp=int(valid[:, before].sum()),
            qual=_quality(track, valid, around, block - before, block + after + 1),
            lat=place.lat,
            lon=place.lon,
            elev=place.elev_m,
            t_unc=self._sigma_s(track, onset),
            snr=measures.snr,
            amp=place.ground(measures.amplitude),
            amp_unit=place.unit if measures.amplitude is not None else None,
            amp_per=measures.period_s,
            pol=motion and motion[0],
            pol_prob=motion and motion[1],
            seen_ns=seen_ns,
            rec_ns=rec_ns,
        )


def _ends_ns(step: Step, known: int) -> tuple[int, int]:
    """When the data end that a message stands on, up to sample `known`, and the newest record."""
    rate = step.track.station.rate
    assert rate is not None
    return sample_time_ns(known, step.track.rate), sample_time_ns(step.data_end, rate)


def _may_be_early(track: Track, onset: Onset) -> bool:
    """An S only behind a P, final or not."""
    if PHASES[onset.phase] == "P":
        return True
    p_at = [track.settled[0], *(known.index for known, _ in track.provisional if known.phase == 0)]
    return any(0 < onset.index - index < S_AFTER_P_SAMPLES for index in p_at)


def _revision(old: Pick, new: Pick, status: Status, *, final: int) -> Pick:
    """The next state of `old`, with what `new` knows."""
    return replace(new, id=old.id, rev=old.rev + 1, status=status, final=final)


def _onset_time_ns(track: Track, onset: Onset, component: Component) -> int:
    """UTC ns of the onset to the millisecond: finer than a sample, coarser than rounding errors."""
    whole = int(onset.index)
    time_ns = sample_time_ns(whole, track.rate)
    time_ns += round((onset.index - whole) * NS_PER_S / float(track.rate))
    if component.ring is not None:
        resampler = track.resampler
        time_ns += component.ring.offset_ns(whole * resampler.down // resampler.up)
    return round(time_ns / NS_PER_MS) * NS_PER_MS


def _reported_on(track: Track, phase: str, here: npt.NDArray[np.bool_]) -> tuple[int, Component]:
    """Slot and channel of the pick: the vertical for P, a horizontal for S, else what there is."""
    order = (0, 1, 2) if phase == "P" else (1, 2, 0)
    components = track.station.components
    for slot in order:
        component = components[slot]
        if here[slot] and component is not None:
            return slot, component
    raise AssertionError("an onset lies in a block that no component has")


def _quality(
    track: Track, valid: npt.NDArray[np.bool_], around: Excerpt, first_block: int, stop_block: int
) -> str | None:
    """Flags, of what the network looks at around the onset (blocks `first_block` to `stop_block`).

    `gap`: a component begins, ends or pauses. `interp`: samples were interpolated. `clip`: a
    component runs into its limit. `timing`: the clock is doubtful. `late`: samples came late, and
    this pick with them.
    """
    flags = {
        "gap": (valid.any(axis=1) & ~valid.all(axis=1)).any(),
        "interp": marked(track, Mark.INTERPOLATED, first_block, stop_block),
        "clip": is_clipped(around),
        "timing": marked(track, Mark.DOUBTFUL_TIME, first_block, stop_block),
        "late": track.late,
    }
    return ",".join(name for name, is_so in flags.items() if is_so) or None
