"""What can be set of association: the worker, and every parameter of its profiles with its unit."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

UserPath = Annotated[Path, AfterValidator(Path.expanduser)]


class _Parameters(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_means_defaults(cls, value: object) -> object:
        """A section whose keys are all commented out is null in YAML."""
        return {} if value is None else value


class RealParameters(_Parameters):
    """REAL as published (Zhang, Ellsworth & Beroza, 2019), in words; its own letters in brackets.

    Distances on the map are in degrees of latitude, as in REAL.
    """

    search_half_width_deg: float = Field(
        default=0.25,
        gt=0,
        description="Half width of the searched square around a station. [-R rx]",
    )
    deepest_km: float = Field(
        default=20.0, ge=0, description="Greatest source depth searched. [-R rh]"
    )
    grid_step_deg: float = Field(
        default=0.05, gt=0, description="Horizontal step of the search grid. [-R tdx]"
    )
    grid_step_km: float = Field(
        default=2.0, gt=0, description="Vertical step of the grid. [-R tdh]"
    )
    event_separation_s: float = Field(
        default=5.0,
        ge=0,
        description="Of two origins closer in time than this, or than the S window, only the "
        "better one is kept. [-R tint]",
    )
    greatest_gap_deg: float = Field(
        default=360.0, gt=0, le=360, description="Greatest azimuthal gap of an event. [-R gap]"
    )
    greatest_distance_deg: float = Field(
        default=180.0,
        gt=0,
        description="Stations farther from the source are not used; never more than the diagonal "
        "of the network. [-R GCarc0]",
    )
    map_lat: float | None = Field(
        default=None,
        ge=-80,
        le=80,
        description="Latitude at which a cell of the grid is as wide as it is high; default: the "
        "mean of the stations. [-D lat_center]",
    )
    centre_lat: float | None = Field(
        default=None,
        ge=-90,
        le=90,
        description="Latitude of a fixed search centre; default: the station of the pick that "
        "starts the search. [-R latref0]",
    )
    centre_lon: float | None = Field(
        default=None,
        ge=-360,
        le=360,
        description="Longitude of a fixed search centre. [-R lonref0]",
    )
    window_vp_km_s: float = Field(
        default=6.2,
        gt=0,
        description="Mean P velocity: the P window is the time P takes through a cell. [-V vp0]",
    )
    window_vs_km_s: float = Field(
        default=3.4, gt=0, description="Mean S velocity, for the S window. [-V vs0]"
    )
    least_p: int = Field(default=3, ge=0, description="Least P picks of an event. [-S np0]")
    least_s: int = Field(default=2, ge=0, description="Least S picks of an event. [-S ns0]")
    least_picks: int = Field(default=8, ge=1, description="Least picks of an event. [-S nps0]")
    least_both: int = Field(
        default=2, ge=0, description="Least stations with P and S of an event. [-S npsboth0]"
    )
    greatest_std_s: float = Field(
        default=0.5,
        gt=0,
        description="Greatest standard deviation of the origin times by the picks. [-S std0]",
    )
    least_s_minus_p_s: float = Field(
        default=0.3,
        ge=0,
        description="Least time between P and S at a station; below it an S pick is taken for a "
        "P pick with the wrong name. [-S dtps]",
    )
    window_factor: float = Field(
        default=1.0,
        gt=0,
        description="Picks are taken within half of this times the window. [-S nrt]",
    )
    removal_factor: float = Field(
        default=0.5,
        ge=0,
        description="P picks within half of this times the P window of an accepted origin start "
        "no further search; 0 lets each pick start one. [-S drt]",
    )
    nearest_share: float = Field(
        default=0.5,
        gt=0,
        description="An event is dropped if its nearest station is farther than this share of the "
        "greatest distance. [-S nxd]",
    )
    outlier_factor: float = Field(
        default=4.0,
        gt=0,
        description="Picks with residuals beyond this times the standard deviation are dropped; "
        "so are, at 3/4 of it, picks of stations much farther than the median. [-S rsel]",
    )


class BestParameters(_Parameters):
    """Profile `best`: an event is what makes its picks much more likely than chance does."""

    least_p: int = Field(default=3, ge=0, description="Least P picks of an event.")
    least_s: int = Field(default=2, ge=0, description="Least S picks of an event.")
    least_picks: int = Field(default=8, ge=4, description="Least picks of an event.")
    least_both: int = Field(default=2, ge=0, description="Least stations with P and S of an event.")
    least_gain: float = Field(
        default=2.0,
        gt=0,
        description="Least log odds of an event against chance, given how many events and P picks "
        "there are around it: 2 is 7 to 1.",
    )
    greatest_gap_deg: float = Field(
        default=360.0, gt=0, le=360, description="Greatest azimuthal gap of an event."
    )
    deepest_km: float | None = Field(
        default=None,
        gt=0,
        description="Greatest source depth; default: half the aperture of the network, at most "
        "60 km.",
    )
    p_error_s: float | None = Field(
        default=None,
        gt=0,
        description="Standard deviation of P picks; default: 0.5 % of the time P takes across "
        "the network, then learnt from the residuals.",
    )
    s_error_s: float | None = Field(
        default=None,
        gt=0,
        description="Standard deviation of S picks; default: as for P, twice as much.",
    )
    relative_error: float = Field(
        default=0.01,
        ge=0,
        lt=0.5,
        description="Error of travel times by the velocity model, a share.",
    )
    near_detection: float = Field(
        default=0.75,
        gt=0,
        lt=1,
        description="Probability that a station detects a phase of an event within the radius in "
        "which that event is detected (found for each event).",
    )
    far_detection: float = Field(
        default=0.03, gt=0, lt=1, description="Probability that a station beyond that radius does."
    )
    passes: int = Field(
        default=3, ge=1, le=10, description="How often the picks that are left are searched again."
    )
    learn_statics: bool = Field(
        default=True, description="Learn a delay of each station and phase from the residuals."
    )


class HypoddParameters(_Parameters):
    """Pairing of events for double differences, as ph2dt has it; its own names in brackets."""

    least_weight: float = Field(
        default=0.0, ge=0, le=1, description="Least weight of a pick. [MINWGHT]"
    )
    greatest_distance_km: float = Field(
        default=200.0, gt=0, description="Stations farther from a pair are left out. [MAXDIST]"
    )
    greatest_separation_km: float = Field(
        default=10.0, gt=0, description="Greatest distance between two events. [MAXSEP]"
    )
    most_neighbours: int = Field(default=10, ge=1, description="Neighbours of an event. [MAXNGH]")
    neighbour_links: int = Field(
        default=8, ge=1, description="Least links for a pair to count as neighbours. [MINLNK]"
    )
    least_links: int = Field(default=8, ge=1, description="Least links for a pair. [MINOBS]")
    most_links: int = Field(
        default=50, ge=1, description="Links of a pair, of the nearest stations. [MAXOBS]"
    )
    damping: float = Field(default=70.0, ge=0, description="Damping of hypoDD's LSQR. [DAMP]")


class RelocationParameters(_Parameters):
    """Double differences: which events are neighbours, and where settled events are placed."""

    catalogue: UserPath | None = Field(
        default=None,
        description="File of relocated events (msnet.event/1 lines of `events relocate`), which"
        " stay: each settled event is published with its place among them (`relocation`).",
    )
    greatest_separation_km: float | None = Field(
        default=None,
        gt=0,
        description="Greatest distance of a neighbour; default: as far as the nearest station is "
        "from a station, in the median of the network. Farther events tell station delays only.",
    )
    least_neighbours: int = Field(
        default=4, ge=1, description="An event with fewer neighbours stays where it is."
    )
    least_links: int = Field(
        default=6, ge=4, description="Least phases that two neighbours have in common."
    )
    most_neighbours: int = Field(
        default=60, ge=1, description="Events that an event is compared with, the nearest first."
    )


class Attenuation(_Parameters):
    """What to add to log10 of the amplitude (mm) at a hypocentral distance R (km).

    geometric log10(R / reference_km) + anelastic_per_km (R - reference_km) + at_reference
    + near exp(-R / near_km)
    """

    geometric: float = Field(gt=0, description="Per decade of distance.")
    anelastic_per_km: float = Field(default=0.0, ge=0, description="Per km of distance.")
    reference_km: float = Field(default=100.0, gt=0, description="Where the next holds alone.")
    at_reference: float = Field(default=3.0, description="Magnitude of 1 mm at that distance.")
    near: float = Field(default=0.0, description="What short distances add, at distance 0.")
    near_km: float = Field(default=5.0, gt=0, description="How far that reaches (1/e).")


AttenuationName = Literal["hutton-boore-1987", "luckett-2019"]


class AssociationConfig(_Parameters):
    """From picks to events: `msnet-stream associate`."""

    stations: UserPath | None = Field(
        default=None,
        description="Coordinates of the stations: csv (net, sta, lat, lon, elev_km) or StationXML.",
    )
    velocity_model: UserPath | None = Field(
        default=None,
        description="csv or YAML of layers: top_km, vp_km_s, vs_km_s; or an npz with velocities on"
        " a grid (docs/location.md; profile best).",
    )
    profile: Literal["best", "real"] = Field(
        default="best", description="How: by likelihood, or REAL as published."
    )
    engine: Literal["native", "real-program"] = Field(
        default="native",
        description="real-program: the executable REAL on PATH finds the events of profile real.",
    )
    program_timeout_s: float = Field(
        default=600.0, gt=0, description="The program REAL is ended after this long, s."
    )
    attenuation: AttenuationName | Attenuation = Field(
        default="hutton-boore-1987",
        description="How amplitudes fall with distance, for ML: hutton-boore-1987, luckett-2019"
        " (the same for distances of some km), or coefficients.",
    )
    lateness_s: float = Field(
        default=5.0,
        ge=0,
        description="How much longer than needed a result waits for late picks before it is"
        " settled, s. A pick that is later still has its events settled again.",
    )
    unheard_lateness_s: float = Field(
        default=20.0,
        ge=0,
        description="Without heartbeats of pickers: picks are taken to be complete up to this long"
        " before the newest publication, s.",
    )
    hold_s: float = Field(
        default=60.0,
        gt=0,
        description="A station this far behind the foremost one is no longer waited for, s.",
    )
    retention_s: float = Field(
        default=21_600.0,
        gt=0,
        description="How late a pick may come and still change events, s.",
    )
    future_s: float = Field(
        default=5.0,
        ge=0,
        description="A pick this much later than its publication has a wrong clock and is not"
        " used, s.",
    )
    most_picks_per_s: float = Field(
        default=2.0,
        gt=0,
        description="Picks of one station and phase used, on average over a block of some ten"
        " seconds; of more, the likeliest.",
    )
    update_picks: int = Field(
        default=8,
        ge=1,
        description="A preliminary event is told again when it has so many more picks.",
    )
    update_share: float = Field(
        default=0.2,
        gt=0,
        description="A preliminary event is told again when it moved by this share of the station"
        " spacing.",
    )
    best: BestParameters = Field(default=BestParameters(), description=BestParameters.__doc__)
    real: RealParameters = Field(default=RealParameters(), description=RealParameters.__doc__)
    relocation: RelocationParameters = Field(
        default=RelocationParameters(), description=RelocationParameters.__doc__
    )
    hypodd: HypoddParameters = Field(
        default=HypoddParameters(), description=HypoddParameters.__doc__
    )

    @model_validator(mode="after")
    def _program_is_real(self) -> "AssociationConfig":
        if self.engine == "real-program" and self.profile != "real":
            raise ValueError("the engine real-program is one of profile real: set profile: real")
        return self
