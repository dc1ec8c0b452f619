"""What the page shows, kept in memory: the newest picks and events, and who wants to hear of more.

Pure: no sockets, no Redis. Everything is bounded; a listener that does not keep up is dropped and
comes back with the id of the last message it saw.
"""

import asyncio
import json
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MOST_PICKS = 2000
MOST_EVENTS = 500
_BACKLOG = 1000  # messages that one listener may be behind
_REPLAYED = 4000  # messages that one who comes back can be given again

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One server-sent event: `number` counts them, `kind` is pick, event or stations."""

    number: int
    kind: str
    data: Fields

    def text(self) -> str:
        """As the page receives it (HTML Living Standard, 9.2.5)."""
        return f"id: {self.number}\nevent: {self.kind}\ndata: {json.dumps(self.data)}\n\n"


class Board:
    """The newest state of each pick and event, and of all stations."""

    def __init__(self) -> None:
        self.picks: OrderedDict[str, Fields] = OrderedDict()
        self.events: OrderedDict[str, Fields] = OrderedDict()
        self.stations: dict[str, Fields] = {}
        self._sent: deque[Message] = deque(maxlen=_REPLAYED)
        self._count = 0
        self._listeners: set[asyncio.Queue[Message | None]] = set()

    def add_pick(self, pick: Fields) -> None:
        """A message `msnet.pick/1`; one that is not newer than what is known is ignored."""
        self._add(self.picks, pick, "rev", MOST_PICKS, "pick")

    def add_event(self, event: Fields) -> None:
        """A message `msnet.event/1`, `arrivals` as a list."""
        self._add(self.events, event, "version", MOST_EVENTS, "event")

    def set_stations(self, stations: Mapping[str, Fields]) -> None:
        """The state of all stations."""
        self.stations = dict(stations)
        self._tell("stations", self.stations)

    def snapshot(self) -> dict[str, Any]:
        """All that a page needs to begin with, and the number of the last message in it."""
        return {
            "number": self._count,
            "stations": self.stations,
            "picks": list(self.picks.values()),
            "events": list(self.events.values()),
        }

    async def listen(self, after: int) -> AsyncIterator[Message]:
        """Messages after number `after`, those that come included; ends if the listener lags."""
        queue: asyncio.Queue[Message | None] = asyncio.Queue(_BACKLOG)
        self._listeners.add(queue)
        try:
            for message in self._missed(after):
                yield message
            while (message_or_end := await queue.get()) is not None:
                yield message_or_end
        finally:
            self._listeners.discard(queue)

    def close(self) -> None:
        """End all listeners."""
        for queue in self._listeners:
            _end(queue)

    def _missed(self, after: int) -> Iterator[Message]:
        return iter([message for message in self._sent if message.number > after])

    def _add(
        self, kept: "OrderedDict[str, Fields]", new: Fields, revision: str, most: int, kind: str
    ) -> None:
        known = kept.get(new["id"])
        if known is not None and int(known[revision]) >= int(new[revision]):
            return
        kept[new["id"]] = new
        while len(kept) > most:
            kept.popitem(last=False)
        self._tell(kind, new)

    def _tell(self, kind: str, data: Fields) -> None:
        self._count += 1
        message = Message(self._count, kind, data)
        self._sent.append(message)
        for queue in list(self._listeners):
            if queue.full():
                self._listeners.discard(queue)
                _end(queue)
            else:
                queue.put_nowait(message)


def _end(queue: "asyncio.Queue[Message | None]") -> None:
    while queue.full():
        queue.get_nowait()
    queue.put_nowait(None)
