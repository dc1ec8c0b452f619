"""The units: complete, known to systemd, shut in, and without what an operator has written."""

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamer.cli import main
from streamer.errors import ConfigError
from streamer.systemd import UNITS, Place, configurations, install, render

# systemd's own scale, 0 (shut in) to 100 in tenths.
EXPOSURE_LIMIT = 20


def place(tmp_path: Path, *, shut_in: bool = True) -> Place:
    return Place(
        program=Path("/bin/true"),
        units=tmp_path / "units",
        config=tmp_path / "config",
        socket="/run/msnet-broker/redis.sock",
        shut_in=shut_in,
    )


@pytest.mark.parametrize("shut_in", [True, False])
def test_systemd_finds_nothing_to_complain_of(
    tmp_path: Path, systemd_analyze: str, shut_in: bool
) -> None:
    """No unknown key, no missing program, for the system and for a user."""
    written = install(place(tmp_path, shut_in=shut_in), "main")
    units = [str(path) for path in written if path.parent.name == "units"]
    environ = {"XDG_RUNTIME_DIR": str(tmp_path), "PATH": os.defpath}
    command = [systemd_analyze, "verify", *([] if shut_in else ["--user"]), *units]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert (result.returncode, result.stderr) == (0, "")


def test_system_units_are_shut_in(tmp_path: Path, systemd_analyze: str) -> None:
    """`systemd-analyze security` gives at most 2.0 of 10."""
    for path in install(place(tmp_path), "main"):
        if path.suffix == ".service":
            command = [
                systemd_analyze,
                "security",
                "--offline=true",
                f"--threshold={EXPOSURE_LIMIT}",
                path,
            ]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            assert result.returncode == 0, result.stdout[-400:]


@pytest.mark.parametrize("shut_in", [True, False])
def test_no_mark_of_the_templates_is_left(tmp_path: Path, shut_in: bool) -> None:
    units = render(place(tmp_path, shut_in=shut_in))
    assert set(units) == set(UNITS)
    assert not any("@BIN@" in text or "@HARDENING@" in text for text in units.values())


def test_configurations_of_the_operator_stay(tmp_path: Path) -> None:
    """Installing again renews the units only."""
    here = place(tmp_path)
    assert len(install(here, "main")) == len(UNITS) + len(configurations(here, "main"))
    (here.config / "main.yaml").write_text("stations: [CI.*]\n")
    assert {path.parent.name for path in install(here, "main")} == {"units"}
    assert (here.config / "main.yaml").read_text() == "stations: [CI.*]\n"


def test_a_first_configuration_is_read_without_errors(tmp_path: Path) -> None:
    here = place(tmp_path)
    install(here, "main")
    for name in configurations(here, "main"):
        result = CliRunner().invoke(main, ["check-config", str(here.config / name)])
        assert result.exit_code == 0, result.output


def test_a_program_that_a_system_unit_cannot_see_is_refused() -> None:
    with pytest.raises(ConfigError, match="/opt/msnet-stream"):
        render(Place.of_system(Path("/root/venv/bin/msnet-stream")))


def test_the_templates_lie_in_a_regular_package() -> None:
    """Of a namespace package an editable installation gives no folder."""
    spec = importlib.util.find_spec("deploy")
    assert spec is not None
    assert spec.origin is not None


def test_units_can_be_looked_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--print` writes nothing."""
    result = CliRunner().invoke(main, ["systemd", "install", "--user", "--print"])
    assert result.exit_code == 0
    assert result.output.count("[Unit]") == len(UNITS)


def test_an_abort_by_the_watchdog_leaves_the_stacks(tmp_path: Path) -> None:
    """Python prints them for SIGABRT only if it is told to."""
    watched = [text for text in render(place(tmp_path)).values() if "WatchdogSignal=" in text]
    assert len(watched) == 2
    assert all("Environment=PYTHONFAULTHANDLER=1\n" in text for text in watched)
