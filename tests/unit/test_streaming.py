"""The stream form of the network: what it keeps of a station, and which networks it takes."""

import pytest
import torch

from model.artifact import load
from model.msnet import MSNet, MSNetConfig
from model.streaming import STATE_VERSION, StreamingNetwork

FLOAT_BYTES = 4


@pytest.fixture(scope="module")
def shipped() -> StreamingNetwork:
    return StreamingNetwork(load().model)


def test_the_state_of_a_station_is_what_is_documented_and_small(shipped):
    """A change of this table is another version of the state."""
    assert STATE_VERSION == 1
    assert shipped.layout == {
        "input": (10, 300),
        "encoder1": (7, 32),
        "encoder2": (7, 64),
        "encoder3": (6, 128),
        "skip2": (3, 320),
        "skip1": (5, 800),
        "decoder2": (6, 128),
        "decoder1": (6, 64),
        "decoder0": (6, 32),
    }
    size = sum(torch.Size(shape).numel() for shape in shipped.layout.values()) * FLOAT_BYTES
    assert 42_000 < size < 44_000


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
    first = shipped.advance(torch.tensor([5]), torch.zeros(1, 100, 3))
    later = shipped.advance(torch.tensor([5]), torch.zeros(1, 6000, 3))
    torch.testing.assert_close(later[..., -100:], first, rtol=0, atol=1e-5)


@pytest.mark.parametrize("style", ["convnext", "classic"])
def test_a_network_that_is_not_folded_is_refused(style):
    """Its norms would be those of training."""
    network = MSNet(MSNetConfig(channels=(4, 6, 8, 10), style=style), pruned=True).eval()
    with pytest.raises(ValueError, match="folded"):
        StreamingNetwork(network)


@torch.inference_mode()
@pytest.mark.parametrize("style", ["convnext", "classic"])
def test_a_preview_is_the_plain_forward_of_the_window(style):
    """Also with strides and a kernel of other sizes; at every sample that it gives out."""
    for sizes in ({}, {"channels": (4, 6, 8), "strides": (5, 20), "kernel": 5}):
        config = MSNetConfig(**{"channels": (4, 6, 8, 10), "style": style, **sizes})
        torch.manual_seed(0)
        network = MSNet(config, pruned=True).fold()
        windows = torch.randn(3, 3, (config.context_blocks + 3) * config.block_samples)
        expected = torch.sigmoid(network(windows)[0])[..., -3 * config.block_samples :]
        preview = StreamingNetwork(network).preview(windows.transpose(1, 2), 3)
        torch.testing.assert_close(
            torch.sigmoid(preview).transpose(0, 1), expected, atol=1e-5, rtol=0
        )
