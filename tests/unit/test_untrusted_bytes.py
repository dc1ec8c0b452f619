"""No byte from outside is ever run: no pickle, no unsafe loader, in any of our sources."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("streamer", "model", "train", "benchmarks")

RUNS_WHAT_IT_READS = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal",
}  # fmt: skip
LOADERS = {"load", "loads", "dump", "dumps", "Unpickler", "Pickler", "open", "read_pickle"}


def findings(source: str) -> list[str]:
    """What in a source may run what it reads."""
    tree = ast.parse(source)
    return [found for node in ast.walk(tree) for found in _of(node)]


def _of(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.ImportFrom(module=str(module), names=names) if (
            module.partition(".")[0] in RUNS_WHAT_IT_READS
        ):
            yield from (f"{module}.{each.name}" for each in names if each.name in LOADERS)
        case ast.Attribute(value=ast.Name(id=module), attr=name) if (
            module in RUNS_WHAT_IT_READS and name in LOADERS
        ):
            yield f"{module}.{name}"
        case ast.Attribute(attr="read_pickle" | "to_pickle" as name):
            yield name
        case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load"), keywords=given):
            if not any(_is_true(each, "weights_only") for each in given):
                yield "torch.load without weights_only"
        case ast.keyword(arg="allow_pickle") if not _is(node.value, False):
            yield "allow_pickle"
        case ast.Call(func=ast.Attribute(value=ast.Name(id="yaml"), attr="load" | "unsafe_load")):
            yield "yaml.load"
        case ast.Call(func=ast.Name(id="eval" | "exec" as name)):
            yield name
        case ast.keyword(arg="shell") if not _is(node.value, False):
            yield "shell"


def _is_true(keyword: ast.keyword, name: str) -> bool:
    return keyword.arg == name and _is(keyword.value, True)


def _is(node: ast.expr, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("package", PACKAGES)
def test_sources_run_nothing_that_they_read(package: str) -> None:
    """Weights are safetensors, everything else text or numbers."""
    found = {
        str(path.relative_to(ROOT)): names
        for path in sorted((ROOT / package).rglob("*.py"))
        if (names := findings(path.read_text()))
    }
    assert found == {}


def test_what_runs_live_does_not_know_the_loader_of_torch() -> None:
    """Even restricted, it is for checkpoints of our own training alone."""
    for package in ("streamer", "model"):
        for path in (ROOT / package).rglob("*.py"):
            assert "torch.load" not in path.read_text(), path


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.loads(b'')",
        "from pickle import load",
        "import joblib\njoblib.load('x')",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "pandas.read_pickle(path)",
        "yaml.load(text, Loader)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_each_unsafe_loader_is_found(source: str) -> None:
    """The search above can fail."""
    assert findings(source)
