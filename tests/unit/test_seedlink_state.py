"""The cut of the order of arrival: what is behind it is needed no more, and nothing else is."""

import pytest

from streamer.seedlink.state import EPOCH_SHARE, Ledger, Need, Position
from streamer.timebase import NS_PER_S

SERVER = "server:18000"


class Arrivals:
    """A ledger that packets of one second each go into, and what is needed of each source."""

    def __init__(self, resumed: dict[str, dict[str, Position]] | None = None) -> None:
        self.ledger = Ledger(resumed or {}, {})
        self.needs: dict[str, Need | None] = {}
        self.at_s = 0.0

    def packet(
        self,
        station: str,
        number: int,
        end_s: int | None,
        server: str = SERVER,
        started: str = "",
    ) -> None:
        """One with data up to `end_s`, or without data; each in an epoch of its own."""
        self.at_s += 1000
        time_ns = None if end_s is None else (end_s - 1) * NS_PER_S
        self.ledger.note(server, station, number, time_ns, round(self.at_s * NS_PER_S), started)
        if end_s is not None:
            self.ledger.note_data(station, station, end_s * NS_PER_S)

    def need(self, station: str, from_s: float, *, holds: bool = True) -> None:
        self.needs[station] = Need(round(from_s * NS_PER_S), holds)

    def numbers(self, server: str = SERVER) -> dict[str, int | None]:
        self.ledger.advance(lambda source: self.needs.get(source, Need(0, holds=True)))
        return {name: at.sequence for name, at in self.ledger.positions()[server].items()}


def test_the_cut_is_behind_the_data_that_are_needed():
    arrivals = Arrivals()
    for number in range(1, 6):
        arrivals.packet("A", number, end_s=number)
    arrivals.need("A", 3)
    assert arrivals.numbers() == {"A": 3}
    assert arrivals.ledger.positions()[SERVER]["A"].time_ns == 2 * NS_PER_S
    arrivals.need("A", 2.9)
    assert arrivals.numbers() == {"A": 3}
    arrivals.need("A", 5)
    assert arrivals.numbers() == {"A": 5}
    assert arrivals.ledger.epochs == 0


def test_a_station_that_needs_its_data_holds_all_that_arrived_later():
    arrivals = Arrivals()
    for number in range(1, 7, 2):
        arrivals.packet("A", number, end_s=number)
        arrivals.packet("B", number + 1, end_s=number)
    arrivals.need("A", 100)
    arrivals.need("B", 1)
    assert arrivals.numbers() == {"A": 3, "B": 2}


def test_before_its_first_packet_is_safe_a_station_begins_with_that_packet():
    arrivals = Arrivals()
    arrivals.packet("A", 7, end_s=1)
    assert arrivals.numbers() == {"A": 6}
    assert arrivals.ledger.positions()[SERVER]["A"].time_ns == 0


def test_a_new_station_does_not_ask_for_a_newer_packet_than_the_cut():
    """Servers that number all stations together would begin there for all of them."""
    arrivals = Arrivals()
    arrivals.packet("A", 10, end_s=1)
    arrivals.packet("A", 11, end_s=2)
    arrivals.packet("B", 12, end_s=2)
    assert arrivals.numbers() == {"A": 9, "B": 9}
    arrivals.need("A", 1)
    assert arrivals.numbers() == {"A": 10, "B": 10}


def test_a_new_station_with_numbers_of_its_own_begins_with_its_first():
    arrivals = Arrivals()
    arrivals.packet("A", 70_000, end_s=1)
    arrivals.packet("B", 3, end_s=1)
    arrivals.need("A", 1)
    assert arrivals.numbers() == {"A": 70_000, "B": 2}


def test_the_order_of_numbers_goes_across_the_wrap_of_version_3():
    arrivals = Arrivals()
    arrivals.packet("A", 0xFFFFFE, end_s=1)
    arrivals.packet("A", 0xFFFFFF, end_s=2)
    arrivals.packet("B", 0, end_s=2)
    arrivals.need("A", 1)
    assert arrivals.numbers() == {"A": 0xFFFFFE, "B": 0xFFFFFE}


def test_a_silent_station_holds_only_its_own_position():
    """Where stations are numbered separately its last data come again and nothing is lost."""
    arrivals = Arrivals()
    arrivals.packet("A", 1, end_s=1)
    arrivals.packet("A", 2, end_s=2)
    arrivals.packet("B", 3, end_s=2)
    arrivals.packet("B", 4, end_s=3)
    arrivals.need("A", 1, holds=False)
    arrivals.need("B", 3)
    assert arrivals.numbers() == {"A": 1, "B": 4}


def test_what_needs_no_data_is_in_nobodys_way():
    """Packets without a waveform, and instruments that are not picked."""
    arrivals = Arrivals()
    arrivals.packet("A", 1, end_s=None)
    arrivals.packet("B", 2, end_s=5)
    arrivals.needs["B"] = None
    assert arrivals.numbers() == {"A": 1, "B": 2}


def test_positions_of_other_servers_and_stations_stay():
    old = Position(5, 0)
    arrivals = Arrivals({"other:18000": {"A": old}, SERVER: {"Z": old}})
    arrivals.packet("A", 9, end_s=1)
    arrivals.need("A", 1)
    assert arrivals.numbers() == {"Z": 5, "A": 9}
    assert arrivals.numbers("other:18000") == {"A": 5}


def test_a_station_that_was_resumed_keeps_its_position_until_the_cut_passes():
    arrivals = Arrivals({SERVER: {"A": Position(8, 0)}})
    arrivals.packet("A", 9, end_s=1)
    assert arrivals.numbers() == {"A": 8}
    arrivals.need("A", 1)
    assert arrivals.numbers() == {"A": 9}


def test_numbers_of_a_server_that_started_again_are_kept_apart():
    """Behind the cut the old ones hold, and with them when the server had started."""
    arrivals = Arrivals()
    arrivals.packet("A", 50_000, end_s=1, started="May")
    arrivals.packet("B", 50_001, end_s=1, started="May")
    arrivals.packet("A", 1, end_s=2, started="June")
    arrivals.need("A", 1)
    arrivals.need("B", 1)
    assert arrivals.numbers() == {"A": 50_000, "B": 50_001}
    assert arrivals.ledger.started == {SERVER: "May"}
    arrivals.need("A", 2)
    assert arrivals.numbers() == {"A": 1, "B": None}
    assert arrivals.ledger.positions()[SERVER]["B"].time_ns == 0
    assert arrivals.ledger.started == {SERVER: "June"}


@pytest.mark.parametrize("held_s", [100, 3600, 86_400])
def test_few_epochs_are_held_however_long_the_cut_stands_still(held_s):
    """In a steady state some EPOCH_SHARE; up to there their number grows like the logarithm."""
    ledger = Ledger({}, {})
    for number in range(held_s * 2):
        ledger.note(SERVER, "A", number, None, number * NS_PER_S // 2)
        ledger.note_data("A", "A", number)
    assert ledger.epochs < 12 * EPOCH_SHARE


def test_a_clock_that_is_set_back_does_not_stop_the_epochs():
    ledger = Ledger({}, {})
    for number, at_s in enumerate([1000, 1001, 10, 11, 12, 13]):
        ledger.note(SERVER, "A", number, None, at_s * NS_PER_S)
        ledger.note_data("A", "A", at_s)
    assert ledger.epochs == 6
