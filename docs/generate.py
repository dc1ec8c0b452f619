"""Writes what is told by the code: `python docs/generate.py`, or `make docs`.

Commands and options, settings, metrics, log events, exit codes, the man page, and the example of a
configuration. A test compares each file with what this gives.
"""

import inspect
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, cast, get_args, get_origin

import click
from manpage import man_page
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from streamer import __version__, errors
from streamer.cli import main as stream_commands
from streamer.config import ENV_PREFIX, Config, example_yaml
from streamer.config_text import Setting, settings
from streamer.log_events import EVENTS
from streamer.metrics import SERIES, WORKER_SERIES, Series
from train.cli import main as train_commands

ROOT = Path(__file__).parents[1]
BY_HAND = "Written by `docs/generate.py` from the code: do not edit."

# Exit codes that are no error of ours.
OTHER_CODES = {
    0: "Done; for a service: stopped by a signal, with everything published or in the spool.",
    2: "Wrong usage: the line tells the option. `status`: critical, as Nagios has it.",
    130: "A second SIGINT: ended at once.",
    143: "A second SIGTERM: ended at once.",
}


def generated() -> Mapping[str, str]:
    """The text of every generated file, by its path in the repository."""
    return {name: make() for name, make in PAGES.items()}


def commands_page() -> str:
    """Every command of both programs with its options, and the exit codes."""
    parts = [
        "# Commands",
        BY_HAND,
        "`-c`, `--config` names the configuration ([configuration.md](configuration.md)), as the"
        " variable `MSNET_STREAM_CONFIG` does. In a terminal: `msnet-stream COMMAND --help`,"
        " `man msnet-stream`.",
    ]
    for program, root in (("msnet-stream", stream_commands), ("msnet-train", train_commands)):
        for path, context in walk(program, root):
            parts += command_parts(path, context)
    return page(parts + exit_code_parts())


def walk(
    path: str, command: click.Command, parent: click.Context | None = None
) -> Iterator[tuple[str, click.Context]]:
    """A command and all below it, in the order in which `--help` lists them."""
    context = click.Context(command, parent, info_name=path, **command.context_settings)
    yield path, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from walk(f"{path} {name}", command.commands[name], context)


def command_parts(path: str, context: click.Context) -> Iterator[str]:
    """Heading, usage, meaning and options of one command."""
    command = context.command
    yield f"{'#' * (2 + path.count(' '))} {path}"
    yield f"`{path} {' '.join(command.collect_usage_pieces(context))}`"
    yield inspect.cleandoc(command.help or "")
    lines = [f"- `{names}`: {' '.join(told.split())}" for names, told in option_records(context)]
    if lines:
        yield "\n".join(lines)


def option_records(context: click.Context) -> Iterator[tuple[str, str]]:
    """Names and meaning of each option, but for `--help`."""
    for param in context.command.params:
        record = param.get_help_record(context) if isinstance(param, click.Option) else None
        if record is not None:
            yield record


def exit_codes() -> dict[int, str]:
    """Every exit code with its meaning."""
    found = {}
    for error in vars(errors).values():
        if inspect.isclass(error) and issubclass(error, errors.MsnetError):
            found[error.exit_code] = (error.__doc__ or "").split("\n")[0]
    found[errors.MsnetError.exit_code] = (
        "A failure without a better code; `doctor`: something is wrong; `status`: warning."
    )
    return dict(sorted((found | OTHER_CODES).items()))


def exit_code_parts() -> list[str]:
    """The table of exit codes."""
    rows = [(str(code), meaning) for code, meaning in exit_codes().items()]
    return ["## Exit codes", table(("code", "meaning"), rows)]


def configuration_page() -> str:
    """Every setting, a table for each section."""
    parts = [
        "# Configuration",
        BY_HAND,
        "One YAML file (`-c`), the same for all commands. A setting is taken from the first of:"
        " command line, environment, file, default. `msnet-stream check-config FILE` reports all"
        " errors at once with their lines, `msnet-stream show-config --origin` tells where each"
        " value comes from, and [the example](../deploy/msnet-stream.example.yaml) has every key"
        " with its default.",
        "Codes need no quotes: `NO`, `ON` and `00` stay text. A list in the environment is one text"
        " with commas. Secrets are no settings: [security.md](security.md).",
    ]
    rows: dict[str, list[tuple[str, ...]]] = {}
    for setting in settings(Config()):
        section = ".".join(map(str, setting.where[:-1]))
        rows.setdefault(section, []).extend(setting_rows(setting))
    for section, its_rows in rows.items():
        if section:
            parts += [f"## {section}", inspect.cleandoc(section_meaning(section))]
        parts.append(table(("setting", "allowed", "default", "meaning"), its_rows))
    return page(parts)


def section_meaning(section: str) -> str:
    """The docstring of a section's model."""
    model: object = Config()
    for name in section.split("."):
        model = getattr(model, name)
    return type(model).__doc__ or ""


