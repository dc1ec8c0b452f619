"""SeedLink lines, globs and 24-bit numbers for any input."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streamer.seedlink.protocol import (
    CommandError,
    LineSplitter,
    matches,
    parse_command,
    parse_request_v3,
    parse_request_v4,
    parse_selector_v3,
    parse_selector_v4,
    widen_sequence,
)

LINES = st.lists(st.from_regex(rb"[A-Z0-9 ?*_.!:,\xff-]{0,40}", fullmatch=True), max_size=8)


@given(LINES, st.sampled_from([b"\r", b"\n", b"\r\n"]), st.lists(st.integers(1, 30)))
def test_commands_do_not_depend_on_how_the_bytes_arrive(
    lines: list[bytes], end: bytes, cuts: list[int]
) -> None:
    """Any chunking of the same bytes gives the same commands."""
    data = b"".join(line + end for line in lines)
    splitter, commands = LineSplitter(), []
    for cut in cuts:
        commands += splitter.feed(data[:cut])
        data = data[cut:]
    commands += splitter.feed(data)
    assert commands == [parse_command(line) for line in lines if line.strip()]


@given(st.binary(max_size=255))
def test_no_bytes_can_do_more_than_be_refused(data: bytes) -> None:
    """Whatever a peer sends, parsing ends in a value or in a refusal with a code of v4."""
    codes = set()
    for command in LineSplitter().feed(data):
        codes |= {_refusal(parse, command) for parse in (parse_request_v3, parse_request_v4)}
        for text in command.arguments:
            codes |= {_refusal(parse, text) for parse in (parse_selector_v3, parse_selector_v4)}
    assert codes <= {"", "ARGUMENTS", "UNSUPPORTED"}


def _refusal(parse: Callable[[Any], object], argument: object) -> str:
    try:
        parse(argument)
    except CommandError as refusal:
        return refusal.code
    return ""


@given(st.text("AB_?*", max_size=8), st.text("AB_", max_size=8))
def test_globs_mean_what_they_mean_in_a_shell(pattern: str, text: str) -> None:
    """`*` and `?` as in fnmatch."""
    assert matches(pattern, text) == fnmatchcase(text, pattern)


@given(st.integers(0, 1 << 40), st.integers(-(1 << 23), 1))
def test_a_24_bit_number_finds_its_record_again(newest: int, back: int) -> None:
    """Any of the last 2**23 numbers, and the next one, are found by their low 24 bits."""
    sequence = max(0, newest + back)
    assert widen_sequence(sequence & 0xFFFFFF, newest) == sequence
