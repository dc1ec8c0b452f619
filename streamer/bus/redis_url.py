"""The address of a Redis or Valkey server as an operator writes it, and whence its password comes.

    redis://[user:password@]host[:port][/db]      rediss://... the same over TLS
    unix:///path/to/redis.sock[?db=0]
    redis+sentinel://[user:password@]host[:port],host[:port]/service[/db]

Pure apart from reading the password file. What is shown of an address never contains a password.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from streamer.errors import ConfigError
from streamer.secret import Secret, find_secret, read_secret, secret_path

EMBEDDED_URL = "embedded:"
"""Stands for the server this program starts itself: `streamer.bus.broker`."""

PASSWORD_VARIABLE = "MSNET_STREAM_REDIS_PASSWORD"
CREDENTIAL_NAME = "redis-password"
_PASSWORD = Secret("Redis password", CREDENTIAL_NAME, PASSWORD_VARIABLE)

SUPPORTED = (
    "supported are embedded: , redis://host:6379/0 , rediss://host:6379/0 , "
    "unix:///path/redis.sock?db=0 and redis+sentinel://host1:26379,host2:26379/service/0"
)

Kind = Literal["redis", "rediss", "unix", "redis+sentinel"]
_DEFAULT_PORTS = {"redis": 6379, "rediss": 6379, "redis+sentinel": 26379}
_TLS_OPTIONS = frozenset(
    {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}
)
_OPTIONS: dict[str, frozenset[str]] = {
    "redis": frozenset(),
    "rediss": _TLS_OPTIONS,
    "unix": frozenset({"db"}),
    "redis+sentinel": frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisServer:
    """Where a server is and how to log in. `str()` of it is the URL without any password.

    `hosts` are (host, port) pairs: one, or the sentinels of `service`; none when `path` names a
    socket.
    """

    kind: Kind
    shown: str
    hosts: tuple[tuple[str, int], ...] = ()
    path: str | None = None
    service: str | None = None
    db: int = 0
    # Hidden as well: redis://password@host is a common slip.
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    password_from_url: bool = False
    password_file: Path | None = None
    tls: Mapping[str, str | bool] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.shown

    def login(self) -> tuple[str, ...]:
        """User and password, password, or nothing; a password file is read anew at each call.

        Raises AccessDeniedError when it cannot be read.
        """
        password = (
            self.password
            if self.password_file is None
            else read_secret(self.password_file, _PASSWORD.what)
        )
        if self.username is not None:
            return self.username, password or ""
        return () if password is None else (password,)


def redact_url(url: str) -> str:
    """The URL with its password replaced by `***`, however badly the rest of it is formed."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    # Up to the last @: a password may itself hold @, / or # that someone forgot to quote.
    login, at, location = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    shown_login = f"{user}:***@" if colon and re.fullmatch(r"[\w.-]*", user) else "***@"
    shown = f"{scheme}{separator}{shown_login if at else ''}{location}"
    return re.sub(r"(?i)(password=)[^&]*", r"\1***", shown)


def find_password(password_file: Path | None, environ: Mapping[str, str]) -> str | None:
    """The password that is not in the URL; None when there is none.

    First found: `password_file`, the systemd credential `redis-password`, the variable
    `MSNET_STREAM_REDIS_PASSWORD`. A trailing line end of a file is not part of the password.
    Raises AccessDeniedError when a file that is there or is named cannot be read.
    """
    return find_secret(_PASSWORD, password_file, environ)


def parse_redis_url(
    url: str, *, password_file: Path | None = None, environ: Mapping[str, str] = os.environ
) -> RedisServer:
    """The server that `url` names; what `find_password` finds overrides a password in the URL.

    Raises ConfigError on anything but the forms at the head of this file (`embedded:` included: the
    caller starts that one), AccessDeniedError on an unreadable password file.
    """
    shown = redact_url(url)
    try:
        parts = urlsplit(url)
        server = _parse(parts, shown)
    except ValueError as error:
        # The reason of urllib may quote a piece of a password; ours is raised with `from None`.
        reason = str(error) if isinstance(error, _UrlError) else "it is not a well-formed URL"
        raise ConfigError(
            f"Redis URL {shown!r}: {reason} (a password with special characters must be "
            f"percent-encoded); {SUPPORTED}"
        ) from None
    password = find_password(password_file, environ)
    if not password:
        return server
    path = secret_path(_PASSWORD, password_file, environ)
    return replace(server, password=password, password_file=path, password_from_url=False)


class _UrlError(ValueError):
    """A reason that contains nothing secret."""


def _parse(parts: SplitResult, shown: str) -> RedisServer:
    if parts.scheme not in _OPTIONS:
        raise _UrlError(f"unknown kind {parts.scheme}:" if parts.scheme else "it has no ://")
    kind = cast(Kind, parts.scheme)
    if parts.fragment or "@" in parts.query or (kind != "unix" and "@" in parts.path):
        # Some of what follows is then a piece of the password: nothing of it may be quoted below.
        raise _UrlError("there is a # or a misplaced @ in it")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(set(options) - _OPTIONS[kind]):
        allowed = ", ".join(sorted(_OPTIONS[kind])) or "none"
        raise _UrlError(f"unknown option {', '.join(unknown)} (allowed here: {allowed})")
    login, _, location = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    path, service, db = parts.path, None, parts.path.strip("/")
    if kind == "unix":
        path, db = unquote(path), options.get("db", "")
        if location or not path.startswith("/"):
            raise _UrlError("a unix socket needs an absolute path: unix:///path/redis.sock")
    elif kind == "redis+sentinel":
        service, _, db = parts.path.strip("/").partition("/")
        if not service:
            raise _UrlError(
                "the name of the service is missing: redis+sentinel://host:26379/service"
            )
    if db and not db.isdecimal():
        raise _UrlError("the database after the last / must be a number")
    return RedisServer(
        kind=kind,
        shown=shown,
        hosts=() if kind == "unix" else _hosts(location, _DEFAULT_PORTS[kind]),
        path=path if kind == "unix" else None,
        service=service,
        db=int(db or 0),
        username=unquote(username) or None,
        password=unquote(password) or None,
        password_from_url=bool(password),
        tls={name: _tls_value(name, options[name]) for name in options if name in _TLS_OPTIONS},
    )


def _hosts(location: str, default_port: int) -> tuple[tuple[str, int], ...]:
    pairs = []
    for item in location.split(","):
        parts = urlsplit(f"//{item}")
        if not parts.hostname:
            raise _UrlError("the host is missing")
        pairs.append((parts.hostname, parts.port or default_port))
    return tuple(pairs)


def _tls_value(name: str, text: str) -> str | bool:
    if name == "ssl_check_hostname":
        if text.lower() not in ("true", "false"):
            raise _UrlError("ssl_check_hostname is True or False")
        return text.lower() == "true"
    if name == "ssl_cert_reqs" and text not in ("required", "optional", "none"):
        raise _UrlError("ssl_cert_reqs is required, optional or none")
    return text
