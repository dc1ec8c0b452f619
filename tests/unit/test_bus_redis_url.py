"""Redis URLs: what is understood, what is refused, and that no password is ever shown."""

from pathlib import Path

import pytest

from streamer.bus.redis_url import find_password, parse_redis_url, redact_url
from streamer.errors import AccessDeniedError, ConfigError

SECRET = "tops3cret"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://db.example.org", {"hosts": (("db.example.org", 6379),), "db": 0}),
        ("redis://h:7000/3", {"hosts": (("h", 7000),), "db": 3}),
        ("redis://[::1]:7000", {"hosts": (("::1", 7000),)}),
        ("redis://u:p%40ss@h", {"username": "u", "password": "p@ss", "password_from_url": True}),
        ("unix:///run/my%20redis.sock?db=2", {"path": "/run/my redis.sock", "db": 2, "hosts": ()}),
        ("unix:///run/redis.sock", {"path": "/run/redis.sock", "db": 0}),
        (
            "rediss://h?ssl_ca_certs=/ca.pem&ssl_check_hostname=False",
            {"tls": {"ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False}},
        ),
        (
            "redis+sentinel://a,b:7/mymaster/1",
            {"hosts": (("a", 26379), ("b", 7)), "service": "mymaster", "db": 1},
        ),
    ],
)
def test_url_forms(url: str, expected: dict[str, object]) -> None:
    """Each documented form gives its parts, with Redis' default ports."""
    server = parse_redis_url(url, environ={})
    assert {name: getattr(server, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("embedded:", "unknown kind embedded:"),
        ("http://h:80", "unknown kind http:"),
        ("localhost", "it has no ://"),
        ("redis+cluster://h:6379", "unknown kind redis+cluster:"),
        ("redis://", "the host is missing"),
        ("redis://h:port", "not a well-formed URL"),
        ("redis://h:70000", "not a well-formed URL"),
        ("redis://h/zero", "must be a number"),
        ("redis://h?retries=3", "unknown option retries (allowed here: none)"),
        ("rediss://h?ssl_check_hostname=maybe", "True or False"),
        ("unix://relative/redis.sock", "absolute path"),
        ("redis+sentinel://h:26379", "name of the service is missing"),
    ],
)
def test_bad_url_is_a_config_error_with_its_reason(url: str, reason: str) -> None:
    """A wrong URL says what is wrong with it and which forms are supported."""
    with pytest.raises(ConfigError) as caught:
        parse_redis_url(url, environ={})
    assert reason in str(caught.value)
    assert "unix:///path" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{SECRET}@host:6379/0",
        f"redis://:{SECRET}@host",
        f"redis://{SECRET}@host",
        f"redis://user:{SECRET}/with/slash@host",
        f"redis://user:{SECRET}#hash@host",
        f"redis://user:{SECRET}?query=1@host",
        f"redis://user:a?{SECRET}=1@host",
        f"redis://user:at@{SECRET}@host",
        f"redis://user:[{SECRET}@host",
        f"redis://user:x/{SECRET}@host",
        f"redis://host?password={SECRET}",
        f"user:{SECRET}@host:6379",
        f"unix://:{SECRET}@/run/redis.sock",
    ],
)
def test_no_password_is_shown(url: str) -> None:
    """Neither the redacted URL, nor the server, nor a refusal shows any part of a password."""
    try:
        server = parse_redis_url(url, environ={})
        shown = str(server) + repr(server)
    except ConfigError as error:
        shown = str(error) + repr(error.__cause__)
    assert SECRET not in redact_url(url) + shown


def test_redaction_keeps_the_rest() -> None:
    """User, host and database stay readable; a URL without a password is unchanged."""
    assert redact_url("rediss://picker:x@h:1/2") == "rediss://picker:***@h:1/2"
    assert redact_url("unix:///run/a.sock?db=0") == "unix:///run/a.sock?db=0"


def test_password_sources_in_order(tmp_path: Path) -> None:
    """password_file, then the systemd credential, then the variable, then the URL."""
    named = tmp_path / "named"
    named.write_text("from-file\n")
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "redis-password").write_text("from-credential")
    environ = {
        "CREDENTIALS_DIRECTORY": str(credentials),
        "MSNET_STREAM_REDIS_PASSWORD": "from-variable",
    }
    url = "redis://u:from-url@h"
    found = [parse_redis_url(url, password_file=named, environ=environ)]
    found.append(parse_redis_url(url, environ=environ))
    (credentials / "redis-password").unlink()
    found.append(parse_redis_url(url, environ=environ))
    found.append(parse_redis_url(url, environ={}))
    assert [server.password for server in found] == [
        "from-file",
        "from-credential",
        "from-variable",
        "from-url",
    ]
    assert [server.password_from_url for server in found] == [False, False, False, True]


def test_unreadable_password_file_names_the_file(tmp_path: Path) -> None:
    """A password file that is missing, empty or no text is refused by name, never skipped."""
    missing, empty, binary = tmp_path / "missing", tmp_path / "empty", tmp_path / "binary"
    empty.write_text("\n")
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (missing, empty, binary):
        with pytest.raises(AccessDeniedError, match=str(path)):
            find_password(path, {})


def test_password_file_is_read_at_each_login(tmp_path: Path) -> None:
    """A password that was changed in its file counts at once; one that vanished is an error."""
    file = tmp_path / "password"
    file.write_text("first\n")
    server = parse_redis_url("redis://picker@host", password_file=file, environ={})
    assert server.login() == ("picker", "first")
    file.write_text("second\n")
    assert server.login() == ("picker", "second")
    file.unlink()
    with pytest.raises(AccessDeniedError, match="check the path"):
        server.login()
    assert parse_redis_url("redis://host", environ={}).login() == ()
