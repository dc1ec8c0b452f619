"""PhaseNet as described: its size, its interface, and what of a record it sees."""

import pytest
import torch

from model.msnet import MSNet
from model.phasenet import PhaseNet, PhaseNetConfig

TINY = PhaseNetConfig(channels=(4, 4, 6, 6, 8))


@pytest.fixture
def tiny() -> PhaseNet:
    torch.manual_seed(1)
    return PhaseNet(TINY)


def test_it_has_the_published_size():
    assert PhaseNet().parameter_count() == 268_443


def test_its_cells_and_context_follow_from_its_sizes():
    assert PhaseNetConfig().cell_samples == 256
    assert PhaseNetConfig().context_blocks == 19
    assert PhaseNetConfig(channels=(4, 8), kernel=5).cell_samples == 4


@pytest.mark.parametrize("length", [100, 3000, 3001, 25_600])
def test_any_length_gives_logits_of_both_phases_and_no_event(tiny, length):
    arrivals, event = tiny.eval()(torch.randn(2, 3, length))
    assert arrivals.shape == (2, 2, length)
    assert event is None


def test_the_sigmoid_of_its_logits_is_the_softmax_over_noise_p_and_s(tiny):
    x = 10 * torch.randn(2, 3, 512)
    tiny.eval()
    want = torch.softmax(tiny.class_logits(x), dim=1)[:, 1:]
    assert torch.allclose(torch.sigmoid(tiny(x)[0]), want, atol=1e-6)


def test_logits_stay_finite_where_the_softmax_is_certain(tiny):
    with torch.no_grad():
        tiny.head.bias.copy_(torch.tensor([-500.0, 500.0, -500.0]))
    logits = tiny.eval()(torch.randn(1, 3, 256))[0]
    assert torch.isfinite(logits).all()
    assert (torch.sigmoid(logits[:, 0]) == 1).all()


def test_only_the_declared_context_matters():
    """With positive weights nothing cancels, so the gradient shows the whole reach."""
    model = PhaseNet(TINY).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    context = TINY.context_blocks * 100
    at, reach = 256 * 12, 0
    for offset in range(0, 256, 5):
        x = torch.ones(1, 3, 256 * 24, requires_grad=True)
        (gradient,) = torch.autograd.grad(model.class_logits(x)[0, :, at + offset].sum(), x)
        seen = torch.nonzero(gradient.abs().sum(dim=(0, 1))).flatten()
        reach = max(reach, at + offset - int(seen[0]), int(seen[-1]) - at - offset)
    assert context - 100 < reach <= context


def test_the_same_seed_gives_the_same_network_and_the_same_output():
    x = torch.randn(1, 3, 1000)
    logits = []
    for _ in range(2):
        torch.manual_seed(3)
        logits.append(PhaseNet(TINY).eval()(x)[0])
    assert torch.equal(*logits)


def test_folding_the_norms_changes_nothing_and_leaves_the_original(tiny):
    tiny.train()
    for _ in range(3):
        tiny(2 * torch.randn(4, 3, 512) + 1)
    folded, x = tiny.fold(), torch.randn(2, 3, 700)
    assert torch.allclose(folded(x)[0], tiny.eval()(x)[0], atol=1e-4)
    assert not any(isinstance(m, torch.nn.BatchNorm1d) for m in folded.modules())
    assert any(isinstance(m, torch.nn.BatchNorm1d) for m in tiny.modules())
    assert not any(p.requires_grad for p in folded.parameters())


def test_steps_of_training_bring_the_loss_down(tiny):
    x = torch.randn(4, 3, 512)
    label = torch.zeros(4, 2, 512)
    label[:, 0, 200:230] = label[:, 1, 300:330] = 1
    x[:, :, 200:230] *= 5
    x[:, 1:, 300:330] *= 9
    optimiser = torch.optim.AdamW(tiny.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(tiny(x)[0], label)
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in tiny.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_it_offers_what_evaluation_uses_of_our_network():
    for model in (PhaseNet(TINY), MSNet()):
        assert model.config.context_blocks > 0
        assert model.fold()(torch.zeros(1, 3, 400))[0].shape == (1, 2, 400)
