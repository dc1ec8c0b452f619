"""A network of any size, copied from real recordings, as the packets its digitisers would send.

    read_loops   recordings -> stretches of three components at 100 Hz that can be repeated for ever
    Network      loops -> the SeedLink v3 packets of all stations that are due in a span of time

Samples are encoded once. A copy differs from its loop in the station code and the start time, which
are patched into the header, and in where in the loop it began.
"""

import struct
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamer.errors import DataError
from streamer.seedid import Instrument, Nslc
from streamer.seedlink.info import StationInfo, StreamInfo
from streamer.timebase import NS_PER_S
from streamer.waveforms.records import Record, decode_header, encode
from streamer.waveforms.stations import SLOT_COUNT, SLOTS

RATE = Fraction(100)
NETWORK, CHANNELS = "XX", ("HHZ", "HHN", "HHE")  # XX is the FDSN's code for test data

# Long enough that a loop holds an earthquake and quiet; so many loops that no two neighbours in a
# batch are alike, and an archive of any size is read in seconds.
LOOP_S, LEAST_LOOP_S, MOST_LOOPS = 180, 30, 16
FADE_S = 2  # over which the end of a loop turns into its beginning

GOLDEN = (5**0.5 - 1) / 2  # multiples of it, modulo one, fill the unit interval evenly
OFFSET_S = 37  # between the places in their loops at which neighbouring copies begin

# Fields of a miniSEED 2 header that a copy does not share with its loop (SEED manual, chapter 8):
# station code, then year, day of year, hour, minute and second of the first sample.
_STATION = slice(8, 13)
_SECOND = slice(20, 27)
_BTIME = struct.Struct(">HHBBB")

Loop = npt.NDArray[np.int32]  # (3, whole seconds x 100), components Z N E


