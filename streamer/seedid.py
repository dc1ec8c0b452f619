"""FDSN channel identifiers: NET.STA.LOC.CHA and the parts the picker groups by.

Tuples, as they are keys of what is looked up for each record.
"""

from typing import NamedTuple


class Nslc(NamedTuple):
    """One channel: `location` may be empty, `channel` is band + instrument + component (HHZ)."""

    network: str
    station: str
    location: str
    channel: str

    @classmethod
    def parse(cls, text: str) -> "Nslc":
        """From `NET.STA.LOC.CHA` (`NET.STA..CHA` for an empty location). Raises ValueError."""
        parts = text.split(".")
        if len(parts) != 4 or not parts[0] or not parts[1] or not parts[3]:
            raise ValueError(f"not a NET.STA.LOC.CHA code: {text!r}")
        return cls(*parts)

    @property
    def component(self) -> str:
        """Orientation code: Z, N, E, 1, 2 ..."""
        return self.channel[-1:]

    @property
    def instrument(self) -> "Instrument":
        """The instrument this channel belongs to."""
        return Instrument(self.network, self.station, self.location, self.channel[:-1])

    def __str__(self) -> str:
        return f"{self.network}.{self.station}.{self.location}.{self.channel}"


class Instrument(NamedTuple):
    """The channels that form one input of the network: one location, one band + instrument."""

    network: str
    station: str
    location: str
    band_instrument: str

    def channel(self, component: str) -> Nslc:
        """The channel of this instrument with the given component code."""
        return Nslc(self.network, self.station, self.location, self.band_instrument + component)

    def __str__(self) -> str:
        return f"{self.network}.{self.station}.{self.location}.{self.band_instrument}"
