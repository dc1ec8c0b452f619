"""The forms of a convolution in the stream: whatever the size, it is that of torch."""

import pytest
import torch
from torch import nn

from model import stream_layers
from model.msnet import Block
from model.stream_layers import _FEW, convolution

KERNEL = 7


@pytest.mark.parametrize(
    ("rows", "outputs"),
    [(1, 1), (300, 1), (3, 25), (1, 400), (64, 100), (1, 20_000)],
)
@pytest.mark.parametrize("channels", [3, 24])
def test_few_and_many_windows_give_the_convolution_of_torch(rows, outputs, channels):
    """Also of a part of a larger array, as the stream cuts them."""
    torch.manual_seed(rows + outputs)
    conv = nn.Conv1d(channels, 16, KERNEL)
    around = torch.randn(rows, outputs + KERNEL + 4, channels)
    x = around[:, 2 : outputs + KERNEL + 1]
    with torch.inference_mode():
        expected = conv(x.transpose(1, 2)).transpose(1, 2)
        torch.testing.assert_close(convolution(conv)(x), expected, atol=1e-5, rtol=1e-5)


def test_the_sizes_above_are_on_both_sides_of_the_border():
    assert 3 * 25 * KERNEL * 24 < _FEW < 64 * 100 * KERNEL * 3


IN_ONE_PASS = stream_layers._fuses


@pytest.mark.parametrize("shape", [(1, 1), (3, 25), (64, 100), (1, 20_000)])
@pytest.mark.parametrize("in_one_pass", [True, False])
def test_activations_are_those_of_torch_in_one_pass_with_the_convolution_or_not(
    monkeypatch, shape, in_one_pass
):
    rows, outputs = shape
    monkeypatch.setattr(stream_layers, "_fuses", lambda: in_one_pass and IN_ONE_PASS())
    torch.manual_seed(outputs)
    block = Block(nn.Conv1d(24, 16, KERNEL), nn.functional.gelu).eval()
    block.fold()
    x = torch.randn(rows, outputs + KERNEL - 1, 24)
    with torch.inference_mode():
        expected = block(x.transpose(1, 2)).transpose(1, 2)
        torch.testing.assert_close(convolution(block)(x), expected, atol=1e-5, rtol=1e-5)


@pytest.fixture
def afresh():
    """What torch can do is asked again, and once more afterwards."""
    stream_layers._fuses.cache_clear()
    yield
    stream_layers._fuses.cache_clear()


@pytest.mark.usefixtures("afresh")
@pytest.mark.parametrize("error", [AttributeError, RuntimeError, NotImplementedError])
def test_a_torch_without_the_one_pass_does_without(monkeypatch, error):
    def missing(*_: object) -> torch.Tensor:
        raise error

    monkeypatch.setattr(stream_layers, "_with_gelu", missing)
    assert not stream_layers._fuses()


@pytest.mark.usefixtures("afresh")
def test_a_torch_whose_one_pass_does_something_else_does_without(monkeypatch):
    monkeypatch.setattr(stream_layers, "_with_gelu", lambda *_: torch.zeros(4, 4, 1, 10))
    assert not stream_layers._fuses()