def read_loops(records: Iterable[Record], rate: Fraction = RATE) -> list[Loop]:
    """Loops (3, whole seconds x `rate`) int32 of the instruments in `records`, at most MOST_LOOPS.

    Other sampling rates are resampled, and a missing component is a copy of one that is there: it
    is load, not science. Reads no further than needed. Raises DataError if no instrument has
    LEAST_LOOP_S without a gap.
    """
    held: dict[Instrument, dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
    full: dict[Instrument, int] = defaultdict(int)
    for record in records:
        slot = SLOTS.get(record.nslc.component)
        if slot is None:
            continue
        channel = held[record.nslc.instrument][slot]
        before_s = _seconds(channel)
        if before_s < 2 * LOOP_S:  # some to choose from
            channel.append(record)
            full[record.nslc.instrument] += before_s + _seconds([record]) >= 2 * LOOP_S
        if sum(count == SLOT_COUNT for count in full.values()) >= MOST_LOOPS:
            break
    loops = [_loop([_longest_run(found) for found in slots.values()], rate)
             for _, slots in sorted(held.items())]  # fmt: skip
    usable = [loop for loop in loops if loop is not None]
    if not usable:
        raise DataError(
            f"none of {len(loops)} instruments has {LEAST_LOOP_S} s of all its components without"
            " a gap: give longer recordings"
        )
    return usable[:MOST_LOOPS]


def _seconds(records: Sequence[Record]) -> float:
    return float(sum(len(record.samples) / record.rate for record in records))


def _longest_run(records: list[Record]) -> Record:
    """The longest stretch of records of one channel that continue each other, as one record."""
    ordered = sorted(records, key=lambda record: record.start_ns)
    runs = [[ordered[0]]]
    for last, record in pairwise(ordered):
        sample_ns = float(NS_PER_S / record.rate)
        follows = abs(record.start_ns - last.end_ns) < sample_ns / 2 and record.rate == last.rate
        runs.append([record]) if not follows else runs[-1].append(record)
    longest = max(runs, key=_seconds)
    samples = np.concatenate([record.samples for record in longest])
    return Record(longest[0].nslc, longest[0].start_ns, longest[0].rate, samples)


def _loop(channels: list[Record], rate: Fraction) -> Loop | None:
    """What the channels of an instrument have in common, its end faded into its beginning."""
    start_ns = max(channel.start_ns for channel in channels)
    end_ns = min(channel.end_ns for channel in channels)
    seconds = min((end_ns - start_ns) // NS_PER_S - FADE_S, LOOP_S)
    if seconds < LEAST_LOOP_S:
        return None
    found = {}
    for channel in channels:
        first = round((start_ns - channel.start_ns) * channel.rate / NS_PER_S)
        count = round((seconds + FADE_S) * channel.rate)
        samples = channel.samples[first : first + count].astype(np.float64)
        found[SLOTS[channel.nslc.component]] = _resampled(samples, channel.rate, rate)
    any_slot = min(found)
    trace = np.stack([found.get(slot, found[any_slot]) for slot in range(SLOT_COUNT)])
    length, fade = int(seconds * rate), int(FADE_S * rate)
    weight = np.arange(fade) / fade
    trace[:, :fade] = weight * trace[:, :fade] + (1 - weight) * trace[:, length : length + fade]
    return np.rint(trace[:, :length]).astype(np.int32)


def _resampled(
    samples: npt.NDArray[np.float64], rate: Fraction, wanted: Fraction
) -> npt.NDArray[np.float64]:
    """(n,) at `rate` -> (n x wanted / rate,), the mean kept apart so that no edge rings."""
    if rate == wanted:
        return samples
    from scipy import signal

    ratio, mean = wanted / rate, samples.mean()
    resampled = signal.resample_poly(samples - mean, ratio.numerator, ratio.denominator)
    return resampled + mean  # type: ignore[no-any-return]


def save_loops(loops: Sequence[Loop], path: Path) -> None:
    """Write them for the process that sends them."""
    np.savez(path, *loops)


def load_loops(path: Path) -> list[Loop]:
    """What `save_loops` wrote."""
    with np.load(path) as held:
        return [held[name] for name in held.files]


@dataclass(frozen=True, slots=True)
class Template:
    """One encoded record of a loop without its station code and whole second.

    It begins in second `start_s` of the loop and is complete in second `due_s`.
    """

    start_s: int
    due_s: int
    samples: int
    head: bytes
    codes: bytes
    rest: bytes


class Network:
    """`stations` copies of the loops, each sending records of `record_s` seconds.

    A station sends what is complete once a second, at its own moment within the first `spread_s`.
    Stations are numbered by that moment. Raises ValueError unless all arguments are positive.
    """

    def __init__(
        self, loops: Sequence[Loop], stations: int, record_s: float = 1.0, spread_s: float = 1.0
    ) -> None:
        if not (loops and stations > 0 and record_s > 0 and spread_s > 0):
            raise ValueError("a network needs loops, stations, a record length and a spread")
        self.stations = stations
        self.moments_s = sorted(n * GOLDEN % 1 * spread_s for n in range(stations))
        self._codes = [f"S{n:04d}".encode("ascii") for n in range(stations)]
        self._lengths_s = [loop.shape[1] // int(RATE) for loop in loops]
        self._due = [_by_second(loop, record_s) for loop in loops]

    @property
    def station_ids(self) -> list[str]:
        """All `NET_STA`."""
        return [f"{NETWORK}_{code.decode()}" for code in self._codes]

    def info(self, now_ns: int) -> list[StationInfo]:
        """What INFO STREAMS tells of all stations."""
        return [
            StationInfo(NETWORK, code.decode(), 0, 0, [
                StreamInfo(Nslc(NETWORK, code.decode(), "", channel), now_ns, now_ns)
                for channel in CHANNELS
            ])
            for code in self._codes
        ]  # fmt: skip

    def between(self, first_s: float, stop_s: float) -> range:
        """Stations whose moment lies in this half-open part of the second."""
        return range(bisect_left(self.moments_s, first_s), bisect_left(self.moments_s, stop_s))

    def packets(self, second: int, stations: range, sequence: int) -> tuple[list[bytes], int]:
        """The packets these stations send in a UTC second, numbered from `sequence`; samples.

        What they hold was recorded before that second.
        """
        packets: list[bytes] = []
        samples = 0
        for station in stations:
            loop = station % len(self._due)
            length_s = self._lengths_s[loop]
            position = (second + OFFSET_S * station) % length_s
            for template in self._due[loop][position]:
                began = _btime(second - (template.due_s - template.start_s))
                packets.append(
                    b"SL%06X%b%b%b%b%b"
                    % (
                        (sequence + len(packets)) & 0xFFFFFF,
                        template.head, self._codes[station], template.codes, began, template.rest,
                    )
                )  # fmt: skip
                samples += template.samples
        return packets, samples


def _by_second(loop: Loop, record_s: float) -> list[list[Template]]:
    """For each second of a loop, the records that are complete then and not one second earlier."""
    length_s = loop.shape[1] // int(RATE)
    due: list[list[Template]] = [[] for _ in range(length_s)]
    step = max(round(record_s * RATE), 1)
    for channel, trace in zip(CHANNELS, loop, strict=True):
        for first in range(0, len(trace), step):
            start_ns = int(first * NS_PER_S / RATE)
            nslc = Nslc(NETWORK, "S0000", "", channel)
            for data in encode(Record(nslc, start_ns, RATE, trace[first : first + step])):
                template = _template(data)
                due[template.due_s % length_s].append(template)
    return due


def _template(data: bytes) -> Template:
    _, start_ns, end_ns = decode_header(data)
    return Template(
        start_s=start_ns // NS_PER_S,
        due_s=-(-end_ns // NS_PER_S),
        samples=round((end_ns - start_ns) * RATE / NS_PER_S),
        head=data[: _STATION.start],
        codes=data[_STATION.stop : _SECOND.start],
        rest=data[_SECOND.stop :],
    )


@lru_cache(maxsize=1024)
def _btime(second: int) -> bytes:
    moment = datetime.fromtimestamp(second, UTC)
    day = moment.timetuple().tm_yday
    return _BTIME.pack(moment.year, day, moment.hour, moment.minute, moment.second)
