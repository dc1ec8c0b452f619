"""Commands for operators: settings with their origin, the doctor, completion, a light --help."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from streamer.bus.broker import BrokerConfig
from streamer.cli import main
from streamer.config import Config, example_yaml
from streamer.config_text import settings
from streamer.doctor import State, examine
from train.cli import main as train_commands


def shown(*arguments: str, **environ: str) -> str:
    result = CliRunner().invoke(main, list(arguments), env=environ)
    assert result.exit_code == 0, result.output
    return result.output


def test_every_setting_is_shown_with_its_origin(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("agency: AB\nseedlink:\n  servers: [a.example, b.example]\n")
    text = shown("show-config", "-c", str(path), "--origin", MSNET_STREAM_REDIS__PREFIX="lab")
    lines = {line.split(":", 1)[0]: line for line in text.splitlines()}
    assert list(lines) == [setting.key for setting in settings(Config())]
    assert lines["agency"].split() == ["agency:", "AB", "#", f"{path}:1"]
    assert "[a.example, b.example]" in lines["seedlink.servers"]
    assert lines["seedlink.servers"].endswith(f"# {path}:3")
    assert lines["redis.prefix"].endswith("# MSNET_STREAM_REDIS__PREFIX")
    assert lines["picking.tick_ms"].endswith("# default")


def test_all_errors_of_a_configuration_are_told_at_once_by_line(tmp_path: Path) -> None:
    """Those of texts that other parts read, too: what passes the check starts."""
    path = tmp_path / "c.yaml"
    path.write_text(
        "stations: [CI.*, 'XX.?.no way']\npicking: {threshold_p: 1.5}\n"
        "redis:\n  url: htp://there\nloging: {}\nseedlink: {sever: a}\n"
    )
    result = CliRunner().invoke(main, ["check-config", str(path)])
    assert result.exit_code == 78
    lines = [line.removeprefix("error: ") for line in result.output.splitlines()]
    assert [line.split(": ")[:2] for line in lines] == [
        [f"{path}:1", "stations"],
        [f"{path}:2", "picking.threshold_p"],
        [f"{path}:4", "redis.url"],
        [f"{path}:5", "loging"],
        [f"{path}:6", "seedlink.sever"],
    ]
    assert "did you mean 'log'" in lines[3]


def test_no_password_is_shown() -> None:
    text = shown("show-config", "--origin", MSNET_STREAM_REDIS__URL="redis://me:geheim@host:1/0")
    assert "geheim" not in text
    assert 'redis.url: "redis://me:***@host:1/0"' in text


def test_settings_can_be_explained() -> None:
    assert shown("show-config", "--explain") == example_yaml()


@pytest.fixture
def here(tmp_path: Path) -> Config:
    return Config.model_validate({"state_dir": str(tmp_path / "state")})


def test_a_healthy_host_has_nothing_that_fails(here: Config) -> None:
    """Folder, network and Redis are really tried; the broker started for it is gone afterwards."""
    findings = {finding.about: finding for finding in examine(here)}
    about = {"state folder", "clock", "allocator", "network", "redis", "seedlink", "systemd"}
    assert set(findings) == about
    wrong = [f for f in findings.values() if f.state is State.FAIL]
    assert not wrong
    assert all(f.remedy for f in findings.values() if f.state is State.WARN)
    assert not BrokerConfig(state_dir=here.state_dir).socket_path.exists()


def test_what_is_wrong_is_told_with_its_remedy_and_the_rest_is_still_checked(
    tmp_path: Path,
) -> None:
    config = tmp_path / "c.yaml"
    (tmp_path / "file").write_text("")
    config.write_text(
        f"state_dir: {tmp_path / 'file'}\nredis: {{url: 'redis://127.0.0.1:1'}}\n"
        f"picking: {{weights: {tmp_path / 'none.safetensors'}}}\n"
        "stations: [CI.*]\nseedlink: {servers: ['127.0.0.1:1']}\n"
    )
    result = CliRunner().invoke(main, ["doctor", "-c", str(config), "--json"])
    assert result.exit_code == 1
    findings = json.loads(result.output)
    states = {f["about"]: f["state"] for f in findings}
    assert all(f["remedy"] for f in findings if f["state"] != "ok")
    assert {about for about, state in states.items() if state == "fail"} == {
        "state folder",
        "network",
        "redis",
        "seedlink",
    }
    assert len(states) == 7


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_of_every_shell_is_for_this_program(shell: str) -> None:
    assert "_MSNET_STREAM_COMPLETE" in shown("completion", shell)


def unexplained(command: click.Command, name: str) -> list[str]:
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    missing = [f"{name} {option.opts[0]}" for option in options if not option.help]
    missing += [] if command.help else [name]
    for below, sub in getattr(command, "commands", {}).items():
        missing += unexplained(sub, f"{name} {below}")
    return missing


@pytest.mark.parametrize("program", [main, train_commands], ids=["msnet-stream", "msnet-train"])
def test_every_command_and_option_explains_itself(program: click.Command) -> None:
    assert unexplained(program, "") == []


def test_help_loads_nothing_heavy() -> None:
    """It answers at once: no torch, obspy, redis, numba or matplotlib is imported."""
    code = (
        "import sys, streamer.cli as c\n"
        "c.main(['--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'obspy', 'redis', 'numba', 'matplotlib', 'scipy', 'pydantic', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
