"""The handshake: commands of one client -> replies and, in the end, what it subscribed to.

Pure: `Handshake.handle` takes a command and returns the reply; INFO and BYE, which are allowed at
any time, belong to the session. v3 keeps the states of its documentation: without STATION the whole
server is one station and DATA starts the data phase at once ("uni-station mode").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from streamer.seedid import Nslc
from streamer.seedlink.catalogue import Catalogue
from streamer.seedlink.info import CAPABILITIES
from streamer.seedlink.protocol import (
    OK,
    Command,
    CommandError,
    Request,
    Selector,
    error_line,
    matches,
    parse_request_v3,
    parse_request_v4,
    parse_selector_v3,
    parse_selector_v4,
    selected,
    station_id,
    widen_sequence,
)

# What one client can make us keep: more than any network asks for station by station.
MAX_STATIONS = 4096
MAX_SELECTORS = 64

_VERSIONS_V3 = ("3.0", "3.1")
_VERSIONS_V4 = ("4.0",)


@dataclass(slots=True)
class Subscription:
    """One STATION with its SELECTs and its DATA; `pattern` of station ids, with `*` and `?`."""

    pattern: str
    selectors: list[Selector] = field(default_factory=list)
    request: Request = field(default_factory=Request)

    @property
    def has_wildcard(self) -> bool:
        """Does it name more than one station?"""
        return "*" in self.pattern or "?" in self.pattern


class Handshake:
    """State of one client from HELLO to the data phase (`ready`)."""

    def __init__(self, software: str, organisation: str, station_ids: Sequence[str]) -> None:
        self.v4 = False
        self.ready = False
        self.dial_up = False
        self.agent = ""
        self._software = software
        self._organisation = organisation
        self._station_ids = station_ids
        self._subscriptions: dict[str, Subscription] = {}
        self._current: Subscription | None = None
        self._multi_station = False
        self._batch = False
        self._extended = False

    @property
    def subscriptions(self) -> list[Subscription]:
        """In the order in which they claim stations: a station belongs to the first that matches.

        v4 takes them as sent; v3 lets a named station win over a wildcard.
        """
        subscriptions = list(self._subscriptions.values())
        return subscriptions if self.v4 else sorted(subscriptions, key=lambda s: s.has_wildcard)

    def refusal(self, error: CommandError) -> bytes:
        """The line that tells this client that its command was refused."""
        return error_line(error, self.v4, self._extended)

    def handle(self, command: Command) -> bytes:
        """Reply to a command, empty if it has none. Raises CommandError if it is refused."""
        handlers = self._handlers_v4() if self.v4 else self._handlers_v3()
        if command.name not in handlers:
            raise CommandError("UNSUPPORTED", f"unknown command {command.name[:20]}")
        silent = self._batch and command.name in ("STATION", "SELECT", "DATA", "FETCH", "TIME")
        try:
            reply = handlers[command.name](command)
        except CommandError as error:
            if silent and error.code != "LIMIT":
                return b""
            raise
        return b"" if silent else reply

    def _handlers_v3(self) -> dict[str, Callable[[Command], bytes]]:
        return {
            "HELLO": self._hello,
            "SLPROTO": self._slproto,
            "CAPABILITIES": self._capabilities,
            "BATCH": self._start_batch,
            "CAT": self._cat,
            "STATION": self._station_v3,
            "SELECT": self._select_v3,
            "DATA": self._data_v3,
            "FETCH": self._data_v3,
            "TIME": self._data_v3,
            "END": self._end,
        }

    def _handlers_v4(self) -> dict[str, Callable[[Command], bytes]]:
        return {
            "HELLO": self._hello,
            "SLPROTO": self._slproto,
            "USERAGENT": self._useragent,
            "STATION": self._station_v4,
            "SELECT": self._select_v4,
            "DATA": self._data_v4,
            "END": self._end,
            "ENDFETCH": self._end,
        }

    def _hello(self, command: Command) -> bytes:
        first = f"{self._software} :: {' '.join(CAPABILITIES)}"
        return f"{first}\r\n{self._organisation}\r\n".encode("ascii", errors="replace")

    def _slproto(self, command: Command) -> bytes:
        version = command.arguments[0] if len(command.arguments) == 1 else ""
        if version not in _VERSIONS_V3 + _VERSIONS_V4:
            raise CommandError("UNSUPPORTED", f"protocols are 3.1 and 4.0, not {version!r}")
        if self._multi_station:
            raise CommandError("UNEXPECTED", "SLPROTO must come before STATION")
        self.v4 = version in _VERSIONS_V4
        return OK

    def _capabilities(self, command: Command) -> bytes:
        self._extended = "EXTREPLY" in (name.upper() for name in command.arguments)
        return OK

    def _useragent(self, command: Command) -> bytes:
        self.agent = " ".join(command.arguments)
        return OK

    def _start_batch(self, command: Command) -> bytes:
        self._batch = True
        return OK

    def _cat(self, command: Command) -> bytes:
        lines = (" ".join(name.split("_", 1)) + "\r\n" for name in self._station_ids)
        return "".join(lines).encode("ascii", errors="replace") + b"END\r\n"

    def _station_v3(self, command: Command) -> bytes:
        if len(command.arguments) not in (1, 2):
            raise CommandError("ARGUMENTS", "expected STATION station [network]")
        station, network = (*command.arguments, "*")[:2]
        return self._subscribe(f"{network}_{station}")

    def _station_v4(self, command: Command) -> bytes:
        if len(command.arguments) != 1:
            raise CommandError("ARGUMENTS", "expected STATION NET_STA")
        return self._subscribe(command.arguments[0])

    def _subscribe(self, pattern: str) -> bytes:
        self._multi_station = True
        self._current = None  # up to the next STATION, what follows a refused one is refused
        if not any(matches(pattern, name) for name in self._station_ids):
            raise CommandError("ARGUMENTS", f"no station matches {pattern}")
        if len(self._subscriptions) >= MAX_STATIONS and pattern not in self._subscriptions:
            raise CommandError("LIMIT", f"at most {MAX_STATIONS} stations per connection")
        self._current = self._subscriptions.setdefault(pattern, Subscription(pattern))
        return OK

    def _subscription(self) -> Subscription:
        """The one that SELECT and DATA are about."""
        if self._current is None:
            if self._multi_station or self.v4:
                raise CommandError("UNEXPECTED", "no STATION was accepted before")
            self._current = Subscription("*")
        return self._current

    def _select_v3(self, command: Command) -> bytes:
        subscription = self._subscription()
        if not command.arguments:
            subscription.selectors.clear()
            return OK
        if len(command.arguments) > 1:
            raise CommandError("ARGUMENTS", "one selector per SELECT")
        return self._add(subscription, [parse_selector_v3(command.arguments[0])])

    def _select_v4(self, command: Command) -> bytes:
        subscription = self._subscription()
        if not command.arguments:
            raise CommandError("ARGUMENTS", "SELECT needs a selector")
        return self._add(subscription, [parse_selector_v4(text) for text in command.arguments])

    def _add(self, subscription: Subscription, selectors: list[Selector]) -> bytes:
        if len(subscription.selectors) + len(selectors) > MAX_SELECTORS:
            raise CommandError("LIMIT", f"at most {MAX_SELECTORS} selectors per station")
        subscription.selectors.extend(selectors)
        return OK

    def _data_v3(self, command: Command) -> bytes:
        subscription = self._subscription()
        subscription.request = parse_request_v3(command)
        self.dial_up = self.dial_up or subscription.request.dial_up
        if self._multi_station:
            return OK
        self._subscriptions["*"] = subscription
        self.ready = True
        return b""

    def _data_v4(self, command: Command) -> bytes:
        self._subscription().request = parse_request_v4(command)
        return OK

    def _end(self, command: Command) -> bytes:
        if not self._subscriptions:
            raise CommandError("UNEXPECTED", "no STATION was accepted before END")
        self.dial_up = self.dial_up or command.name == "ENDFETCH"
        self.ready = True
        return b""


class Plan:
    """Which records of a catalogue a client gets, from `start` up to `stop` (None: no end).

    `released` records are out when the data phase begins; `from_start` tells whether a DATA without
    a number means the earliest record or the next one.
    """

    def __init__(
        self, handshake: Handshake, catalogue: Catalogue, released: int, from_start: bool
    ) -> None:
        self._catalogue = catalogue
        # For each station the subscription that claims it and the first position wanted.
        self._claims: dict[str, tuple[Subscription, int]] = {}
        subscriptions = handshake.subscriptions
        earliest = from_start or handshake.dial_up
        for name in catalogue.station_ids:
            owner = next((each for each in subscriptions if matches(each.pattern, name)), None)
            if owner is not None:
                first = self._first(owner.request, handshake.v4, released, earliest)
                self._claims[name] = owner, first
        self._by_channel: dict[Nslc, tuple[Subscription, int] | None] = {}
        self.stations = sorted(self._claims)
        self.start = min((first for _, first in self._claims.values()), default=released)
        self.stop = self._stop(subscriptions, released if handshake.dial_up else None)

    def wants(self, position: int) -> bool:
        """Is this record to be sent?"""
        nslc = self._catalogue.nslc(position)
        if nslc not in self._by_channel:
            claim = self._claims.get(station_id(nslc))
            through = claim is not None and selected(claim[0].selectors, nslc)
            self._by_channel[nslc] = claim if through else None
        claim = self._by_channel[nslc]
        if claim is None:
            return False
        subscription, first = claim
        in_window = subscription.request.in_window(*self._catalogue.limits_ns(position))
        return position >= first and in_window

    def _first(self, request: Request, v4: bool, released: int, earliest: bool) -> int:
        catalogue = self._catalogue
        if request.sequence is not None:
            sequence = request.sequence
            if not v4:
                sequence = widen_sequence(sequence, catalogue.sequence(released) - 1)
            position = max(0, sequence - catalogue.first_sequence)
            if position <= len(catalogue):
                return position
            # "DATA": a number that this archive has never had may be taken as if not given.
        if request.everything or request.begin_ns is not None or earliest:
            return 0
        return released

    def _stop(self, subscriptions: list[Subscription], released: int | None) -> int | None:
        """Behind the last record that can still come; None if the session has no end."""
        if any(subscription.request.end_ns is None for subscription in subscriptions):
            return released
        last = len(self._catalogue) if released is None else released
        wanted = (position for position in range(last - 1, -1, -1) if self.wants(position))
        return next(wanted, -1) + 1
