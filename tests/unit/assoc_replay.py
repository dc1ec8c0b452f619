"""Picks as a stream brings them: late, shuffled, twice; through the window of the worker."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from streamer.association.message import Event, latest_events
from streamer.association.parameters import AssociationConfig
from streamer.association.store import Store
from streamer.association.window import Window
from streamer.picks import Pick

RULES = AssociationConfig(lateness_s=2.0, retention_s=3600.0)


def message(row, made_ns=None, **changes):
    """The pick message of a row, made a second after the onset."""
    made_ns = row.t_ns + 10**9 if made_ns is None else made_ns
    pick = Pick(
        id=row.id, rev=0, status="new", net=row.code[0], sta=row.code[1], loc="", cha="HHZ",
        phase=row.phase, t_ns=row.t_ns, prob=row.prob, model="test", model_sha="0", cfg="0",
        agency="XX", author="test", data_ns=made_ns, made_ns=made_ns, amp=row.amp, amp_unit="mm",
    )  # fmt: skip
    return replace(pick, **changes)


def make_window(network, store=None, rules=RULES):
    return Window(store or Store(None), network, rules)


@contextmanager
def transaction(window):
    with window._store.transaction():
        yield
        window.save()


def feed(window, picks, lag_s=12.0, batch=50):
    """The picks in the given order; all that were made `lag_s` before the newest are known."""
    newest_ns = window.watermark_ns
    for start in range(0, len(picks), batch):
        with transaction(window):
            for pick in picks[start : start + batch]:
                window.take(pick, pick.made_ns)
                newest_ns = max(newest_ns, pick.made_ns)
            while window.advance(newest_ns - round(lag_s * 1e9)):
                pass


def finish(window, until_ns):
    """Everything is known up to a time far enough behind the last pick."""
    more = True
    while more:
        with transaction(window):
            more = window.advance(until_ns)


def told(window) -> list[Event]:
    """All messages so far, in order."""
    return [Event.from_fields(row.to_fields()) for row in window._store.unsent(10**6)]


def anonymous(events):
    """Events without what depends on how they came to be known."""
    return [replace(event, id="", version=1, status="final") for event in events]


def catalogue(window):
    """What a reader of all messages has in the end."""
    return anonymous(latest_events(told(window)))


def delayed(rows, rng, mean_s=2.0):
    """Messages in order of publication, some seconds after the onsets; a tenth of them twice."""
    late_s = 0.5 + rng.exponential(mean_s, len(rows))
    picks = [message(row, row.t_ns + round(s * 1e9)) for row, s in zip(rows, late_s, strict=True)]
    again = [pick for pick in picks if rng.random() < 0.1]
    return sorted(picks + again, key=lambda pick: (pick.made_ns, pick.id))


def far(rows):
    """A time when all is settled."""
    return int(np.max([row.t_ns for row in rows])) + 3600 * 10**9