def setting_rows(setting: Setting) -> Iterator[tuple[str, ...]]:
    """The row of a setting, and those of the keys of its items if it is a list of sections."""
    below = [each for each in flat(setting.field.annotation) if is_section(each)]
    variable = ENV_PREFIX + setting.key.replace(".", "__").upper()
    named = f"`{setting.key}`" + ("" if below else f"<br>`{variable}`")
    # A default that depends on the host is told by the meaning.
    default = "" if setting.field.default_factory else f"`{setting.text}`"
    yield named, allowed(setting.field), default, setting.field.description or ""
    for model in below:
        for name, field in cast(type[BaseModel], model).model_fields.items():
            key = f"{setting.key}{'[]' if setting.text.startswith('[') else ''}.{name}"
            default = "required" if field.is_required() else f"`{field.default}`"
            yield f"`{key}`", allowed(field), default, field.description or ""


def is_section(kind: object) -> bool:
    """Whether it is a model with keys of its own."""
    return inspect.isclass(kind) and issubclass(kind, BaseModel)


def flat(kind: object) -> Iterator[object]:
    """A type without its unions, tuples and annotations: what its parts are."""
    if get_origin(kind) in {Union, types.UnionType, tuple} or hasattr(kind, "__metadata__"):
        for part in get_args(kind):
            yield from flat(part)
    else:
        yield kind


def allowed(field: FieldInfo) -> str:
    """`auto, 3, 4` or `number > 0, < 1`."""
    kinds = list(flat(field.annotation))
    words = {bool: "true, false", int: "whole number", float: "number", Path: "path", str: "text"}
    choices = [str(c) for each in kinds if get_origin(each) is Literal for c in get_args(each)]
    told = ", ".join(choices) or next((words[k] for k in words if k in kinds), "section")
    if get_origin(field.annotation) is tuple or "tuple" in str(field.annotation):
        told = "list"
    bounds = "" if choices else Setting((), field, None).allowed.strip("()")
    return f"{told} {bounds}".strip() + (" or null" if type(None) in kinds else "")


def metrics_page() -> str:
    """Every exported series."""

    def rows(series: Iterable[Series]) -> list[tuple[str, ...]]:
        return [
            (f"`{s.name}`", s.kind, ", ".join(s.labels), s.meaning[0].upper() + s.meaning[1:] + ".")
            for s in series
        ]

    heading = ("series", "kind", "labels", "meaning")
    return page([
        "# Metrics",
        BY_HAND,
        "`msnet-stream run` serves them at `metrics.listen` (http://127.0.0.1:9108/metrics). A"
        " station is an instrument: network, station, location code, band and instrument code. Data"
        " latency is SeisComP's \"delay\", feed latency its \"latency\". Alerts:"
        " [runbook.md](runbook.md); Prometheus and Grafana: [deployment.md](deployment.md).",
        table(heading, rows(SERIES)),
        "`msnet-stream associate` serves these at `metrics.worker` (http://127.0.0.1:9109/metrics):",
        table(heading, rows(WORKER_SERIES)),
    ])  # fmt: skip


def log_events_page() -> str:
    """Every name that `event` has in the log."""
    rows = [
        (f"`{name}`", meaning[0].upper() + meaning[1:] + ".") for name, meaning in EVENTS.items()
    ]
    return page([
        "# Log events",
        BY_HAND,
        "Every line has an `event` of this list, a `level`, a time in UTC, and fields such as"
        " `station`. At most five lines a minute of one event and station are written; how many"
        " were left out is in `suppressed`. `log.format: json` gives one JSON object a line.",
        table(("event", "meaning"), rows),
    ])  # fmt: skip


def manual() -> str:
    """The man page of msnet-stream, all commands on one page."""
    commands = [
        (path, context.command.collect_usage_pieces(context),
         inspect.cleandoc(context.command.help or ""), list(option_records(context)))
        for path, context in walk("msnet-stream", stream_commands)
    ]  # fmt: skip
    return man_page(__version__, commands, exit_codes())


def table(heads: tuple[str, ...], rows: list[Any]) -> str:
    """A table of Markdown."""
    lines = [heads, ("---",) * len(heads), *rows]
    cells = ([" ".join(cell.split()).replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def page(parts: list[str]) -> str:
    """Paragraphs as one text."""
    return "\n\n".join(part for part in parts if part) + "\n"


PAGES: Mapping[str, Callable[[], str]] = {
    "docs/commands.md": commands_page,
    "docs/configuration.md": configuration_page,
    "docs/metrics.md": metrics_page,
    "docs/log-events.md": log_events_page,
    "deploy/man/msnet-stream.1": manual,
    "deploy/msnet-stream.example.yaml": example_yaml,
}


def write() -> None:
    """Write what has changed, and say so."""
    for name, text in generated().items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            sys.stdout.write(f"wrote {name}\n")


if __name__ == "__main__":
    write()
