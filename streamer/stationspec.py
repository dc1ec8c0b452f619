"""Which channels the user wants: patterns on the command line, in the configuration or in a file.

A text is one of

    CI.PASC.00.HHZ  CI.*  NO..HH?  *.*.00.[HB]H?  !CI.BAD   NET.STA.LOC.CHA; what is left out is `*`
    IU_KONO:BHE BHN  IU_ANMO:00BH?  GE_WLF  XX_A:--HHZ      slinktool's NET_STA:selectors
    @stations.xml  stations.txt  -                          a list in a file or on standard input

or several of the first two joined by commas. Lists are recognised by their content: StationXML,
FDSN station text, CSV with a header, or one station per line as slinktool writes it. Codes are
never read as numbers or booleans: `NO` is Norway and `00` a location.
"""

import csv
import heapq
import io
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, TextIO

from streamer.errors import ConfigError, NoInputError
from streamer.seedid import Nslc

BLANK_LOCATION = "--"  # how slinktool and FDSN web services write an empty location code

_PART = re.compile(r"(?:[A-Z0-9*?-]|\[!?[A-Z0-9-]+\])*")
_WILDCARD = re.compile(r"[*?\[]")
_SELECTOR = re.compile(r"(?P<loc>--|[A-Z0-9?]{2})?(?P<cha>[A-Z0-9?]{3})(?:\.D)?")
_CLASS = re.compile(r"\[[^]]*\]")
_SUGGEST_FOR = 20  # patterns looked at for suggestions: a list of thousands would take minutes
_HEAD_BYTES = 512  # enough to see whether a list is XML
_COLUMNS = {
    "network": ("network", "net"),
    "station": ("station", "sta"),
    "location": ("location", "loc"),
    "channel": ("channel", "cha", "chan"),
}


@dataclass(frozen=True, slots=True)
class StationPattern:
    """Shell patterns for the four codes; `exclude` takes away what other patterns ask for."""

    network: str
    station: str = "*"
    location: str = "*"
    channel: str = "*"
    exclude: bool = False

    @property
    def is_exact(self) -> bool:
        """Whether it names a single channel."""
        return not _WILDCARD.search(self.network + self.station + self.location + self.channel)

    def matches(self, nslc: Nslc) -> bool:
        """Whether all four codes fit, whatever `exclude` says."""
        return (
            fnmatchcase(nslc.network, self.network)
            and fnmatchcase(nslc.station, self.station)
            and fnmatchcase(nslc.location, self.location)
            and fnmatchcase(nslc.channel, self.channel)
        )

    def __str__(self) -> str:
        codes = f"{self.network}.{self.station}.{self.location}.{self.channel}"
        return f"!{codes}" if self.exclude else codes


@dataclass(frozen=True)
class StationSpec:
    """What the user asked for: the union of the patterns, less the union of the negated ones.

    With negated patterns only, everything else is meant.
    """

    patterns: tuple[StationPattern, ...]

    def matches(self, nslc: Nslc) -> bool:
        """Whether the channel is wanted."""
        wanted = nslc in self._exact or any(p.matches(nslc) for p in self._wild)
        return wanted and not any(p.matches(nslc) for p in self._excluded)

    def nearest(self, names: Iterable[str], n: int = 5) -> list[str]:
        """At most `n` of the existing `names` most like what was asked for, best first.

        `names` are `NET.STA` or longer; they are cut to as many codes as were asked for.
        """
        asked = [str(p).removesuffix(".*").removesuffix(".*") for p in self._included]
        asked = asked[:_SUGGEST_FOR]
        depth = max(text.count(".") for text in asked) + 1
        existing = {".".join(name.split(".")[:depth]) for name in names}

        def likeness(name: str) -> float:
            return max(SequenceMatcher(None, text, name).ratio() for text in asked)

        return heapq.nlargest(n, sorted(existing), key=likeness)

    @cached_property
    def _included(self) -> tuple[StationPattern, ...]:
        return tuple(p for p in self.patterns if not p.exclude) or (StationPattern("*"),)

    @cached_property
    def _excluded(self) -> tuple[StationPattern, ...]:
        return tuple(p for p in self.patterns if p.exclude)

    @cached_property
    def _exact(self) -> frozenset[Nslc]:
        # A StationXML names thousands of channels one by one: a set answers for all at once.
        return frozenset(
            Nslc(p.network, p.station, p.location, p.channel) for p in self._included if p.is_exact
        )

    @cached_property
    def _wild(self) -> tuple[StationPattern, ...]:
        return tuple(p for p in self._included if not p.is_exact)

    def __str__(self) -> str:
        return ",".join(map(str, self.patterns))


