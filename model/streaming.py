"""The exact incremental form of MSNet: every sample of a station passes each layer once.

A window that slides by a second computes each of its samples sixty times. Here every station keeps
the ends of its feature maps, as far as the next outputs look back, and a step computes what is new.
The outputs are those of `MSNet.forward` on the whole trace with silence (zeros) around it,
`lag_samples` late: so far do the layers together look ahead.

    Shapes    B stations of one step, T = n x 100 samples, C channels; time before channels, so that
              a step is appended to what is kept by plain copies
    level     0     1     2     3          how far the end of a map is behind the end of the input,
    encoder   4    20   100   400          samples, for strides 4, 5, 5 and kernel 7: half a kernel,
    decoder 475   472   460                and whole cells of the next level where the way goes down

Most of the work is in the finer levels of the decoder, and nearly everywhere the coarsest of its
maps already shows that nothing will come of it. With a `Gate` the finer levels are computed only
where something may, from what is kept of the maps before them: a piece of one block needs a few
cells around it. Elsewhere the logits are -inf.

A preview is the plain forward of what has come so far, with the zero padding of the convolutions
beyond the end. All that its padding does not reach is there already.

The state of a station is one row of the arrays in `StreamingNetwork.layout`, 25 KB. It is a cache
and no record: it forgets what lies `memory_blocks` back, and after a restart it is built again from
replayed data, never read from a disk.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from model.gate import BEHIND_CELLS, Gate
from model.msnet import COMPONENTS, PHASES, MSNet, MSNetConfig
from model.stream_layers import Layer, convolution, head, patches, spread

STATE_VERSION = 3  # of the layout; a change of order, shape or meaning counts it up
PIECES_AT_ONCE = 64  # more gain nothing, and fall out of the caches of a processor
SILENCE = 0  # the row of a station that has been silent for ever: the state to begin with


class Tail:
    """The last cells of one feature map of all stations: `values` (rows, cells, C)."""

    def __init__(self, name: str, cells: int, channels: int) -> None:
        self.name = name
        self.values = torch.zeros(1, cells, channels)

    def append(self, rows: Tensor, new: Tensor) -> Tensor:
        """What is kept and (B, T, C) behind it; the end of both is kept for the next time."""
        both = torch.cat([self.values.index_select(0, rows), new], dim=1)
        self.values.index_copy_(0, rows, both[:, both.shape[1] - self.values.shape[1] :])
        return both


class DelayLine:
    """The last blocks of one feature map of all stations: `values` (rows, blocks, cells x C).

    For a map that is needed again much later. Block n has place n modulo `blocks`, so that a step
    moves what it writes and what it reads, and nothing else.
    """

    def __init__(self, name: str, blocks: int, cells: int, channels: int) -> None:
        self.name = name
        self.values = torch.zeros(1, blocks, cells * channels)
        self._channels = channels
        self._cells = cells

    def window(self, rows: Tensor, position: Tensor, new: Tensor, start: int, stop: int) -> Tensor:
        """Cells `start` to `stop` (B, stop - start, C), counted from the first one of `new`.

        new: (B, T, C), not yet kept; position: (B,) the number of its first block.
        """
        if start >= 0:
            return new[:, start:stop]
        first, last = start // self._cells, min(-(-stop // self._cells), 0)
        old = self.values.flatten(0, 1).index_select(0, self._places(rows, position, first, last))
        window = old.view(len(rows), -1, self._channels)
        if stop > 0:
            window = torch.cat([window, new[:, :stop]], dim=1)
        return window[:, start - first * self._cells :][:, : stop - start]

    def keep(self, rows: Tensor, position: Tensor, new: Tensor) -> None:
        """Put (B, T, C) in its places."""
        blocks = new.reshape(len(rows), -1, self.values.shape[2])
        count = blocks.shape[1]
        first = max(count - self.values.shape[1], 0)
        places = self._places(rows, position, first, count)
        self.values.flatten(0, 1).index_copy_(0, places, blocks[:, first:].flatten(0, 1))

    def _places(self, rows: Tensor, position: Tensor, first: int, last: int) -> Tensor:
        size = self.values.shape[1]
        places = (position[:, None] + torch.arange(first, last)) % size + rows[:, None] * size
        return places.flatten()


@dataclass(frozen=True)
class Delays:
    """How far the ends of the maps are behind the end of the input, samples, by level.

    cell: samples between the values of a map. encoded, decoded: of what leaves the convolution of
    the encoder and of the decoder.
    """

    cell: tuple[int, ...]
    encoded: tuple[int, ...]
    decoded: tuple[int, ...]

    @classmethod
    def of(cls, config: MSNetConfig) -> Self:
        """A convolution looks half a kernel ahead; a step down takes whole cells of its level."""
        half, cell = config.kernel // 2, np.cumprod([1, *config.strides]).tolist()
        encoded = [0]
        for fine, coarse in pairwise(cell):
            encoded.append(_round_up(encoded[-1] + half * fine, coarse))
        encoded.append(encoded[-1] + half * cell[-1])
        decoded = encoded[-1:]
        for samples in cell[-2::-1]:
            decoded.insert(0, decoded[0] + half * samples)
        return cls(tuple(cell), tuple(encoded[1:]), tuple(decoded))


@dataclass(frozen=True)
class Reach:
    """Which cells of the decoder's maps some outputs come from, relative to a border of blocks.

    By level, finest first: `lo` to `hi` of what leaves its convolution. `pads`: the end of the
    data is there, and zeros lie beyond. `half` a kernel.
    """

    lo: tuple[int, ...]
    hi: tuple[int, ...]
    half: int
    pads: bool = False

    @classmethod
    def of(cls, config: MSNetConfig, lo: int, hi: int, *, pads: bool = False) -> Self:
        """For outputs from sample `lo` to `hi`; down to the map that leaves the encoder."""
        half, los, his = config.kernel // 2, [lo], [hi]
        for stride in config.strides:
            los.append((los[-1] - half) // stride)
            his.append(his[-1] if pads else -(-(his[-1] + half) // stride))
        return cls(tuple(los), tuple(his), half, pads)

    def taken(self, level: int) -> tuple[int, int]:
        """Which cells its convolution takes."""
        return self.lo[level] - self.half, self.hi[level] + (0 if self.pads else self.half)


@dataclass(frozen=True)
class Step:
    """The maps of one step, (B, cells, C): `down` by level (from 1) with what is kept before them.

    `encoded` by level (from 1), `coarse` with what is kept before it.
    """

    rows: Tensor
    position: Tensor
    samples: Tensor
    down: list[Tensor]
    encoded: list[Tensor]
    coarse: Tensor

    def of(self, which: Tensor) -> tuple["Step", Tensor]:
        """Only the rows in `which` (K,), in order and some of them repeated; and `which` of these.

        What is looked for behind is gathered for a few rows then, not for all.
        """
        some, which = torch.unique_consecutive(which, return_inverse=True)
        if len(some) == len(self.rows):
            return self, which
        part = Step(
            self.rows[some],
            self.position[some],
            self.samples[some],
            [each[some] for each in self.down],
            [each[some] for each in self.encoded],
            self.coarse[some],
        )
        return part, which


class StreamingNetwork:
    """A pruned, folded MSNet and the state of all stations that it runs on.

    `lag_samples`: outputs end so many samples before the inputs. `memory_blocks`: after so many
    blocks nothing of an input is left. Rows are made by `grow`; row `SILENCE` is nobody's. With a
    `gate` the outputs are -inf where it sees nothing. Previews have `preview_blocks`.
    Raises ValueError for a network that is not folded.
    """

    def __init__(self, network: MSNet, gate: Gate | None = None, preview_blocks: int = 3) -> None:
        config, delays = network.config, Delays.of(network.config)
        half, cell, coarse = config.kernel // 2, delays.cell, len(config.strides) - 1
        self._per_block = [config.block_samples // samples for samples in cell]
        self.lag_samples = delays.decoded[0]
        self.memory_blocks = 2 * config.context_blocks
        self._block, self._half, self._coarse_level = config.block_samples, half, coarse
        self._gate = gate
        self._cell = config.block_samples // self._per_block[coarse]  # samples, of the gate
        self._preview_samples = preview_blocks * self._block
        self._piece = Reach.of(config, -self.lag_samples, self._block - self.lag_samples)
        self._preview = Reach.of(config, -self._preview_samples, 0, pads=True)
        # How many cells of the encoder's maps are not there yet at the end of the input.
        self._missing = [delay // size for delay, size in zip(delays.encoded, cell, strict=True)]
        # And how many of the map that leaves the decoder's coarsest level.
        self._coarse_missing = delays.decoded[coarse] // cell[coarse]
        # Of the coarsest, which nothing keeps, previews make as many as they take.
        self._made = [*self._missing[:-1], max(self._missing[-1], -self._preview.lo[-1])]
        self._down_missing = [0] + [a // b for a, b in zip(delays.encoded, cell[1:], strict=False)]
        self._make_state(config)

        encoder, decoder = network.encoder, network.decoder_a
        self._stem = convolution(encoder.stem)
        self._down = [patches(layer) for layer in encoder.down]
        self._encode = [convolution(layer) for layer in encoder.block]
        self._up = [spread(layer) for layer in decoder.up][::-1]  # by level
        self._decode = [convolution(layer) for layer in decoder.block][::-1]
        self._head = head(decoder.head)
        for _ in range(2):  # all that is left of the zeros in the buffers is gone after the second
            silence = torch.zeros(1, self.memory_blocks * self._block, len(COMPONENTS))
            self.advance(torch.tensor([SILENCE]), silence)

    def _make_state(self, config: MSNetConfig) -> None:
        half, coarse, channels = self._half, self._coarse_level, config.channels
        # The map of the finest level is not kept but computed twice: its input is a fifth of it.
        oldest = self._half - self._piece.taken(0)[0]
        self._input = DelayLine("input", -(-oldest // self._block), self._block, len(COMPONENTS))
        self._encoded = [
            Tail(f"encoder{n}", self._made[n] + half - self._down_missing[n], channels[n])
            for n in range(1, coarse + 2)
        ]
        self._skips = [
            DelayLine(f"skip{n}", self._blocks_kept(n), self._per_block[n], channels[n])
            for n in range(1, coarse + 1)
        ]
        self._decoded = Tail(f"decoder{coarse}", 2 * half, 2 * channels[coarse])
        # The first piece of a step takes cells before those that are new, and so does its gate.
        first = -self.lag_samples // self._cell - BEHIND_CELLS - 1
        self._before = -self._coarse_missing - min(self._piece.lo[coarse], first)
        self._coarse = Tail("coarse", self._before, channels[coarse])
        self._position = torch.zeros(1, dtype=torch.int64)  # number of the next block

    def _blocks_kept(self, level: int) -> int:
        """How far back from a new block the encoder's map at `level` is asked for."""
        per_block, coarse = self._per_block[level], level == self._coarse_level
        cells = -self._missing[-1] * self._stride(level) if coarse else self._piece.taken(level)[0]
        first = min(cells, self._preview.taken(level)[0] + per_block) + self._missing[level]
        return -(first // per_block)

    @property
    def layout(self) -> dict[str, tuple[int, ...]]:
        """The arrays of the state, float32, and their shapes for one station."""
        return {buffer.name: tuple(buffer.values.shape[1:]) for buffer in self._buffers}

    @property
    def _buffers(self) -> list[Tail | DelayLine]:
        return [self._input, *self._encoded, *self._skips, self._decoded, self._coarse]

    def grow(self, rows: int) -> None:
        """Have at least so many rows; new ones are silent."""
        missing = rows - len(self._position)
        if missing > 0:
            for buffer in self._buffers:
                silent = buffer.values[SILENCE].expand(missing, *buffer.values.shape[1:])
                buffer.values = torch.cat([buffer.values, silent])
            self._position = torch.cat([self._position, self._position[SILENCE].expand(missing)])

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Give the rows `target` the state of the rows `source`."""
        for buffer in self._buffers:
            buffer.values[target] = buffer.values[source]
        self._position[target] = self._position[source]

    def advance(
        self, rows: Tensor, samples: Tensor, previews: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Continue some rows, (B,) and different, by whole blocks (B, T, 3) of normalised samples.

        previews: (K, 2), at the ends of which blocks previews are wanted: which of the rows, and
        which of its new blocks. Returns the logits (2, B, T) of P and S for the T samples that end
        `lag_samples` before the end of the input, and those of the previews, (2, K, samples).
        """
        step = self._take(rows, samples)
        logits = self._outputs(step)
        previewed = logits.new_full((len(PHASES), 0, self._preview_samples), -torch.inf)
        if previews is not None and len(previews):
            parts = [self._previews(step, part) for part in _parts_of(previews)]
            previewed = torch.cat([previewed, *parts], dim=1)
        self._input.keep(rows, step.position, samples)
        for line, new in zip(self._skips, step.encoded[:-1], strict=True):
            line.keep(rows, step.position, new)
        self._position[rows] = step.position + samples.shape[1] // self._block
        return logits, previewed

    def _take(self, rows: Tensor, samples: Tensor) -> Step:
        """All maps of a step down to the coarsest of the decoder; their ends are kept."""
        coarse, half, length = self._coarse_level, self._half, samples.shape[1]
        step = Step(rows, self._position[rows], samples, [], [], samples)
        x = self._skip(step, 0, -self._missing[0], length - self._missing[0])
        for n, (down, tail, encode) in enumerate(
            zip(self._down, self._encoded, self._encode, strict=True), 1
        ):
            x = down(x)
            step.down.append(tail.append(rows, x))
            first = self._made[n] - self._missing[n]
            x = encode(step.down[-1][:, first : first + x.shape[1] + 2 * half])
            step.encoded.append(x)
        x = self._up[coarse](x)
        first = -self._missing[-1] * self._stride(coarse)
        skip = self._skip(step, coarse, first, first + x.shape[1])
        x = self._decode[coarse](self._decoded.append(rows, torch.cat([skip, x], dim=2)))
        return replace(step, coarse=self._coarse.append(rows, x))

    def _stride(self, level: int) -> int:
        """Cells of a level in one of the next coarser."""
        return self._per_block[level] // self._per_block[level + 1]

    def _skip(self, step: Step, level: int, first: int, stop: int) -> Tensor:
        """Cells of the encoder's map at `level`, counted from the beginning of the step."""
        if level == 0:
            around = first - self._half, stop + self._half
            return self._stem(self._input.window(step.rows, step.position, step.samples, *around))
        known, line = self._missing[level], self._skips[level - 1]
        new = step.encoded[level - 1]
        return line.window(step.rows, step.position, new, first + known, stop + known)

    def _outputs(self, step: Step) -> Tensor:
        """Logits (2, B, T): those of the pieces in which the gate sees something."""
        count, length = step.samples.shape[:2]
        pieces = length // self._block
        if self._gate is None:
            seen, wanted = None, torch.ones(count, pieces, dtype=torch.bool)
        else:
            seen = self._seen(step, self._gate)
            wanted = seen.view(count, pieces, self._block).any(dim=2)
        logits = step.samples.new_full((len(PHASES), count, pieces, self._block), -torch.inf)
        for which, place in (part.unbind(1) for part in _parts_of(wanted.nonzero())):
            logits[:, which, place] = self._pieces(step, which, place)
        logits = logits.view(len(PHASES), count, length)
        return logits if seen is None else logits.masked_fill_(~seen, -torch.inf)

    def _seen(self, step: Step, gate: Gate) -> Tensor:
        """For which samples the gate lets something through: bool (B, T)."""
        cells = gate.open(step.coarse)
        seen = cells[:, BEHIND_CELLS:].clone()
        for behind in range(BEHIND_CELLS):
            seen |= cells[:, behind : behind + seen.shape[1]]
        begin = self._coarse_missing + self._before - BEHIND_CELLS - 1
        samples = torch.arange(-self.lag_samples, step.samples.shape[1] - self.lag_samples)
        return seen[:, samples.div(self._cell, rounding_mode="floor") + begin]

    def _pieces(self, step: Step, which: Tensor, place: Tensor) -> Tensor:
        """Logits (2, K, 100) of some pieces: of which rows, and of which of their new blocks."""
        step, which = step.of(which)
        begin = self._coarse_missing + self._before
        lo, hi = self._piece.lo[self._coarse_level], self._piece.hi[self._coarse_level]
        x = self._cut(step.coarse[:, begin + lo :], hi - lo, self._coarse_level, which, place)
        for level in reversed(range(self._coarse_level)):
            lo, hi = self._piece.taken(level)
            skip = self._skips_at(step, level, lo, hi, which, place)
            x = self._decoded_at(
                level, skip, x, lo - self._piece.lo[level + 1] * self._stride(level)
            )
        return self._head(x)

    def _skips_at(
        self, step: Step, level: int, lo: int, hi: int, which: Tensor, place: Tensor
    ) -> Tensor:
        """(K, hi - lo, C) of the encoder's map at `level`: see `_cut`."""
        if level == 0:
            inputs = self._inputs_at(step, lo - self._half, hi + self._half, which, place)
            return self._stem(inputs)
        first, last, place = _from_first(place)
        per_block = self._per_block[level]
        around = self._skip(step, level, lo + first * per_block, hi + last * per_block)
        return self._cut(around, hi - lo, level, which, place)

    def _inputs_at(self, step: Step, lo: int, hi: int, which: Tensor, place: Tensor) -> Tensor:
        """(K, hi - lo, 3) of the samples: see `_cut`."""
        first, last, place = _from_first(place)
        around = self._input.window(
            step.rows,
            step.position,
            step.samples,
            lo + first * self._block,
            hi + last * self._block,
        )
        return self._cut(around, hi - lo, 0, which, place)

    def _cut(self, x: Tensor, cells: int, level: int, which: Tensor, place: Tensor) -> Tensor:
        """(K, cells, C): what lies `place` blocks behind the beginning of x (B, T, C)."""
        windows = x.unfold(1, cells, self._per_block[level])
        return windows.transpose(2, 3)[which, place]

    def _decoded_at(self, level: int, skip: Tensor, x: Tensor, first: int) -> Tensor:
        """The decoder at a finer level: `x` of the coarser one begins `first` cells before."""
        x = self._up[level](x)[:, first : first + skip.shape[1]]
        return self._decode[level](torch.cat([skip, x], dim=2))

    def _previews(self, step: Step, wanted: Tensor) -> Tensor:
        """Logits (2, K, samples) of the newest blocks at the end of some: see `advance`."""
        which, place = wanted.unbind(dim=1)
        step, which = step.of(which)
        maps = self._maps_at_end(step, which, place)
        x, preview = maps[-1][:, self._preview.lo[-1] :], self._preview
        logits = x.new_full((len(PHASES), len(x), self._preview_samples), -torch.inf)
        some = torch.arange(len(x))
        for level in reversed(range(self._coarse_level + 1)):
            first = preview.taken(level)[0]
            skip = self._skip_at_end(step, maps, level, -first, which, place)
            x = torch.cat([skip, self._up[level](x)[:, first:]], dim=2)
            x = self._decode[level](nn.functional.pad(x, (0, 0, 0, self._half)))
            if level == self._coarse_level and self._gate is not None:
                seen = self._gate.open(x).any(dim=1)
                some, x, which, place = some[seen], x[seen], which[seen], place[seen]
                maps = [each[seen] for each in maps]
                if not len(some):
                    return logits
        logits[:, some] = self._head(x)
        return logits

    def _maps_at_end(self, step: Step, which: Tensor, place: Tensor) -> list[Tensor]:
        """The last cells of all maps of the encoder with zeros beyond the end: (K, cells, C)."""

        def encode(layer: Layer, x: Tensor) -> Tensor:
            return layer(nn.functional.pad(x, (0, 0, 0, self._half)))

        first = min(self._preview.taken(0)[0], -self._made[0])
        lo = first - self._half + self._block
        x = self._inputs_at(step, lo, self._block, which, place)
        maps = [encode(self._stem, x)]
        for n, (down, layer) in enumerate(zip(self._down, self._encode, strict=True), 1):
            new = self._down_missing[n] * self._stride(n - 1)
            kept = self._encoded[n - 1].values.shape[1]
            known = self._cut(step.down[n - 1], kept, n, which, place + 1)
            maps.append(encode(layer, torch.cat([known, down(maps[-1][:, -new:])], dim=1)))
        return maps

    def _skip_at_end(
        self, step: Step, maps: list[Tensor], level: int, cells: int, which: Tensor, place: Tensor
    ) -> Tensor:
        """The last cells of the encoder's map at `level`: those kept, and those of `maps`."""
        new = maps[level][:, -cells:]
        known = cells - new.shape[1]
        if known == 0:
            return new
        per_block = self._per_block[level]
        end = per_block - self._missing[level]  # of what is kept, at the first border
        kept = self._skips_at(step, level, end - known, end, which, place)
        return torch.cat([kept, new], dim=1)


def _parts_of(wanted: Tensor) -> Iterator[Tensor]:
    """(K, 2) in parts that fit the caches; none of nothing."""
    for first in range(0, len(wanted), PIECES_AT_ONCE):
        yield wanted[first : first + PIECES_AT_ONCE]


def _from_first(place: Tensor) -> tuple[int, int, Tensor]:
    """The first and the last of some places, and all of them counted from the first."""
    first, last = (int(each) for each in place.aminmax())
    return first, last, place - first


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step
