"""Picks and events as obspy has them, and through it QuakeML 1.2, SeisComP XML, NonLinLoc phases.

Resource ids are `smi:AGENCY/pick/ID`, `smi:AGENCY/event/ID`, `smi:AGENCY/origin/ID/VERSION`: a pick
or event has the same on every host and in every export.
"""

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import obspy
from obspy.core import event as quake

from streamer import __version__
from streamer.association.geodesy import KM_PER_DEG
from streamer.association.message import Arrival, Event, Relocation
from streamer.picks import Pick

# Half axes of one standard error enclose this much of a normal distribution in the plane, %.
ELLIPSE_CONFIDENCE = 100 * (1 - math.exp(-0.5))
SEISCOMP_VERSION = "0.12"  # read by SeisComP 5 and later
# What NonLinLoc is told of a pick whose uncertainty is unknown, s.
UNKNOWN_UNCERTAINTY_S = 0.1
_NOT_IN_ID = re.compile(r"[^\w\-.*()+?~'=,;#/&]")
_EVENT_STATUS = {
    "preliminary": "preliminary", "updated": "preliminary", "final": "final", "amended": "final",
    "retracted": "rejected",
}  # fmt: skip


CatalogueFormat = Literal["quakeml", "seiscomp", "nonlinloc"]


def as_text(catalogue: quake.Catalog, name: CatalogueFormat) -> str:
    """QuakeML 1.2 (BED), SeisComP XML (SCML), or a NonLinLoc phase file with a block per event."""
    if name == "quakeml":
        return _written(catalogue, "QUAKEML")
    if name == "seiscomp":
        # The event that only holds picks would be an empty one in a database.
        located = any(event.origins for event in catalogue)
        return _written(
            catalogue, "SCML", version=SEISCOMP_VERSION, event_removal=not located
        )  # fmt: skip
    return "\n".join(_nonlinloc(event) for event in catalogue)


def _nonlinloc(event: quake.Event) -> str:
    """One block. A pick without uncertainty gets one: 0 would have all the weight there is."""
    for pick in event.picks:
        if pick.time_errors.uncertainty is None:
            pick.time_errors.uncertainty = UNKNOWN_UNCERTAINTY_S
    return _written(quake.Catalog([event]), "NLLOC_OBS")


def pick_catalogue(picks: Sequence[Pick], agency: str) -> quake.Catalog:
    """A catalogue of one event without origin that holds all the picks: QuakeML has no other way.

    `agency` names the catalogue; each pick has its own.
    """
    holder = quake.Event(
        resource_id=_id(agency, "event", f"picks-{picks[0].id}" if picks else "no-picks"),
        picks=[obspy_pick(pick) for pick in picks],
    )
    return _catalogue([holder], agency)


def event_catalogue(
    events: Iterable[Event], agency: str, picks: Mapping[str, Pick] | None = None
) -> quake.Catalog:
    """A catalogue of the events with their picks; `picks` by id, where their messages are known.

    Of the others is written what an arrival tells: station, phase, time and probability.
    """
    return _catalogue([_event(event, agency, picks or {}) for event in events], agency)


def obspy_pick(pick: Pick) -> quake.Pick:
    """The pick with all that its message tells."""
    comments = [f"probability {pick.prob:.4f}"]
    comments += [f"signal-to-noise ratio {pick.snr:g}"] if pick.snr is not None else []
    comments += [f"quality {pick.qual}"] if pick.qual else []
    name = _id(pick.agency, "pick", pick.id)
    return quake.Pick(
        resource_id=name,
        time=obspy.UTCDateTime(ns=pick.t_ns),
        time_errors=quake.QuantityError(uncertainty=pick.t_unc),
        waveform_id=quake.WaveformStreamID(pick.net, pick.sta, pick.loc or None, pick.cha),
        phase_hint=pick.phase,
        polarity={"up": "positive", "down": "negative"}.get(pick.pol or ""),
        method_id=_id(pick.agency, "picker", f"{pick.model}-{pick.model_sha}"),
        evaluation_mode="automatic",
        evaluation_status="rejected" if pick.status == "retract" else
        "confirmed" if pick.final else "preliminary",
        comments=_comments(name, comments),
        creation_info=quake.CreationInfo(
            agency_id=pick.agency,
            author=pick.author,
            creation_time=obspy.UTCDateTime(ns=pick.made_ns),
            version=str(pick.rev),
        ),
    )  # fmt: skip