def parse_station_spec(texts: Sequence[str], stdin: TextIO | None = None) -> StationSpec:
    """The spec that `texts` describe together; `stdin` is what the text `-` reads.

    Raises ConfigError on a malformed text or list and when nothing is asked for, NoInputError when
    a list cannot be read. Both name the text, and in a list the line.
    """
    patterns = [pattern for text in texts for pattern in _expand(text.strip(), stdin)]
    if not patterns:
        raise ConfigError(
            "no stations are given: name some as NET.STA.LOC.CHA, such as CI.PASC.*.HH?"
        )
    return StationSpec(tuple(dict.fromkeys(patterns)))


def parse_patterns(text: str) -> tuple[StationPattern, ...]:
    """The patterns of one text without commas, files or standard input. Raises ConfigError."""
    exclude = text.startswith("!")
    codes = text.removeprefix("!")
    try:
        parsed = _slinktool(codes) if "_" in codes else [_dotted(codes)]
        if exclude and any(p.exclude for p in parsed):
            raise ValueError("it is negated twice")
    except ValueError as error:
        raise ConfigError(
            f"station pattern {text!r}: {error}; write NET.STA.LOC.CHA with * ? [..] in upper case,"
            " NET_STA:selectors, or the path of an existing list"
        ) from None
    return tuple(
        StationPattern(p.network, p.station, p.location, p.channel, exclude != p.exclude)
        for p in parsed
    )


def _expand(text: str, stdin: TextIO | None) -> Iterator[StationPattern]:
    path = text.removeprefix("@")
    if text == "-":
        if stdin is None:
            raise ConfigError("station list '-': standard input is not available here")
        yield from _read_list(io.BytesIO(stdin.read().encode()), "standard input")
    elif os.path.isfile(path):  # unlike Path.is_file, False for a list too long to be a path
        yield from _read_file(Path(path))
    elif "," in text:
        for part in filter(None, map(str.strip, text.split(","))):
            yield from _expand(part, stdin)
    elif text.startswith("@") or "/" in text:
        raise NoInputError(f"station list {path}: no such file")
    else:
        yield from parse_patterns(text)


def _dotted(text: str) -> StationPattern:
    parts = text.split(".")
    if not text or len(parts) > 4:
        raise ValueError("it has no part" if not text else "it has more than four parts")
    for part in parts:
        if not _PART.fullmatch(part):
            raise ValueError(f"{part!r} cannot be part of a code")
    if len(parts) == 3 and len(_CLASS.sub("?", parts[2])) == 3 and "*" not in parts[2]:
        parts.insert(2, "*")  # three letters can only be a channel: NET.STA.CHA
    network, station, location, channel = parts + ["*"] * (4 - len(parts))
    if location == BLANK_LOCATION:
        location = ""
    return StationPattern(network or "*", station or "*", location, channel or "*")


def _slinktool(text: str) -> list[StationPattern]:
    name, _, selectors = text.partition(":")
    network, _, station = name.partition("_")
    return _select(network, station, selectors.split())


def _select(network: str, station: str, selectors: Sequence[str]) -> list[StationPattern]:
    if not (network and station and _PART.fullmatch(network) and _PART.fullmatch(station)):
        raise ValueError(f"{network}_{station} is not NET_STA")
    chosen = [_selector(network, station, text) for text in selectors]
    if all(p.exclude for p in chosen):
        chosen.insert(0, StationPattern(network, station))
    return chosen


def _selector(network: str, station: str, text: str) -> StationPattern:
    match = _SELECTOR.fullmatch(text.removeprefix("!"))
    if match is None:
        raise ValueError(f"selector {text!r} is not LLCCC or CCC")
    location, channel = match["loc"] or "*", match["cha"]
    if location == BLANK_LOCATION:
        location = ""
    return StationPattern(network, station, location, channel, text.startswith("!"))


