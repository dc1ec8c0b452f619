"""Settled events with their places among a relocated catalogue that stays: while they come."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import structlog

from streamer.association.message import Event, latest_events
from streamer.association.network import Network
from streamer.association.parameters import RelocationParameters
from streamer.association.tables import Rejections, read_text
from streamer.errors import DataError

log = structlog.get_logger()

Relocate = Callable[[Event], Event]


def relocator(network: Network, rules: RelocationParameters) -> Relocate:
    """What adds `relocation` to an event that has neighbours in the catalogue of the settings.

    A function of the event alone, so that an event settled again is told again only if it changed.
    Raises NoInputError, DataError.
    """
    if rules.catalogue is None:
        return lambda event: event
    from streamer.association.relocate import DoubleDifference  # and with it scipy

    engine = DoubleDifference(network, rules)
    reference = engine.reference(read_events(rules.catalogue))
    errors = reference.errors
    log.info(
        "relocation_catalogue", events=len(reference.catalogue.events),
        own=errors.own.round(2).tolist(), shared=errors.shared.round(2).tolist(),
        range_km=round(errors.range_km, 3),
    )  # fmt: skip

    def relocated(event: Event) -> Event:
        place = engine.relocation(event, reference)
        return event if place is None else replace(event, relocation=place)

    return relocated


def read_events(path: Path) -> list[Event]:
    """The newest version of each event that stands, by time; lines that are none are counted.

    Raises NoInputError, and DataError if no line is an event.
    """
    rejections = Rejections(path)
    messages = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            try:
                messages.append(Event.from_json(line))
            except DataError as error:
                rejections.add(str(error).split(":")[0], number)
    rejections.report()
    if not messages and rejections.counts:
        raise DataError(f"{path}: no line is an event ({rejections.summary()})")
    return latest_events(messages)
