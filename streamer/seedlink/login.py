"""How to log in to a SeedLink server: a user with a password, or a token."""

import os
from collections.abc import Mapping

from streamer.config import SeedLinkConfig
from streamer.errors import ConfigError
from streamer.secret import Secret, find_secret
from streamer.seedlink.link import Login

PASSWORD = Secret("SeedLink password", "seedlink-password", "MSNET_STREAM_SEEDLINK_PASSWORD")
TOKEN = Secret("SeedLink token", "seedlink-token", "MSNET_STREAM_SEEDLINK_TOKEN")

# A line with a command has at most 4096 bytes.
_MAX_BYTES = 4000


def find_login(config: SeedLinkConfig, environ: Mapping[str, str] = os.environ) -> Login | None:
    """What to log in with at this moment; None: nothing.

    Raises ConfigError on a user without a password and on what no command can hold,
    AccessDeniedError on an unreadable file.
    """
    token = find_secret(TOKEN, config.token_file, environ)
    if token is not None:
        return _word(token, TOKEN.what)
    if config.username is None:
        return None
    password = find_secret(PASSWORD, config.password_file, environ)
    if password is None:
        raise ConfigError(
            f"seedlink.username is {config.username!r} and there is no password: name a file with "
            f"seedlink.password_file, or set {PASSWORD.variable}"
        )
    return _word(config.username, "SeedLink user"), _word(password, PASSWORD.what)


def _word(text: str, what: str) -> str:
    if not text.isascii() or any(char.isspace() for char in text) or len(text) > _MAX_BYTES:
        raise ConfigError(
            f"the {what} cannot be sent: at most {_MAX_BYTES} ASCII characters without blanks"
        )
    return text
