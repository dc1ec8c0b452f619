"""Log output, its rate limit, and the closed list of event names."""

import ast
import io
import json
import logging
import os
from pathlib import Path

import pytest
import structlog

from streamer.log import LINES_PER_MINUTE, RateLimit, configure_logging
from streamer.log_events import EVENTS

STREAMER = Path(__file__).parents[2] / "streamer"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


@pytest.fixture
def configure():
    """configure_logging, undone after the test."""
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    root.handlers = []
    yield configure_logging
    root.level, root.handlers = before
    structlog.reset_defaults()


def logged(configure, **options):
    """The text that two events and a foreign record leave, one of them below the level."""
    stream = options.setdefault("stream", io.StringIO())
    configure("info", **{"environ": {}} | options)
    log = structlog.get_logger()
    log.debug("too_low")
    log.warning("station_silent", station="CI.PASC", path=Path("/x"))
    logging.getLogger("obspy").error("foreign %d", 1)
    stream.seek(0)
    return stream.read()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_away_from_a_terminal_each_event_is_a_json_line(configure):
    ours, foreign = map(json.loads, logged(configure).splitlines())
    assert ours.pop("timestamp").endswith("Z")
    assert ours == {
        "event": "station_silent",
        "level": "warning",
        "station": "CI.PASC",
        "path": "/x",
    }
    assert (foreign["event"], foreign["level"], foreign["logger"]) == (
        "foreign 1",
        "error",
        "obspy",
    )


def test_on_a_terminal_events_are_coloured_unless_no_color_is_set(configure):
    assert "\x1b[" in logged(configure, stream=Terminal())
    text = logged(configure, stream=Terminal(), environ={"NO_COLOR": "1"})
    assert "\x1b[" not in text
    assert "station=CI.PASC" in text


def test_logfmt_begins_with_time_level_and_event(configure):
    first = logged(configure, format="logfmt").splitlines()[0]
    assert first.startswith("timestamp=")
    assert first.endswith("level=warning event=station_silent station=CI.PASC path=/x")


def test_an_exception_is_one_line_of_json_with_its_traceback(configure):
    stream = io.StringIO()
    configure(stream=stream, environ={})
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("step_failed")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["exception"].endswith("ValueError: broken")


def test_journald_gets_priorities_only_on_the_stream_it_names(configure, tmp_path):
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        lines = logged(configure, stream=stream, environ=environ).splitlines()
    assert [line[:4] for line in lines] == ["<4>{", "<3>{"]
    with (tmp_path / "elsewhere").open("w+") as stream:
        assert logged(configure, stream=stream, environ=environ).startswith("{")


class Limited:
    """A rate limit with a clock that is set by hand."""

    def __init__(self):
        self.now_s = 1000.0
        self._limit = RateLimit(lambda: self.now_s)

    def passes(self, event="gap", **values):
        """The event as it goes on, or None."""
        try:
            return self._limit(None, "info", {"event": event, **values})
        except structlog.DropEvent:
            return None


def test_status_lines_pass_however_short_their_interval_is_set():
    limited = Limited()
    assert all(limited.passes("status") for _ in range(3 * LINES_PER_MINUTE))


def test_five_lines_a_minute_pass_and_the_next_says_how_many_did_not():
    limited = Limited()
    passed = [limited.passes(station="CI.PASC") for _ in range(LINES_PER_MINUTE + 3)]
    assert [event is not None for event in passed] == [True] * 5 + [False] * 3
    limited.now_s += 60 / LINES_PER_MINUTE
    assert limited.passes(station="CI.PASC") == {
        "event": "gap",
        "station": "CI.PASC",
        "suppressed": 3,
    }
    limited.now_s += 60
    assert "suppressed" not in limited.passes(station="CI.PASC")


def test_stations_channels_and_events_do_not_share_their_limit():
    limited = Limited()
    while limited.passes(station="CI.PASC"):
        pass
    assert limited.passes(station="CI.USC")
    assert limited.passes(nslc="CI.PASC.00.HHZ")
    assert limited.passes("overlap", station="CI.PASC")
    assert not limited.passes(station="CI.PASC")


def test_long_silence_saves_up_no_more_than_five_lines():
    limited = Limited()
    limited.passes()
    limited.now_s += 86_400
    assert sum(limited.passes() is not None for _ in range(10)) == LINES_PER_MINUTE


def test_memory_of_the_rate_limit_is_bounded_and_forgets_the_longest_unused(monkeypatch):
    monkeypatch.setattr("streamer.log._MAX_BUCKETS", 2)
    limited = Limited()
    for station in ("A", "B"):
        while limited.passes(station=station):
            pass
    assert limited.passes(station="C")
    assert not limited.passes(station="B")
    assert limited.passes(station="A"), "A was forgotten when C came, and starts anew"


def _logged_names():
    """(file:line, event name or None where it is no constant) of every log call in streamer/."""
    for path in sorted(STREAMER.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            logger = ast.unparse(node.func.value)
            if node.func.attr in LEVELS and logger.endswith(("log", "logger", "get_logger()")):
                event = node.args[0] if node.args else None
                name = event.value if isinstance(event, ast.Constant) else None
                yield f"{path.relative_to(STREAMER)}:{node.lineno}", name


def test_every_event_has_a_constant_name_from_the_list():
    unknown = {where: name for where, name in _logged_names() if name not in EVENTS}
    assert not unknown, "add them to streamer/log_events.py with their meaning"


def test_every_event_of_the_list_is_logged_somewhere():
    assert not set(EVENTS) - {name for _, name in _logged_names()}


def test_every_event_is_snake_case_and_has_a_meaning():
    for name, meaning in EVENTS.items():
        assert name == name.lower()
        assert name.isidentifier()
        assert len(meaning.split()) > 2, name
