"""The documents written by hand: their links, commands, settings and names are real."""

import contextlib
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest
import yaml

from streamer.cli import main as stream_commands
from streamer.config import Config, load_config
from streamer.config_text import settings
from streamer.errors import ConfigError
from streamer.log_events import EVENTS
from streamer.metrics import SERIES, WORKER_SERIES
from streamer.picks import Pick
from streamer.systemd import Place, install
from train.cli import main as train_commands

ROOT = Path(__file__).parents[2]
DOCS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
SETTINGS = [setting.key for setting in settings(Config())]
PROGRAMS = {"msnet-stream": stream_commands, "msnet-train": train_commands}


def blocks(*kinds: str) -> list[tuple[str, str]]:
    """Name of the document and text of every block of these kinds."""
    pattern = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    found = [(path.name, pattern.findall(path.read_text())) for path in DOCS]
    return [(name, text) for name, its in found for kind, text in its if kind in kinds]


def command_lines() -> Iterator[tuple[str, str]]:
    """Every call of a program of ours in the documents, with the name of the document."""
    for name, text in blocks("console", "sh", ""):
        for line in text.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|(?!\|)|;", line):
                call = re.match(r"\s*(?:sudo |\w+=\S+ )*(?:\S*/)?(msnet-(?:stream|train) .*)", part)
                if call:
                    yield name, call[1].strip()


def parse(words: list[str]) -> None:
    """Parse a command line to the end; raises click.UsageError if it would be refused."""
    command: click.Command = PROGRAMS[words.pop(0)]
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    assert not isinstance(command, click.Group) or words in (["--help"], ["--version"]), words
    with contextlib.suppress(click.exceptions.Exit):  # --help
        command.make_context(command.name, words)


