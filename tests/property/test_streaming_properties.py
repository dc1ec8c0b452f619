"""The stream gives the outputs of the plain forward, however many blocks come at a time."""

from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from model.artifact import load
from model.msnet import MSNet, MSNetConfig
from model.streaming import SILENCE, StreamingNetwork

CONFIGS = (
    MSNetConfig(channels=(4, 6, 8, 10)),  # the strides and the kernel of the shipped weights
    MSNetConfig(channels=(4, 6, 8, 10), style="classic"),
    MSNetConfig(channels=(3, 5, 7), strides=(5, 4), kernel=5),
    MSNetConfig(channels=(3, 4, 4, 5, 6), strides=(2, 2, 3, 2), kernel=3),
    MSNetConfig(channels=(4, 6, 8), strides=(2, 10), kernel=9, style="classic"),
    MSNetConfig(channels=(4, 6), strides=(8,)),
)
STATIONS = 4
ATOL = 1e-5


@lru_cache
def network(config: MSNetConfig) -> MSNet:
    """Untrained, with weights that let the signal through, norms, and logits around +-1."""
    torch.manual_seed(11)
    made = MSNet(config, pruned=True)
    for module in made.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm1d):
            for values in (module.running_mean, module.weight.data, module.bias.data):
                values.normal_()
            module.running_var.uniform_(0.5, 2)
    folded = made.fold()
    logits, _ = folded(noise(config, 20, 0).t()[None])
    folded.decoder_a.head.weight /= logits.std()
    return folded


@lru_cache
def stream_of(config: MSNetConfig) -> StreamingNetwork:
    stream = StreamingNetwork(network(config))
    stream.grow(STATIONS + 3)
    return stream


def new_stream(config: MSNetConfig) -> StreamingNetwork:
    """All of whose stations are silent; most of it is made once."""
    stream = stream_of(config)
    rows = torch.arange(1, STATIONS + 3)
    stream.copy(torch.full_like(rows, SILENCE), rows)
    return stream


