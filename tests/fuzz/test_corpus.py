"""All inputs that the fuzzer (run.py) found worth keeping, once more: none may fail."""

from pathlib import Path

import pytest
from targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_no_input_of_the_corpus_fails(target: str) -> None:
    inputs = sorted((CORPUS / target).iterdir())
    assert len(inputs) > 1
    for path in inputs:
        TARGETS[target](path.read_bytes())


def test_every_folder_of_the_corpus_has_a_target() -> None:
    assert sorted(path.name for path in CORPUS.iterdir()) == sorted(TARGETS)
