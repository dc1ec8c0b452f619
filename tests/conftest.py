"""Fixtures for real peers and recordings that a laptop may lack.

`MSNET_SHARED` names the folder with the recordings (`data/`) and the published networks (`peers/`);
without it, `shared/` beside the repository is taken. What is missing skips a test, or fails it when
`MSNET_REQUIRE_PEERS=1` (as in CI), so that nothing is left untested unnoticed.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import structlog


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A test that sets up logging, as every command does, must not change it for the next."""
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    yield
    root.handlers = before[1]
    root.setLevel(before[0])
    structlog.reset_defaults()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One torch thread for the test, as in the daemon."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the recordings with manual picks (`shared/data`)."""
    return _shared_folder("data")


@pytest.fixture(scope="session")
def shared_peers() -> Path:
    """Folder of the published networks we are compared with (`shared/peers`)."""
    return _shared_folder("peers")


@pytest.fixture(scope="session")
def shared_assoc() -> Path:
    """Folder of picks with known events and of the REAL program's results (`shared/assoc`)."""
    return _shared_folder("assoc")


@pytest.fixture(scope="session")
def redis_server_binary() -> str:
    """Path of a real `redis-server`."""
    return _on_path("redis-server", "install it (apt-get install redis-server)")


@pytest.fixture(scope="session")
def lacking() -> Callable[[str], NoReturn]:
    """To be called with what is missing: skips the test, or fails it in CI."""
    return _lacking


@pytest.fixture(scope="session")
def systemd_analyze() -> str:
    """Path of `systemd-analyze`."""
    return _on_path("systemd-analyze", "install systemd")


@pytest.fixture(scope="session")
def promtool() -> str:
    """Path of `promtool`."""
    return _on_path("promtool", "it is part of prometheus")


@pytest.fixture(scope="session")
def seisbench_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """SeisBench's cache for this process and those it starts, empty; its server is not there."""
    root = tmp_path_factory.mktemp("seisbench")
    nowhere = "http://127.0.0.1:9/"
    settings = {"dimension_order": "NCW", "component_order": "ZNE", "remote_root": nowhere}
    (root / "config.json").write_text(json.dumps(settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEISBENCH_CACHE_ROOT", str(root))
        import seisbench

        patch.setattr(seisbench, "cache_model_root", root / "models" / "v3")
        patch.setattr(seisbench, "remote_model_root", nowhere)
        yield root


def _shared_folder(name: str) -> Path:
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("MSNET_SHARED", beside)) / name
    if not folder.is_dir():
        _lacking(f"{folder} does not exist: set MSNET_SHARED to the folder that holds {name}/")
    return folder


def _on_path(program: str, remedy: str) -> str:
    binary = shutil.which(program)
    if binary is None:
        _lacking(f"{program} is not on PATH: {remedy}")
    return binary


def _lacking(reason: str) -> NoReturn:
    if os.environ.get("MSNET_REQUIRE_PEERS") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
