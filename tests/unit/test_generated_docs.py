"""What the documents take from the code is what the code says now."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
from generate import PAGES, exit_codes, generated  # noqa: E402

from streamer.config import Config, load_config  # noqa: E402


@pytest.fixture(scope="module")
def texts():
    return generated()


@pytest.mark.parametrize("name", PAGES)
def test_each_file_is_what_the_code_gives(texts, name):
    path = ROOT / name
    there = path.read_text() if path.exists() else ""
    assert there == texts[name], f"{name} is not what the code says: run `make docs`"


def test_every_setting_has_a_row_and_its_variable_works(texts, monkeypatch):
    page = texts["docs/configuration.md"]
    assert "`MSNET_STREAM_REDIS__EMBEDDED__PORT` | whole number >= 1, <= 65535 or null" in page
    config = load_config(None, {}, {"MSNET_STREAM_REDIS__EMBEDDED__PORT": "7000"})
    assert config.redis.embedded.port == 7000
    for section in type(Config()).model_fields:
        assert f"`{section}`" in page or f"\n## {section}" in page
    assert "`waveforms.sampling[].mode` | resample, native | required" in page


def test_exit_codes_are_those_of_the_errors():
    from streamer.errors import ConfigError, StolenError

    assert {0, 1, 2, 130, 143, ConfigError.exit_code, StolenError.exit_code} <= set(exit_codes())
    chapter = (ROOT / "README.md").read_text().partition("\n## Exit codes\n")[2]
    told = re.findall(r"\b\d+\b", chapter.partition("\n## ")[0])
    assert [int(code) for code in told] == list(exit_codes())


def test_the_man_page_is_one(texts):
    """groff has nothing to say against it, and the text of an option is in what it prints."""
    if shutil.which("groff") is None:
        pytest.skip("no groff here")
    command = ["groff", "-man", "-ww", "-Tascii"]
    text = texts["deploy/man/msnet-stream.1"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "Least probability of a P pick." in done.stdout


def test_the_man_page_hides_no_line_from_roff():
    """A line of text that begins with a dot would be taken for a request and vanish."""
    from manpage import escaped

    assert escaped(".5 s") == "\\&.5 s"
    assert escaped("a-b\\n") == "a\\-b\\en"
