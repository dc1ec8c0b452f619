"""The network: what is pruned, folded, saved and loaded gives the numbers of what was trained."""

import json
from fractions import Fraction

import pytest
import torch

from model.artifact import BUNDLED, ArtifactError, Card, load, save
from model.msnet import Block, MSNet, MSNetConfig
from model.preprocess import BLOCK, PreprocessConfig

torch.set_num_threads(1)  # more only wait for each other on networks this small

SMALL = MSNetConfig(channels=(4, 8, 8, 8))
CLASSIC = MSNetConfig(channels=(4, 8, 8, 8), style="classic")


def network(config: MSNetConfig = SMALL, seed: int = 0) -> MSNet:
    """Untrained, but with norms whose statistics are not the trivial ones."""
    torch.manual_seed(seed)
    model = MSNet(config)
    model.train()
    with torch.no_grad():
        model(3 * torch.randn(4, 3, 600) + 0.5)
    return model.eval()


def card(config: MSNetConfig = SMALL) -> Card:
    return Card(
        name="test",
        version="7",
        network=config,
        preprocess=PreprocessConfig(memory_blocks=9, exponent=1.5),
        thresholds=(0.25, 0.75),
        separation_samples=33,
        training={"data": "none"},
        metrics={"recall": 0.5},
    )


def test_arrivals_are_bit_identical_without_decoder_b():
    model = network(MSNetConfig())
    x = torch.randn(2, 3, 3000)
    with torch.inference_mode():
        arrivals, event = model(x)
        pruned_arrivals, pruned_event = model.prune()(x)
    assert event.shape == (2, 1, 3000)
    assert pruned_event is None
    assert torch.equal(arrivals, pruned_arrivals)


def test_pruning_leaves_the_network_that_is_trained_as_it_was():
    model = network()
    model.prune()
    assert model.decoder_b is not None


@pytest.mark.parametrize("config", [MSNetConfig(), CLASSIC])
def test_folded_norms_change_nothing_but_rounding(config):
    model = network(config)
    x = torch.randn(2, 3, 3000)
    with torch.inference_mode():
        arrivals, _ = model(x)
        folded = model.prune().fold()
        folded_arrivals, _ = folded(x)
    assert not any(isinstance(module, torch.nn.BatchNorm1d) for module in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    torch.testing.assert_close(folded_arrivals, arrivals, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [MSNetConfig(), MSNetConfig(channels=(8, 16, 32, 64))])
def test_the_deployed_network_has_80k_to_350k_parameters(config):
    assert 80_000 <= MSNet(config, pruned=True).parameter_count() <= 350_000


def test_the_classic_form_has_a_norm_and_a_relu_after_every_convolution_but_the_last():
    """Decoder A and the encoder: 2 x 3 steps between levels beside the blocks that both have."""
    blocks = [m for m in MSNet(CLASSIC, pruned=True).modules() if isinstance(m, Block)]
    assert len(blocks) == 1 + 2 * 3 + 2 * 3
    assert {block.activation for block in blocks} == {torch.nn.functional.relu}
    ours = [m for m in MSNet(SMALL, pruned=True).modules() if isinstance(m, Block)]
    assert len(ours) == 1 + 3 + 3
    assert {block.activation for block in ours} == {torch.nn.functional.gelu}


def test_a_style_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="modern"):
        MSNetConfig(style="modern")


def test_the_total_stride_is_the_block_of_the_preprocessing():
    assert MSNetConfig().block_samples == BLOCK
    assert MSNetConfig(strides=(2, 5)).block_samples == 10


@pytest.mark.parametrize(
    "config",
    [SMALL, CLASSIC, MSNetConfig(channels=(4, 8, 8, 8), strides=(2, 2, 5)), MSNetConfig(kernel=3)],
)
def test_input_outside_the_context_changes_nothing_and_inside_it_does(config):
    """The bound is exact, or the daemon would wait longer than it must."""
    model = network(config).fold().double()
    block, context = config.block_samples, config.context_blocks
    middle = context + 2
    x = torch.randn(1, 3, (2 * middle + 1) * block, dtype=torch.float64)
    asked = slice(middle * block, (middle + 1) * block)
    with torch.inference_mode():
        before = model(x)[0][..., asked]
        outside = x.clone()
        outside[..., : (middle - context) * block] = 50.0
        outside[..., (middle + 1 + context) * block :] = -50.0
        assert torch.equal(model(outside)[0][..., asked], before)
        for edge in (middle - context, middle + context):
            inside = x.clone()
            inside[..., edge * block : (edge + 1) * block] += 1000.0
            assert not torch.equal(model(inside)[0][..., asked], before)


