"""The folded layers of MSNet with time before channels, in the forms that are fastest on a CPU."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from model.msnet import Block

# Floats in all windows of a convolution up to which their product with the weights costs less than
# the library's convolution, which takes 0.08 ms to begin.
_FEW = 1 << 17

Layer = Callable[[Tensor], Tensor]


def _parts(layer: nn.Module) -> tuple[nn.Conv1d | nn.ConvTranspose1d, Layer]:
    """The convolution of a layer, and what follows it. Raises ValueError unless it is folded."""
    if isinstance(layer, Block):
        if not isinstance(layer.norm, nn.Identity):
            raise ValueError("the network of a stream must be folded: MSNet.fold()")
        return layer.conv, layer.activation
    if not isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
        raise TypeError(f"{type(layer).__name__} is no layer of MSNet")
    return layer, lambda x: x


def convolution(layer: nn.Module) -> Layer:
    """(B, T + kernel - 1, C) -> (B, T, C')."""
    conv, activation = _parts(layer)
    bias, kernel = conv.bias, conv.kernel_size[0]
    product = conv.weight.permute(2, 1, 0).flatten(0, 1).contiguous()
    # An image of one row with its channels last is the fastest form of these convolutions.
    weight = conv.weight[:, :, None].contiguous(memory_format=torch.channels_last)

    def apply(x: Tensor) -> Tensor:
        rows, count, size = len(x), x.shape[1] - kernel + 1, kernel * x.shape[2]
        if rows * count * size <= _FEW or count == 1:
            x = x.contiguous()
            windows = x.as_strided((rows, count, size), (x.stride(0), x.stride(1), 1))
            return activation(_affine(windows, product, bias))
        image = x[:, None].permute(0, 3, 1, 2)
        return convolved(image).permute(0, 2, 3, 1)[:, 0]

    def convolved(image: Tensor) -> Tensor:
        if fused:
            return _with_gelu(image, weight, bias)
        return activation(nn.functional.conv2d(image, weight, bias))

    fused = activation is nn.functional.gelu and _fuses()
    return apply


def _with_gelu(image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution whose results go through GELU before they leave the caches.

    Torch's compiler writes this call, and nobody else is meant to: see `_fuses`.
    """
    y: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
        image, weight, bias, [0, 0], [1, 1], [1, 1], 1, "gelu", [], "none"
    )
    return y


@cache
def _fuses() -> bool:
    """Whether this build of torch can do `_with_gelu`; those for other processors cannot."""
    generator = torch.Generator().manual_seed(0)
    image, weight = (torch.randn(4, 8, 1, 16, generator=generator) for _ in range(2))
    bias = torch.randn(4, generator=generator)
    weight = weight[..., :7].contiguous(memory_format=torch.channels_last)
    wanted = nn.functional.gelu(nn.functional.conv2d(image, weight, bias))
    try:
        return torch.allclose(_with_gelu(image, weight, bias), wanted, atol=1e-5)
    except (AttributeError, RuntimeError):
        return False


def patches(layer: nn.Module) -> Layer:
    """A step down: (B, T, C) -> (B, T / stride, C'), patch by patch."""
    conv, activation = _parts(layer)
    bias, stride = conv.bias, conv.stride[0]
    weight = conv.weight.permute(2, 1, 0).flatten(0, 1).contiguous()
    return lambda x: activation(_affine(x.reshape(len(x), x.shape[1] // stride, -1), weight, bias))


def spread(layer: nn.Module) -> Layer:
    """A step up: (B, T, C) -> (B, T x stride, C')."""
    conv, activation = _parts(layer)
    stride = conv.stride[0]
    weight = conv.weight.permute(0, 2, 1).flatten(1).contiguous()
    bias = None if conv.bias is None else conv.bias.repeat(stride)
    return lambda x: activation(_affine(x, weight, bias).view(len(x), x.shape[1] * stride, -1))


def head(conv: nn.Conv1d) -> Layer:
    """(B, T, C) -> (C', B, T): with so few outputs, far faster than outputs last."""
    weight = conv.weight[:, :, 0].contiguous()
    bias = torch.zeros(len(weight), 1) if conv.bias is None else conv.bias[:, None]
    return lambda x: (weight @ x.flatten(0, 1).t()).add_(bias).view(-1, *x.shape[:2])


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    flat = x.reshape(-1, weight.shape[0])
    y = flat @ weight if bias is None else torch.addmm(bias, flat, weight)
    return y.view(*x.shape[:2], -1)
