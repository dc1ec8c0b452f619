"""Options that several commands have, and what they lead to."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from streamer.config import Config

ExistingPath = click.Path(path_type=Path)


def config_option(command: Any) -> Any:
    """The options every command with a configuration has."""
    command = click.option(
        "-c",
        "--config",
        "config_path",
        type=ExistingPath,
        envvar="MSNET_STREAM_CONFIG",
        help="YAML configuration; see deploy/msnet-stream.example.yaml.",
    )(command)
    return click.option(
        "--log-level", type=click.Choice(["debug", "info", "warning", "error"]),
        help="Least level logged to standard error.",
    )(command)  # fmt: skip


def model_option(command: Any) -> Any:
    """`--model`, where a network picks."""
    return click.option(
        "--model", metavar="seisbench:CLASS/WEIGHTS",
        help="Pick with a network of SeisBench, as seisbench:PhaseNet/original.",
    )(command)  # fmt: skip


def load(path: Path | None, overrides: dict[str, object]) -> "Config":
    """The configuration from file, options and environment. Raises ConfigError."""
    import os

    from streamer.config import load_config

    return load_config(path, overrides, os.environ)


def configured(path: Path | None, log_level: str | None, overrides: dict[str, object]) -> "Config":
    """The configuration, once logging is set up by it. Raises ConfigError."""
    from streamer.log import configure_logging

    config = load(path, {**overrides, "log.level": log_level})
    configure_logging(config.log.level, config.log.format)
    return config


def viewer_options(command: Any) -> Any:
    """The options of commands that only read Redis."""
    command = click.option("--redis", metavar="URL", help="Server to read; embedded: by default.")(
        command
    )
    command = click.option("--state-dir", type=ExistingPath, help="Folder of the embedded broker.")(
        command
    )
    return config_option(command)


def viewed(
    config_path: Path | None,
    log_level: str | None,
    redis: str | None,
    state_dir: Path | None,
    agency: str | None = None,
) -> "Config":
    """The configuration of a command that only reads Redis."""
    overrides: dict[str, object] = {
        "redis.url": redis,
        "state_dir": state_dir,
        "agency": agency,
    }
    return configured(config_path, log_level or "warning", overrides)
