"""The forms of a convolution in the stream: whatever the size, it is that of torch."""

import pytest
import torch
from torch import nn

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
