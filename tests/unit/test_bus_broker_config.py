"""The pure parts of the embedded broker: its configuration file, users and socket path."""

import hashlib
import os
from pathlib import Path

from streamer.bus.broker import BrokerConfig, render_config, render_users


def _settings(config: BrokerConfig) -> dict[str, str]:
    lines = render_config(config).splitlines()
    return dict(line.split(" ", 1) for line in lines if not line.startswith("#"))


def test_default_configuration_is_durable_private_and_bounded() -> None:
    """Append-only file every second, no TCP port, no eviction, and a memory bound."""
    settings = _settings(BrokerConfig(state_dir=Path("/var/lib/msnet")))
    expected = {
        "unixsocket": '"/var/lib/msnet/broker/redis.sock"',
        "unixsocketperm": "700",
        "port": "0",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-use-rdb-preamble": "yes",
        "aof-load-truncated": "yes",
        "auto-aof-rewrite-min-size": "64mb",
        "save": "3600 1",
        "stop-writes-on-bgsave-error": "no",
        "maxmemory": "1024mb",
        "maxmemory-policy": "noeviction",
    }
    assert {name: settings[name] for name in expected} == expected
    assert "aclfile" not in settings


def test_port_listens_on_loopback_only_and_brings_users() -> None:
    """A TCP port is bound to 127.0.0.1 and never without the ACL file."""
    settings = _settings(BrokerConfig(state_dir=Path("/s"), port=6379, durability="always"))
    assert settings["port"] == "6379"
    assert settings["bind"] == "127.0.0.1"
    assert settings["aclfile"] == '"/s/broker/users.acl"'
    assert settings["appendfsync"] == "always"


def test_users_file_holds_no_password() -> None:
    """The owner logs in by digest; everybody else only reads the keys of the prefix."""
    users = render_users("net1", "pass-word")
    assert "pass-word" not in users
    assert f"user default on #{hashlib.sha256(b'pass-word').hexdigest()} ~* &* +@all\n" in users
    assert "user viewer on nopass resetkeys resetchannels -@all %R~net1:* +ping" in users


def test_paths_are_quoted() -> None:
    """A quote or line end in the folder cannot become another setting."""
    settings = render_config(BrokerConfig(state_dir=Path('/a "b"\nport 1')))
    assert 'dir "/a \\"b\\"\\nport 1/broker"\n' in settings
    assert "\nport 0\n" in settings


def test_long_socket_path_moves_to_a_short_private_name() -> None:
    """A socket name is at most 108 bytes: beyond, it depends on user and folder alone."""
    short, long = (
        BrokerConfig(state_dir=Path("/s")),
        BrokerConfig(state_dir=Path("/s") / ("x" * 120)),
    )
    assert short.socket_path == short.folder / "redis.sock"
    moved = long.socket_path
    assert len(os.fsencode(moved)) < 100
    assert str(os.geteuid()) in moved.parent.name
    assert moved != BrokerConfig(state_dir=long.state_dir / "other").socket_path


def test_the_socket_may_be_named() -> None:
    """Units of systemd meet at one socket, whatever their state folders."""
    config = BrokerConfig(state_dir=Path("/s"), socket=Path("/run/msnet-broker/redis.sock"))
    assert config.address.path == "/run/msnet-broker/redis.sock"
    assert 'unixsocket "/run/msnet-broker/redis.sock"\n' in render_config(config)