def noise(config: MSNetConfig, blocks: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(blocks * config.block_samples, 3, generator=generator)


def plain(model: MSNet, x: Tensor, lag: int) -> Tensor:
    """What the whole trace (T, 3) gives with silence around it, (2, T), from `lag` before it on."""
    edge = 2 * model.config.context_blocks * model.config.block_samples
    logits, _ = model(nn.functional.pad(x.t(), (edge, edge))[None])
    return logits[0, :, edge - lag :][:, : len(x)]


@st.composite
def feeds(draw):
    """(config, steps), a step being stations in some order and a number of blocks."""
    orders = st.permutations(range(STATIONS)).flatmap(
        lambda order: st.integers(1, STATIONS).map(lambda count: order[:count])
    )
    sizes = st.one_of(st.integers(1, 6), st.sampled_from([10, 30, 60]))
    steps = st.lists(st.tuples(orders, sizes), min_size=1, max_size=9)
    return draw(st.sampled_from(CONFIGS)), draw(steps)


@settings(max_examples=25, deadline=None)
@given(feed=feeds(), seed=st.integers(0, 100))
def test_any_steps_of_any_stations_give_the_outputs_of_the_plain_forward(feed, seed):
    """For networks of any shape; `lag_samples` late, silence before the data included."""
    config, steps = feed
    stream = new_stream(config)
    rows = torch.from_numpy(np.random.default_rng(seed).permutation(STATIONS + 2)[:STATIONS] + 1)
    blocks = [sum(size for order, size in steps if station in order) for station in range(STATIONS)]
    data = [noise(config, count, seed + n) for n, count in enumerate(blocks)]
    sent = [0] * STATIONS
    given_out: list[list[Tensor]] = [[] for _ in range(STATIONS)]
    for order, size in steps:
        length = size * config.block_samples
        batch = torch.stack([data[n][sent[n] : sent[n] + length] for n in order])
        logits, _ = stream.advance(rows[list(order)], batch)
        assert logits.shape == (2, len(order), length)
        for place, station in enumerate(order):
            given_out[station].append(logits[:, place])
            sent[station] += length
    for pieces, x in zip(given_out, data, strict=True):
        if pieces:
            expected = plain(network(config), x, stream.lag_samples)
            torch.testing.assert_close(torch.cat(pieces, dim=1), expected, rtol=ATOL, atol=ATOL)


def test_the_shipped_weights_give_the_same_as_a_stream():
    """Probabilities of a noise with bursts, in the steps of a daemon that falls behind."""
    model = load().model
    stream = StreamingNetwork(model)
    stream.grow(2)
    x = noise(model.config, 100, 5)
    x[2000:2300] *= 8
    x[5050:5100] *= 20
    x = torch.asinh(2 * x)
    pieces, first = [], 0
    for size in (1, 1, 2, 5, 10, 1, 60, 1, 2, 5, 5, 5, 1, 1):
        stop = first + size * 100
        pieces.append(stream.advance(torch.tensor([1]), x[None, first:stop])[0][:, 0])
        first = stop
    assert first == len(x)
    expected = torch.sigmoid(plain(model, x, stream.lag_samples))
    got = torch.sigmoid(torch.cat(pieces, dim=1))
    assert expected.max() - expected.min() > 0.1
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(
    config=st.sampled_from(CONFIGS),
    pasts=st.tuples(st.integers(0, 25), st.integers(0, 25)),
    seed=st.integers(0, 100),
)
def test_after_memory_blocks_nothing_of_the_past_is_left(config, pasts, seed):
    """Not even in the sizes of what is kept, or in where it is kept."""
    stream = new_stream(config)
    for row, past in zip((1, 2), pasts, strict=True):
        if past:
            stream.advance(torch.tensor([row]), 1e3 * noise(config, past, seed + row)[None])
    same = noise(config, stream.memory_blocks + 4, seed)
    cut = stream.memory_blocks * config.block_samples
    for row in (1, 2):
        stream.advance(torch.tensor([row]), same[None, :cut])
    first, second = stream.advance(torch.tensor([1, 2]), same[cut:].expand(2, -1, -1))[0].unbind(1)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(feed=feeds(), data=st.data())
def test_a_preview_is_the_plain_forward_of_what_has_come(feed, data):
    """With the zero padding of the network beyond the end, wherever in a step that is."""
    config, steps = feed
    stream = new_stream(config)
    model, block = network(config), config.block_samples
    total = [sum(size for order, size in steps if station in order) for station in range(STATIONS)]
    feeds_of = [noise(config, count, n) for n, count in enumerate(total)]
    come = [0] * STATIONS
    for order, size in steps:
        first = [come[n] * block for n in order]
        batch = torch.stack(
            [feeds_of[n][at : at + size * block] for n, at in zip(order, first, strict=True)]
        )
        places = st.tuples(st.integers(0, len(order) - 1), st.integers(0, size - 1))
        wanted = data.draw(st.lists(places, max_size=4, unique=True).map(sorted))
        asked = torch.tensor(wanted, dtype=torch.int64).view(-1, 2)
        _, previews = stream.advance(torch.tensor(order) + 1, batch, asked)
        assert previews.shape == (2, len(wanted), 3 * block)
        for (place, last), preview in zip(wanted, previews.unbind(1), strict=True):
            known = feeds_of[order[place]][: (come[order[place]] + last + 1) * block]
            edge = 2 * config.context_blocks * block
            expected, _ = model(nn.functional.pad(known.t(), (edge, 0))[None])
            expected = expected[0, :, -3 * block :]
            torch.testing.assert_close(preview, expected, rtol=ATOL, atol=ATOL)
        for n in order:
            come[n] += size


@pytest.mark.parametrize("config", CONFIGS)
def test_a_copied_state_has_the_same_future_and_a_life_of_its_own(config):
    stream = new_stream(config)
    past, future = noise(config, 13, 1), noise(config, 9, 2)
    stream.advance(torch.tensor([1]), past[None])
    stream.copy(torch.tensor([1]), torch.tensor([2]))
    stream.copy(torch.tensor([SILENCE]), torch.tensor([3]))
    expected = plain(network(config), torch.cat([past, future]), stream.lag_samples)
    for row in (2, 1):  # first the copy
        after = stream.advance(torch.tensor([row]), future[None])[0][:, 0]
        torch.testing.assert_close(after, expected[:, len(past) :], rtol=ATOL, atol=ATOL)
    reset = stream.advance(torch.tensor([3]), future[None])[0][:, 0]
    expected = plain(network(config), future, stream.lag_samples)
    torch.testing.assert_close(reset, expected, rtol=ATOL, atol=ATOL)


@pytest.mark.parametrize("config", CONFIGS)
def test_room_for_more_stations_leaves_those_there_as_they_are(config):
    stream = StreamingNetwork(network(config))
    stream.grow(2)
    past, future = noise(config, 3, 1), noise(config, 3, 2)
    stream.advance(torch.tensor([1]), past[None])
    stream.grow(2)
    stream.grow(40)
    stream.grow(5)
    rows = torch.tensor([39, 1])
    new, known = stream.advance(rows, future.expand(2, -1, -1))[0].unbind(1)
    expected = plain(network(config), torch.cat([past, future]), stream.lag_samples)
    torch.testing.assert_close(known, expected[:, len(past) :], rtol=ATOL, atol=ATOL)
    expected = plain(network(config), future, stream.lag_samples)
    torch.testing.assert_close(new, expected, rtol=ATOL, atol=ATOL)
