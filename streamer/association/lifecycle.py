"""Versions of events: which solution is a new state of which event, and what is told of it.

`preliminary` (version 1), `updated`, `final`, `amended` when later picks changed it after that, or
`retracted`. An event keeps the id of its first version whatever becomes of its origin; a solution
is the same event if they share picks. Each version is told once.
"""

from collections.abc import Iterable, Iterator, Set
from dataclasses import replace

from streamer.association.message import Event, Status
from streamer.association.store import Known, Store

# An event keeps its id if the new solution has as many of its picks.
SHARED_PICKS = 3
SETTLED_STATUS = ("final", "amended")


class Ledger:
    """The last version of each event of late, kept in the store with every change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Known] = {}
        self._owner: dict[str, str] = {}  # pick id -> event id, of events that stand
        self._of_block: dict[int, set[str]] = {}
        self._of_number: dict[int, str] = {}
        for known in store.events():
            self._index(known)

    def standing(self) -> Iterator[Known]:
        """All events that are not retracted."""
        return (known for known in self._known.values() if _stands(known))

    def preliminaries(self) -> list[Known]:
        """The events that no block has had yet."""
        return [self._known[name] for name in sorted(self._of_number.values())]

    def get(self, name: str) -> Known:
        """An event by its id."""
        return self._known[name]

    def of_block(self, block: int) -> list[Known]:
        """The events that the last run of a block had."""
        return [self._known[name] for name in sorted(self._of_block.get(block, ()))]

    def of_number(self, number: int) -> Known | None:
        """The event published of an open event."""
        name = self._of_number.get(number)
        return None if name is None else self._known[name]

    def match(self, pick_ids: Iterable[str], claimed: Set[str]) -> Known | None:
        """The event with the most of these picks, unless it is claimed already."""
        shared: dict[str, int] = {}
        for pick_id in pick_ids:
            name = self._owner.get(pick_id)
            if name is not None and name not in claimed:
                shared[name] = shared.get(name, 0) + 1
        best = max(shared, key=lambda name: (shared[name], name), default=None)
        if best is None or shared[best] < SHARED_PICKS:
            return None
        return self._known[best]

    def preliminary(self, event: Event, number: int) -> Known:
        """Publish the state of an open event."""
        known = self.of_number(number)
        status: Status = "preliminary" if known is None else "updated"
        return self._publish(event, status, known, block=None, number=number)

    def settled(self, event: Event, known: Known | None, block: int) -> Known:
        """Publish what a block's run says of an event, unless that is known."""
        if known is not None and known.event.status in SETTLED_STATUS:
            if _same(event, known.event):
                known = self._replace(Known(known.event, block, None))
                self._store.put_event(known)
                return known
            return self._publish(event, "amended", known, block, None)
        return self._publish(event, "final", known, block, None)

    def retract(self, known: Known) -> None:
        """Publish that there is no such event."""
        event = known.event
        self._publish(event, "retracted", known, None, None)

    def forget(self, before_ns: int) -> None:
        """Drop events of before a time (the store drops its own)."""
        for known in [k for k in self._known.values() if k.event.t_ns < before_ns]:
            self._unindex(known)

    def _publish(
        self, event: Event, status: Status, known: Known | None, block: int | None,
        number: int | None,
    ) -> Known:  # fmt: skip
        name, version = event.id, 1
        if known is None:
            name, version = self._new_name(event.id)
        else:
            name, version = known.event.id, known.event.version + 1
        event = replace(event, id=name, version=version, status=status)
        known = self._replace(Known(event, block, number))
        self._store.send(known)
        return known

    def _new_name(self, name: str) -> tuple[str, int]:
        """The id and version of a new event; one that was retracted may come back."""
        candidate = name
        for suffix in range(1, 1000):
            known = self._known.get(candidate)
            if known is None:
                return candidate, 1
            if not _stands(known):
                return candidate, known.event.version + 1
            candidate = f"{name}{suffix}"
        raise AssertionError(f"a thousand events have the id {name}")

    def _replace(self, known: Known) -> Known:
        old = self._known.get(known.event.id)
        if old is not None:
            self._unindex(old)
        self._index(known)
        return known

    def _index(self, known: Known) -> None:
        name = known.event.id
        self._known[name] = known
        if not _stands(known):
            return
        for arrival in known.event.arrivals:
            self._owner[arrival.pick_id] = name
        if known.block is not None:
            self._of_block.setdefault(known.block, set()).add(name)
        if known.number is not None:
            self._of_number[known.number] = name

    def _unindex(self, known: Known) -> None:
        name = known.event.id
        del self._known[name]
        for arrival in known.event.arrivals:
            if self._owner.get(arrival.pick_id) == name:
                del self._owner[arrival.pick_id]
        if known.block is not None:
            names = self._of_block.get(known.block, set())
            names.discard(name)
            if not names:
                self._of_block.pop(known.block, None)
        if known.number is not None:
            self._of_number.pop(known.number, None)


def _stands(known: Known) -> bool:
    return known.event.status != "retracted"


def _same(event: Event, published: Event) -> bool:
    renamed = replace(event, id=published.id, version=published.version, status=published.status)
    return renamed == published