def _pick_of_arrival(arrival: Arrival, agency: str) -> quake.Pick:
    name = _id(agency, "pick", arrival.pick_id)
    return quake.Pick(
        resource_id=name,
        time=obspy.UTCDateTime(arrival.time),
        waveform_id=quake.WaveformStreamID(arrival.net, arrival.sta),
        phase_hint=arrival.phase,
        evaluation_mode="automatic",
        comments=_comments(name, [f"probability {arrival.prob:.4f}"]),
    )


def _event(event: Event, agency: str, picks: Mapping[str, Pick]) -> quake.Event:
    known = [picks.get(arrival.pick_id) for arrival in event.arrivals]
    its_picks = [
        obspy_pick(pick) if pick else _pick_of_arrival(arrival, agency)
        for pick, arrival in zip(known, event.arrivals, strict=True)
    ]
    origin = _origin(event, agency, its_picks)
    relocated = _relocated(event, event.relocation, agency) if event.relocation else None
    magnitude = _magnitude(event, agency, origin)
    return quake.Event(
        resource_id=_id(agency, "event", event.id),
        picks=its_picks,
        origins=[origin, relocated] if relocated else [origin],
        preferred_origin_id=origin.resource_id,
        magnitudes=[magnitude] if magnitude else [],
        preferred_magnitude_id=magnitude.resource_id if magnitude else None,
        creation_info=_made(event, agency),
    )


def _magnitude(event: Event, agency: str, origin: quake.Origin) -> quake.Magnitude | None:
    if event.mag is None:
        return None
    return quake.Magnitude(
        resource_id=_id(agency, "magnitude", f"{event.id}/{event.version}"),
        mag=event.mag,
        mag_errors=quake.QuantityError(uncertainty=event.mag_spread),
        magnitude_type=event.mag_type,
        station_count=event.mag_stations,
        origin_id=origin.resource_id,
        evaluation_mode="automatic",
        creation_info=_made(event, agency),
    )


def _made(event: Event, agency: str) -> quake.CreationInfo:
    return quake.CreationInfo(
        agency_id=agency, author=f"msnet-stream/{__version__}", version=str(event.version)
    )


def _place(at: Event | Relocation) -> dict[str, object]:
    """The members of an origin that say where it was."""
    km_per_deg_lon = KM_PER_DEG * max(math.cos(math.radians(at.lat)), 1e-6)
    return {
        "time_errors": quake.QuantityError(uncertainty=at.time_error_s),
        "latitude": at.lat,
        "latitude_errors": quake.QuantityError(uncertainty=at.lat_error_km / KM_PER_DEG),
        "longitude": at.lon,
        "longitude_errors": quake.QuantityError(uncertainty=at.lon_error_km / km_per_deg_lon),
        "depth": 1000 * at.depth_km,
        "depth_errors": quake.QuantityError(uncertainty=1000 * at.depth_error_km),
        "depth_type": "from location",
    }