def words_of(line: str) -> list[str]:
    """The words that the program gets: without comment, redirections and `&`."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="<>&")
    lexer.whitespace_split = True
    words = list(lexer)
    end = next((n for n, word in enumerate(words) if set(word) <= set("<>&")), len(words))
    return words[:end]


def test_every_command_in_the_documents_is_one_that_the_program_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = list(command_lines())
    assert len(lines) > 40
    refused = []
    for name, line in lines:
        try:
            parse(words_of(line))
        except (click.UsageError, AssertionError) as error:
            if "does not exist" not in str(error):  # a file of the reader
                refused.append(f"{name}: {line}: {error}")
    assert refused == []


@pytest.mark.parametrize(
    "line", ["msnet-stream rum", "msnet-stream run --severs x", "msnet-stream"]
)
def test_a_command_that_does_not_exist_is_found(line):
    with pytest.raises((click.UsageError, AssertionError)):
        parse(words_of(line))


def test_every_configuration_in_the_documents_is_valid(tmp_path):
    configurations = blocks("yaml")
    assert len(configurations) > 8
    wrong = []
    for number, (name, text) in enumerate(configurations):
        path = tmp_path / f"{number}-{name}.yaml"
        path.write_text(text)
        try:
            load_config(path, {}, {})
        except ConfigError as error:
            wrong.append(str(error))
    assert wrong == []


def test_every_json_in_the_documents_is_json():
    for _, text in blocks("json"):
        json.loads(text)


def test_every_relative_link_leads_somewhere():
    """Files are there, and a heading that a link names is one of theirs."""
    dead = []
    for path in DOCS:
        for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(path.read_text())):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            there = (path.parent / file).resolve() if file else path
            if not there.exists() or (anchor and anchor not in anchors(there.read_text())):
                dead.append(f"{path.name}: {target}")
    assert dead == []


def test_every_document_that_the_code_names_exists():
    named = {
        (path.relative_to(ROOT), name)
        for folder in ("streamer", "model", "train", "benchmarks", "deploy")
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in {".py", ".md", ".service", ".yaml", ".yml"}
        for name in re.findall(r"docs/[\w-]+\.(?:md|png|svg|py)", path.read_text())
    }
    assert len(named) > 10
    assert {pair for pair in named if not (ROOT / pair[1]).exists()} == set()


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_document_can_be_reached_from_the_list():
    listed = set(re.findall(r"\]\(([\w.-]+\.md)\)", (ROOT / "docs" / "README.md").read_text()))
    assert listed == {path.name for path in DOCS} - {"README.md"}
    assert "](docs/README.md)" in (ROOT / "README.md").read_text()


def test_every_alert_has_its_section_in_the_runbook():
    alerts = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
    names = [rule["alert"] for group in alerts["groups"] for rule in group["rules"]]
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    chapter = runbook.partition("\n## Alerts\n")[2].partition("\n## ")[0]
    assert re.findall(r"^### (\w+)$", chapter, re.MULTILINE) == names
    for section in chapter.split("\n### ")[1:]:
        for part in ("**Means**", "**Causes**", "**Look**", "**Do**"):
            assert part in section, f"{section.splitlines()[0]} lacks {part}"


@pytest.mark.parametrize("name", ["architecture.md", "reliability.md"])
def test_every_test_that_a_document_names_exists(name):
    """A promise whose test was renamed or removed is found."""
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / name).read_text()))
    there = {
        test
        for path in (ROOT / "tests").rglob("test_*.py")
        for test in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert named
    assert named - there == set()


def test_names_of_series_and_log_events_in_the_documents_exist():
    """`msnet_redis_up` and `event=redis_down`: what an operator would search for in vain."""
    series = {each.name for each in (*SERIES, *WORKER_SERIES)}
    units = "\n".join(path.read_text() for path in DOCS if path.name != "README.md")
    found = set(re.findall(r"\bmsnet_[a-z_]+[a-z]\b", units))
    suffix = re.compile(r"_(bucket|count|sum)$")
    assert {suffix.sub("", name) for name in found} - series <= {"msnet_stream"}
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    words = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", runbook))
    others = {key.rpartition(".")[2] for key in SETTINGS} | {field.name for field in fields(Pick)}
    assert words - set(EVENTS) - others - series == set()


def test_settings_in_the_documents_exist():
    """`redis.url` and the like, wherever the first word is a section."""
    sections = {name for key in SETTINGS for name in [key.partition(".")[0]] if "." in key}
    pattern = re.compile(rf"`((?:{'|'.join(sections)})(?:\.[a-z_]+)+)[`:]")
    unknown = [
        f"{path.name}: {name}"
        for path in DOCS
        if path.name != "configuration.md"  # generated; it has keys of items, too
        for name in pattern.findall(path.read_text())
        if ".sqlite" not in name
        if not any(key == name or key.startswith(f"{name}.") for key in SETTINGS)
    ]
    assert unknown == []


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        yield path
        return
    for name, below in command.commands.items():
        yield from leaves(below, (*path, name))


def in_readme() -> set[tuple[str, ...]]:
    """The commands that the table of README.md names; `trim` after `streams init` is of streams."""
    named = set()
    for cell in re.findall(r"^\| (`msnet-stream .*?) \|", (ROOT / "README.md").read_text(), re.M):
        group: tuple[str, ...] = ()
        for item in re.findall(r"`([^`]+)`", cell):
            words = item.removeprefix("msnet-stream ").split()
            path = tuple(
                word for word in words if re.fullmatch(r"[a-z-]+", word) and word[0] != "-"
            )
            if path[0] not in stream_commands.commands:
                path = (*group, *path)
            group = path[:-1]
            named.add(path)
    return named


def test_the_table_in_the_readme_names_every_command():
    assert in_readme() == set(leaves(stream_commands))


def test_drop_ins_in_the_documents_are_ones_that_systemd_takes(tmp_path, systemd_analyze):
    """`systemd-analyze verify` knows every key, and the unit is one with them."""
    units = tmp_path / "units"
    place = Place(program=Path("/bin/true"), units=units, config=tmp_path / "config",
                  socket="/run/x/redis.sock", shut_in=True)  # fmt: skip
    install(place, "main")
    drop_ins = [text for _, text in blocks("ini")]
    assert drop_ins
    for text in drop_ins:
        named = re.match(r"# /etc/systemd/system/([^/\s]+\.service)\.d/(\w+\.conf)", text)
        assert named, text
        folder = units / f"{named[1]}.d"
        folder.mkdir()
        (folder / named[2]).write_text(text)
        environ = {"XDG_RUNTIME_DIR": str(tmp_path), "PATH": os.defpath}
        command = [systemd_analyze, "verify", str(units / named[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
        assert (done.returncode, done.stderr) == (0, "")