def test_shifting_the_input_by_a_block_shifts_the_output_by_a_block():
    config = SMALL
    model = network(config).fold()
    edge = config.context_blocks * BLOCK
    x = torch.randn(1, 3, 20 * BLOCK)
    with torch.inference_mode():
        whole = model(x)[0][..., edge + BLOCK : -edge]
        shifted = model(x[..., BLOCK:])[0][..., edge:-edge]
    torch.testing.assert_close(shifted, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["net", "net-0.1", "net.safetensors"])
def test_a_saved_artifact_loads_as_it_was(tmp_path, name):
    """Also when the name holds a dot, which is no suffix."""
    model, x = network(), torch.randn(1, 3, 1000)
    save(tmp_path / name, model, card())
    artifact = load(tmp_path / name)
    assert artifact.card == card()
    with torch.inference_mode():
        torch.testing.assert_close(artifact.model(x)[0], model(x)[0], rtol=1e-4, atol=1e-5)
    stem = name.removesuffix(".safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {f"{stem}.safetensors", f"{stem}.json"}


def test_the_hash_depends_on_weights_and_card(tmp_path):
    save(tmp_path / "a", network(), card())
    save(tmp_path / "b", network(), card())
    save(tmp_path / "c", network(seed=1), card())
    hashes = [load(tmp_path / name).sha for name in "abc"]
    facts = json.loads((tmp_path / "b.json").read_text())
    facts["thresholds"] = [0.3, 0.3]
    (tmp_path / "b.json").write_text(json.dumps(facts))
    assert hashes[0] == hashes[1]
    assert len({hashes[0], hashes[2], load(tmp_path / "b").sha}) == 3
    assert all(len(sha) == 8 for sha in hashes)


def test_weights_whose_card_names_no_style_are_the_network_they_were(tmp_path):
    """Such are the cards of the first networks."""
    for path in (BUNDLED.with_suffix(".safetensors"), BUNDLED.with_suffix(".json")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    facts = json.loads((tmp_path / "msnet.json").read_text())
    facts["network"].pop("style", None)
    (tmp_path / "msnet.json").write_text(json.dumps(facts))
    x = torch.randn(1, 3, 1000)
    with torch.inference_mode():
        assert torch.equal(load(tmp_path / "msnet").model(x)[0], load().model(x)[0])


@pytest.mark.parametrize("config", [SMALL, CLASSIC])
def test_the_card_keeps_the_style(tmp_path, config):
    save(tmp_path / "net", network(config), card(config))
    assert load(tmp_path / "net").card.network == config


@pytest.mark.parametrize("missing", ["net.safetensors", "net.json"])
def test_a_missing_file_is_named(tmp_path, missing):
    save(tmp_path / "net", network(), card())
    (tmp_path / missing).unlink()
    with pytest.raises(ArtifactError, match=missing):
        load(tmp_path / "net")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '"text"', '{"format": "other/1"}', "\xff"],
)
def test_a_damaged_card_is_named(tmp_path, text):
    save(tmp_path / "net", network(), card())
    (tmp_path / "net.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactError, match=r"net\.json"):
        load(tmp_path / "net")


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("format", "msnet-artifact/9"),
        ("rate_hz", 50.0),
        ("components", "ENZ"),
        ("phases", ["S", "P"]),
        ("network", 3),
        (
            "network",
            {"channels": [4, 8, 8, 8], "strides": [4, 5, 5], "kernel": 7, "style": "modern"},
        ),
        ("preprocess", {"unknown": 1}),
        ("thresholds", None),
    ],
)
def test_a_card_that_this_program_cannot_follow_is_refused(tmp_path, fact, value):
    save(tmp_path / "net", network(), card())
    facts = json.loads((tmp_path / "net.json").read_text())
    facts[fact] = value
    (tmp_path / "net.json").write_text(json.dumps(facts))
    with pytest.raises(ArtifactError, match=r"net\.json"):
        load(tmp_path / "net")


def test_damaged_weights_are_named(tmp_path):
    save(tmp_path / "net", network(), card())
    weights = tmp_path / "net.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ArtifactError, match=r"net\.safetensors"):
        load(weights)


def test_weights_of_another_size_than_their_card_says_are_refused(tmp_path):
    save(tmp_path / "net", network(), card(MSNetConfig()))
    with pytest.raises(ArtifactError, match=r"net\.safetensors"):
        load(tmp_path / "net")


def test_the_bundled_artifact_is_usable_and_says_where_it_comes_from():
    artifact = load()
    facts = artifact.card
    assert 80_000 <= artifact.model.parameter_count() <= 350_000
    assert facts.network.block_samples == BLOCK
    assert facts.name
    assert facts.version
    assert facts.training
    assert facts.metrics
    assert len(facts.thresholds) == 2
    assert all(0 < Fraction(threshold) < 1 for threshold in facts.thresholds)
    assert facts.separation_samples > 0
    assert artifact.model.decoder_b is None