def _relocated(event: Event, place: Relocation, agency: str) -> quake.Origin:
    """Where double differences place it, with errors relative to its neighbours only.

    So it is not the preferred origin, to which arrivals and magnitude belong.
    """
    name = _id(agency, "origin", f"{event.id}/{event.version}/relocated")
    relative = (
        f"errors relative to {place.neighbours} neighbours in a relocated catalogue, "
        f"{place.gain:g} times smaller than without them"
    )
    return quake.Origin(
        resource_id=name,
        time=obspy.UTCDateTime(place.time),
        **_place(place),
        method_id=_id(agency, "relocation", "double-difference"),
        evaluation_mode="automatic",
        evaluation_status=_EVENT_STATUS[event.status],
        comments=_comments(name, [relative]),
        creation_info=_made(event, agency),
    )


def _origin(event: Event, agency: str, picks: Sequence[quake.Pick]) -> quake.Origin:
    return quake.Origin(
        resource_id=_id(agency, "origin", f"{event.id}/{event.version}"),
        time=obspy.UTCDateTime(ns=event.t_ns),
        **_place(event),
        method_id=_id(agency, "association", event.profile),
        evaluation_mode="automatic",
        evaluation_status=_EVENT_STATUS[event.status],
        origin_uncertainty=quake.OriginUncertainty(
            preferred_description="uncertainty ellipse",
            max_horizontal_uncertainty=1000 * event.major_error_km,
            min_horizontal_uncertainty=1000 * event.minor_error_km,
            azimuth_max_horizontal_uncertainty=event.major_azimuth_deg,
            confidence_level=ELLIPSE_CONFIDENCE,
        ),
        quality=_quality(event),
        arrivals=[
            _arrival(arrival, pick, _id(agency, "arrival", f"{event.id}/{event.version}/{number}"))
            for number, (arrival, pick) in enumerate(zip(event.arrivals, picks, strict=True), 1)
        ],
        creation_info=_made(event, agency),
    )


def _quality(event: Event) -> quake.OriginQuality:
    used = [arrival for arrival in event.arrivals if arrival.weight > 0]
    away_deg = sorted(arrival.distance_km / KM_PER_DEG for arrival in event.arrivals)
    return quake.OriginQuality(
        associated_phase_count=len(event.arrivals),
        used_phase_count=len(used),
        associated_station_count=len({(each.net, each.sta) for each in event.arrivals}),
        used_station_count=len({(each.net, each.sta) for each in used}),
        standard_error=event.rms_s,
        azimuthal_gap=event.gap_deg,
        minimum_distance=event.nearest_km / KM_PER_DEG,
        median_distance=away_deg[len(away_deg) // 2] if away_deg else None,
        maximum_distance=away_deg[-1] if away_deg else None,
    )


def _arrival(arrival: Arrival, pick: quake.Pick, name: quake.ResourceIdentifier) -> quake.Arrival:
    return quake.Arrival(
        resource_id=name,
        pick_id=pick.resource_id,
        phase=arrival.phase,
        azimuth=arrival.azimuth_deg,
        distance=arrival.distance_km / KM_PER_DEG,
        time_residual=arrival.residual_s,
        time_weight=arrival.weight,
    )


def _comments(name: quake.ResourceIdentifier, texts: Iterable[str]) -> list[quake.Comment]:
    return [
        quake.Comment(text=text, resource_id=quake.ResourceIdentifier(f"{name}/comment/{number}"))
        for number, text in enumerate(texts, 1)
    ]


def _catalogue(events: list[quake.Event], agency: str) -> quake.Catalog:
    return quake.Catalog(events, resource_id=_id(agency, "catalogue", "msnet-stream"))


def _id(agency: str, kind: str, name: str) -> quake.ResourceIdentifier:
    """`smi:AGENCY/KIND/NAME` by the rules of QuakeML: three letters at least, no other signs."""
    authority = re.sub(r"[^\w\-.]", "-", agency)
    authority = authority if len(authority) > 2 else f"agency.{authority}"
    return quake.ResourceIdentifier(f"smi:{authority}/{kind}/{_NOT_IN_ID.sub('-', name)}")


def _written(catalogue: quake.Catalog, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    catalogue.write(buffer, format=kind, **options)
    return buffer.getvalue().decode()
