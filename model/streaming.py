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

The state of a station is one row of the arrays in `StreamingNetwork.layout`, 43 KB. It is a cache
and no record: it forgets what lies `memory_blocks` back, and after a restart it is built again from
replayed data, never read from a disk.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from model.msnet import COMPONENTS, Block, MSNet, MSNetConfig

STATE_VERSION = 1  # of the layout; a change of order, shape or meaning counts it up
SILENCE = 0  # the row of a station that has been silent for ever: the state to begin with

Layer = Callable[[Tensor], Tensor]


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


class StreamingNetwork:
    """A pruned, folded MSNet and the state of all stations that it runs on.

    `lag_samples`: outputs end so many samples before the inputs. `memory_blocks`: after so many
    blocks nothing of an input is left. Rows are made by `grow`; row `SILENCE` is nobody's.
    Raises ValueError for a network that is not folded.
    """

    def __init__(self, network: MSNet) -> None:
        config, delays = network.config, Delays.of(network.config)
        half, levels, channels = config.kernel // 2, len(config.strides), config.channels
        cell = delays.cell
        per_block = [config.block_samples // samples for samples in cell]
        self.lag_samples = delays.decoded[0]
        self.memory_blocks = 2 * config.context_blocks
        self._block, self._half = config.block_samples, half

        # The map of the finest level is not kept but computed twice: its input is a fifth of it.
        self._stem_delays = delays.encoded[0], delays.decoded[1]
        self._input = DelayLine("input", self.memory_blocks, per_block[0], len(COMPONENTS))
        self._encoded = [
            Tail(
                f"encoder{n}",
                (delays.encoded[n] - delays.encoded[n - 1]) // cell[n] + half,
                channels[n],
            )
            for n in range(1, levels + 1)
        ]
        self._skip_delays = [
            (delays.decoded[n + 1] - delays.encoded[n]) // cell[n] for n in range(levels)[:0:-1]
        ]
        self._skips = [
            DelayLine(f"skip{n}", -(-delay // per_block[n]), per_block[n], channels[n])
            for n, delay in zip(range(levels)[:0:-1], self._skip_delays, strict=True)
        ]
        self._decoded = [
            Tail(f"decoder{n}", 2 * half, 2 * channels[n]) for n in range(levels)[::-1]
        ]
        self._position = torch.zeros(1, dtype=torch.int64)  # number of the next block

        encoder, decoder = network.encoder, network.decoder_a
        self._stem = _convolution(encoder.stem)
        self._down = [_patches(layer) for layer in encoder.down]
        self._encode = [_convolution(layer) for layer in encoder.block]
        self._up = [_spread(layer) for layer in decoder.up]
        self._decode = [_convolution(layer) for layer in decoder.block]
        self._head = _head(decoder.head)
        for _ in range(2):  # all that is left of the zeros in the buffers is gone after the second
            silence = torch.zeros(1, self.memory_blocks * self._block, len(COMPONENTS))
            self.advance(torch.tensor([SILENCE]), silence)

    @property
    def layout(self) -> dict[str, tuple[int, ...]]:
        """The arrays of the state, float32, and their shapes for one station."""
        return {buffer.name: tuple(buffer.values.shape[1:]) for buffer in self._buffers}

    @property
    def _buffers(self) -> list[Tail | DelayLine]:
        return [self._input, *self._encoded, *self._skips, *self._decoded]

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

    def recent(self, rows: Tensor, blocks: int) -> Tensor:
        """The last blocks of input of some rows, at most `memory_blocks`: (B, T, 3)."""
        nothing = torch.empty(len(rows), 0, len(COMPONENTS))
        return self._input.window(rows, self._position[rows], nothing, -blocks * self._block, 0)

    def preview(self, windows: Tensor, blocks: int) -> Tensor:
        """Logits (2, B, blocks x 100) at the ends of windows (B, T, 3): `MSNet.forward` of these.

        Beyond the end there is its zero padding; no row is touched. Only what is wanted is decoded,
        and one block more, in which the convolutions lack what lies before.
        """

        def pad(x: Tensor) -> Tensor:
            return nn.functional.pad(x, (0, 0, self._half, self._half))

        maps = [self._stem(pad(windows))]
        for down, encode in zip(self._down, self._encode, strict=True):
            maps.append(encode(pad(down(maps[-1]))))
        x = maps[-1][:, -blocks - 1 :]
        for up, decode, skip in zip(self._up, self._decode, maps[-2::-1], strict=True):
            x = up(x)
            x = decode(pad(torch.cat([skip[:, -x.shape[1] :], x], dim=2)))
        return self._head(x[:, -blocks * self._block :])

    def advance(self, rows: Tensor, samples: Tensor) -> Tensor:
        """Continue some rows, (B,) and different, by whole blocks (B, T, 3) of normalised samples.

        Returns logits (2, B, T) of P and S, for the T samples that end `lag_samples` before the end
        of the input.
        """
        position, length, half = self._position[rows], samples.shape[1], self._half
        x, finest = (
            self._stem(
                self._input.window(rows, position, samples, -delay - half, length - delay + half)
            )
            for delay in self._stem_delays
        )
        self._input.keep(rows, position, samples)
        maps = []
        for down, tail, encode in zip(self._down, self._encoded, self._encode, strict=True):
            x = down(x)
            x = encode(tail.append(rows, x)[:, : x.shape[1] + 2 * half])
            maps.append(x)
        skips = []
        for line, delay, new in zip(self._skips, self._skip_delays, maps[-2::-1], strict=True):
            skips.append(line.window(rows, position, new, -delay, new.shape[1] - delay))
            line.keep(rows, position, new)
        for up, tail, decode, skip in zip(
            self._up, self._decoded, self._decode, [*skips, finest], strict=True
        ):
            x = decode(tail.append(rows, torch.cat([skip, up(x)], dim=2)))
        self._position[rows] = position + length // self._block
        return self._head(x)


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def _parts(layer: nn.Module) -> tuple[nn.Conv1d | nn.ConvTranspose1d, Layer]:
    """The convolution of a layer, and what follows it. Raises ValueError unless it is folded."""
    if isinstance(layer, Block):
        if not isinstance(layer.norm, nn.Identity):
            raise ValueError("the network of a stream must be folded: MSNet.fold()")
        return layer.conv, layer.activation
    if not isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
        raise TypeError(f"{type(layer).__name__} is no layer of MSNet")
    return layer, lambda x: x


def _convolution(layer: nn.Module) -> Layer:
    """(B, T + kernel - 1, C) -> (B, T, C')."""
    conv, activation = _parts(layer)
    bias, kernel = conv.bias, conv.kernel_size[0]
    product = conv.weight.permute(2, 1, 0).flatten(0, 1).contiguous()
    # An image of one row with its channels last is the fastest form of these convolutions.
    weight = conv.weight[:, :, None].contiguous(memory_format=torch.channels_last)

    def apply(x: Tensor) -> Tensor:
        if x.shape[1] == kernel:  # one output a station
            return activation(_affine(x.reshape(len(x), 1, -1), product, bias))
        image = x[:, None].permute(0, 3, 1, 2)
        y = nn.functional.conv2d(image, weight, bias)
        return activation(y.permute(0, 2, 3, 1)[:, 0])

    return apply


def _patches(layer: nn.Module) -> Layer:
    """A step down: (B, T, C) -> (B, T / stride, C'), patch by patch."""
    conv, activation = _parts(layer)
    bias, stride = conv.bias, conv.stride[0]
    weight = conv.weight.permute(2, 1, 0).flatten(0, 1).contiguous()
    return lambda x: activation(_affine(x.reshape(len(x), x.shape[1] // stride, -1), weight, bias))


def _spread(layer: nn.Module) -> Layer:
    """A step up: (B, T, C) -> (B, T x stride, C')."""
    conv, activation = _parts(layer)
    stride = conv.stride[0]
    weight = conv.weight.permute(0, 2, 1).flatten(1).contiguous()
    bias = None if conv.bias is None else conv.bias.repeat(stride)
    return lambda x: activation(_affine(x, weight, bias).view(len(x), x.shape[1] * stride, -1))


def _head(conv: nn.Conv1d) -> Layer:
    """(B, T, C) -> (C', B, T): with so few outputs, far faster than outputs last."""
    weight = conv.weight[:, :, 0].contiguous()
    bias = torch.zeros(len(weight), 1) if conv.bias is None else conv.bias[:, None]
    return lambda x: (weight @ x.flatten(0, 1).t()).add_(bias).view(-1, *x.shape[:2])


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    flat = x.reshape(-1, weight.shape[0])
    y = flat @ weight if bias is None else torch.addmm(bias, flat, weight)
    return y.view(*x.shape[:2], -1)