def _read_file(path: Path) -> Iterator[StationPattern]:
    try:
        with path.open("rb") as stream:
            yield from _read_list(stream, str(path))
    except OSError as error:
        raise NoInputError(f"station list {path}: {error.strerror or error}") from error


def _read_list(stream: BinaryIO, name: str) -> Iterator[StationPattern]:
    head = stream.read(_HEAD_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
    stream.seek(0)
    if head.startswith(b"<"):
        yield from _station_xml(stream, name)
        return
    try:
        lines = stream.read().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(f"station list {name}: neither text nor StationXML") from error
    titles = lines[0].lower() if lines else ""
    if re.match(r"#\s*network\s*\|", titles):
        # Site names hold stray quotation marks: the format knows no quoting.
        yield from _table(csv.DictReader(lines, delimiter="|", quoting=csv.QUOTE_NONE), name)
    elif "," in titles and {"net", "network"} & set(re.split(r'[\s",]+', titles)):
        yield from _table(csv.DictReader(lines), name)
    else:
        yield from _stream_list(lines, name)


def _table(rows: "csv.DictReader[str]", name: str) -> Iterator[StationPattern]:
    """Rows under a header; a column that is absent means `*`."""
    titles = {title.strip().lstrip("# ").lower(): title for title in rows.fieldnames or () if title}
    column = {
        code: next((titles[alias] for alias in aliases if alias in titles), None)
        for code, aliases in _COLUMNS.items()
    }
    for row in rows:
        codes = [_cell(row, column[code]) for code in _COLUMNS]
        if codes[0].startswith("#"):
            continue  # the header again, where files were joined
        try:
            if not (codes[0] and codes[1]):
                raise ValueError("the row has no network or no station")
            yield _dotted(".".join(codes))
        except ValueError as error:
            raise ConfigError(f"station list {name}:{rows.line_num}: {error}") from None


def _cell(row: Mapping[str, str | None], title: str | None) -> str:
    return "*" if title is None else (row[title] or "").strip()


def _stream_list(lines: Iterable[str], name: str) -> Iterator[StationPattern]:
    """`NET STA sel...`, `NET_STA sel...` or a pattern per line; `#` and `*` begin a comment."""
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0][0] in "#*":
            continue
        try:
            if "_" in words[0] and ":" not in words[0]:
                network, _, station = words[0].partition("_")
                yield from _select(network, station, words[1:])
            elif len(words) > 1 and not re.search(r"[._]", words[0]):
                yield from _select(words[0], words[1], words[2:])
            else:
                yield from parse_patterns(line.strip())
        except (ValueError, ConfigError) as error:
            raise ConfigError(f"station list {name}:{number}: {error}") from None


def _station_xml(stream: BinaryIO, name: str) -> Iterator[StationPattern]:
    """Every channel of a StationXML; all of a station without channels, of a network alone."""
    network = station = ""
    stations = channels = 0
    try:
        for number, (event, element) in enumerate(ET.iterparse(stream, ("start", "end"))):
            tag = element.tag.rpartition("}")[2]
            if number == 0 and tag != "FDSNStationXML":
                raise ConfigError(f"station list {name}: the XML is {tag}, not FDSNStationXML")
            match event, tag:
                case "start", "Network":
                    network, stations = element.attrib["code"], 0
                case "start", "Station":
                    station, channels = element.attrib["code"], 0
                    stations += 1
                case "start", "Channel":
                    channels += 1
                    location, channel = element.attrib["locationCode"], element.attrib["code"]
                    yield StationPattern(network, station, location.strip(), channel)
                case "end", "Station" if channels == 0:
                    yield StationPattern(network, station)
                case "end", "Network" if stations == 0:
                    yield StationPattern(network)
            if event == "end" and tag in {"Channel", "Station", "Network"}:
                element.clear()  # responses are large: a whole network must not pile up in memory
    except ET.ParseError as error:
        raise ConfigError(f"station list {name}: broken XML: {error}") from error
    except KeyError as error:
        raise ConfigError(f"station list {name}: an element has no attribute {error}") from error
