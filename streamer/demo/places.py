"""The events of the demo: what four stations tell of where its microearthquakes were.

The coordinates come with obspy too: io/nlloc/tests/data/nlloc_custom.hyp is a location by NonLinLoc
of an event half an hour later (16:56:24.61 UTC, 48.0471 N 11.6455 E, 4.6 km deep) with the places
of UH1 to UH4 in Gauss-Krueger coordinates, and nlloc_custom.qml has its hypocentre in degrees. The
velocities are the means along the rays of that file: hypocentral distance by travel time.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from streamer.association.message import Event
from streamer.association.network import Network
from streamer.association.offline import settled_events
from streamer.association.parameters import AssociationConfig, BestParameters
from streamer.association.pickfiles import from_message
from streamer.association.stations import Station
from streamer.association.velocity import LayeredModel
from streamer.export.event_formats import event_table
from streamer.picks import Pick
from streamer.section import event_groups
from streamer.timebase import iso

STATIONS = (
    Station("BW", "UH1", 48.0815, 11.6360, 0.4),
    Station("BW", "UH2", 48.0579, 11.6820, 0.4),
    Station("BW", "UH3", 48.0308, 11.6388, 0.4),
    Station("BW", "UH4", 48.0323, 11.5356, 0.4),
)
MODEL = LayeredModel.from_layers([(-1.0, 4.33, 2.32)])
DEEPEST_KM = 10.0
# With four stations an event is asked for no more than it takes to locate one.
RULES = BestParameters(
    least_p=3, least_s=1, least_picks=4, least_both=1, p_error_s=0.04, s_error_s=0.06,
    learn_statics=False,
)  # fmt: skip
UNKNOWNS = 4


def write_inventory(path: Path) -> Path:
    """The places as an inventory for the daemon."""
    rows = (f"{s.net},{s.sta},{s.lat},{s.lon},{s.elev_km}" for s in STATIONS)
    path.write_text("\n".join(["net,sta,lat,lon,elev_km", *rows]) + "\n")
    return path


def locate_demo(picks: Iterable[Pick]) -> list[Event]:
    """The events in the picks of the demo, by time.

    S is taken from UH3 only: on the others, which have a vertical alone, what looks like S comes
    earlier (converted to P below the station), and three of them outvote the one that is right.
    """
    usable = [pick for pick in picks if pick.phase == "P" or (pick.n_comp or 1) > 1]
    network = Network.build(STATIONS, MODEL, DEEPEST_KM)
    return settled_events(network, map(from_message, usable), AssociationConfig(best=RULES))


def tell_events(console: Console, events: Sequence[Event], picks: Sequence[Pick]) -> None:
    """Print the events with how far they can be trusted, and why the other ones have no place."""
    console.print(event_table(events, "Events located with four stations"))
    for event in events:
        for doubt in doubts(event):
            console.print(f"  {event.time[11:19]}: {doubt}")
    for group in event_groups(list(picks)):
        if not any(_shares(event, group) for event in events):
            console.print(f"  {iso(group[0].t_ns)[11:19]}: no location, {reason_against(group)}")
    console.print("± is one standard error, along the longer axis of the ellipse and in depth.")


def doubts(event: Event) -> list[str]:
    """What a seismologist would hold against the location."""
    found = []
    spare = len(event.arrivals) - UNKNOWNS
    if spare < 2:
        found.append(
            f"{len(event.arrivals)} picks for {UNKNOWNS} unknowns: the errors are those assumed of "
            f"the picks, {'one' if spare else 'no'} residual is left to check them"
        )
    if event.gap_deg > 180:
        found.append(f"outside the network (azimuthal gap {event.gap_deg:.0f} deg)")
    return found


def reason_against(group: Sequence[Pick]) -> str:
    """Why the picks of an event by the eye give no location."""
    n_p = len({pick.sta for pick in group if pick.phase == "P"})
    n_s = len({pick.sta for pick in group if pick.phase == "S" and (pick.n_comp or 1) > 1})
    if n_p < RULES.least_p or n_s < RULES.least_s:
        return (
            f"P at {n_p} stations and S with horizontals at {n_s}; it takes {RULES.least_p} and "
            f"{RULES.least_s}"
        )
    return "the picks do not fit one origin"


def _shares(event: Event, group: Sequence[Pick]) -> bool:
    ids = {arrival.pick_id for arrival in event.arrivals}
    return any(pick.id in ids for pick in group)
