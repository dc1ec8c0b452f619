"""The stream form of the network: what it keeps of a station, and which networks it takes."""

import numpy as np
import pytest
import torch
from torch import nn

from model.artifact import load
from model.gate import Gate, GateConfig
from model.msnet import MSNet, MSNetConfig
from model.streaming import STATE_VERSION, StreamingNetwork

FLOAT_BYTES = 4


@pytest.fixture(scope="module")
def shipped() -> StreamingNetwork:
    return StreamingNetwork(load().model)


def test_the_state_of_a_station_is_what_is_documented_and_small(shipped):
    """A change of this table is another version of the state."""
    assert STATE_VERSION == 3
    assert shipped.layout == {
        "input": (5, 300),
        "encoder1": (7, 24),
        "encoder2": (7, 32),
        "encoder3": (6, 64),
        "skip1": (5, 600),
        "skip2": (3, 160),
        "decoder2": (6, 64),
        "coarse": (4, 32),
    }
    size = sum(torch.Size(shape).numel() for shape in shipped.layout.values()) * FLOAT_BYTES
    assert 24_000 < size < 26_000


def test_outputs_come_as_late_as_the_layers_look_ahead(shipped):
    """And whole blocks behind the context that is counted for a window."""
    config = load().model.config
    assert shipped.lag_samples == 475
    assert (config.context_blocks - 1) * 100 < shipped.lag_samples <= config.context_blocks * 100
    assert shipped.memory_blocks == 2 * config.context_blocks


def test_the_state_does_not_grow_with_what_passes_through(shipped):
    shipped.grow(3)
    layout = shipped.layout
    for blocks in (1, 60, 7):
        shipped.advance(torch.tensor([1, 2]), torch.randn(2, blocks * 100, 3))
        assert shipped.layout == layout


def test_silence_goes_on_being_the_answer_to_silence(shipped):
    """A row that nobody has used is that of a station that was always silent."""
    shipped.grow(6)
    first, _ = shipped.advance(torch.tensor([5]), torch.zeros(1, 100, 3))
    later, _ = shipped.advance(torch.tensor([5]), torch.zeros(1, 6000, 3))
    torch.testing.assert_close(later[..., -100:], first, rtol=0, atol=1e-5)


@pytest.mark.parametrize("style", ["convnext", "classic"])
def test_a_network_that_is_not_folded_is_refused(style):
    """Its norms would be those of training."""
    network = MSNet(MSNetConfig(channels=(4, 6, 8, 10), style=style), pruned=True).eval()
    with pytest.raises(ValueError, match="folded"):
        StreamingNetwork(network)


def scores(network: MSNet, x: torch.Tensor, gate: Gate) -> np.ndarray:
    """Of the cells of a whole trace (T, 3) with silence around it: (T / 20,)."""
    edge = 10 * network.config.block_samples
    levels = network.encoder(nn.functional.pad(x.t(), (edge, edge))[None])
    decoder = network.decoder_a
    coarse = decoder.block[0](torch.cat([levels[-2], decoder.up[0](levels[-1])], dim=1))
    return gate(coarse[0, :, 49:-50].t()).numpy()


@torch.inference_mode()
def test_with_a_gate_outputs_are_those_without_or_nothing():
    """Nothing where neither the cell nor one of the two before it is open; in steps of any size."""
    torch.manual_seed(3)
    network = MSNet(MSNetConfig(channels=(4, 6, 8, 10)), pruned=True).fold()
    x = torch.randn(6000, 3)
    gate = Gate(8, GateConfig(floors=((0.1, 0.0),)))
    found = scores(network, x, gate)
    gate.floor = float(np.quantile(found, 0.9))
    opened = found >= gate.floor
    expected = (opened | np.r_[False, opened[:-1]] | np.r_[False, False, opened[:-2]]).repeat(20)
    open_, whole = StreamingNetwork(network, gate), StreamingNetwork(network)
    for stream in (open_, whole):
        stream.grow(2)
    got, plain, first = [], [], 0
    for size in (1, 1, 7, 1, 20, 1, 1, 28):
        step = x[None, first : first + size * 100]
        got.append(open_.advance(torch.tensor([1]), step)[0][:, 0])
        plain.append(whole.advance(torch.tensor([1]), step)[0][:, 0])
        first += size * 100
    got, plain = (torch.cat(each, dim=1)[:, open_.lag_samples :] for each in (got, plain))
    seen = torch.from_numpy(expected[: got.shape[1]])
    assert 0.1 < seen.float().mean() < 0.6
    assert torch.isneginf(got[:, ~seen]).all()
    torch.testing.assert_close(got[:, seen], plain[:, seen], rtol=0, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize(("floor", "shown"), [(-1e9, True), (1e9, False)])
def test_a_preview_in_which_the_gate_sees_nothing_shows_nothing(floor, shown):
    network = MSNet(MSNetConfig(channels=(4, 6, 8, 10)), pruned=True).fold()
    stream = StreamingNetwork(network, Gate(8, GateConfig(floors=((0.1, floor),))))
    stream.grow(3)
    wanted = torch.tensor([[0, 4], [1, 0]])
    _, preview = stream.advance(torch.tensor([1, 2]), torch.randn(2, 500, 3), wanted)
    assert torch.isneginf(preview).all() != shown
    assert torch.isfinite(preview).all() == shown


@torch.inference_mode()
def test_blocks_far_into_a_long_step_are_decoded_as_in_steps_of_one():
    """Their maps are cut out of those of the step alone; those of its first blocks are not."""
    torch.manual_seed(5)
    network = MSNet(MSNetConfig(channels=(4, 6, 8, 10)), pruned=True).fold()
    long, short = StreamingNetwork(network), StreamingNetwork(network)
    for stream in (long, short):
        stream.grow(2)
    row, x = torch.tensor([1]), torch.randn(1, 90 * 100, 3)
    for at in (2, 60, 85):
        _, preview = long.advance(row, x, torch.tensor([[0, at]]))
        long.copy(torch.tensor([0]), row)
        for block in range(at + 1):
            step = x[:, block * 100 : (block + 1) * 100]
            _, expected = short.advance(row, step, torch.tensor([[0, 0]]))
        short.copy(torch.tensor([0]), row)
        torch.testing.assert_close(preview, expected, rtol=0, atol=1e-5)
    logits, _ = long.advance(row, x)  # more than PIECES_AT_ONCE
    steps = [short.advance(row, each)[0] for each in x.split(100, dim=1)]
    torch.testing.assert_close(logits, torch.cat(steps, dim=2), rtol=0, atol=1e-5)
