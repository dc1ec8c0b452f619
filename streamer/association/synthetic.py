"""Networks, earthquakes and picks that never were: for the demo, and to judge association.

Stations fill a square evenly but not regularly. Events follow Gutenberg and Richter: some lie
anywhere, most near a fault, and half of those are aftershocks (Omori) of the largest one. What a
station picks depends on the amplitude of the wave (Hutton & Boore 1987) beside its own noise: far
and small events are missed, and what is barely seen is timed badly. To that come errors of paths
and sites, picks that are far off, S picks called P, and picks of nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamer.association.geodesy import Floats, distances_km, moved
from streamer.association.magnitude import ATTENUATIONS, magnitude_terms
from streamer.association.stations import Station
from streamer.association.traveltimes import first_arrival_s
from streamer.association.velocity import LayeredModel
from streamer.picks import Phase, Pick, pick_id
from streamer.seedid import Instrument
from streamer.timebase import NS_PER_S

ATTENUATION = ATTENUATIONS["hutton-boore-1987"]
CENTRE_LAT, CENTRE_LON = 46.8, 9.9
CRUST = LayeredModel.from_layers(
    [(-3.0, 4.8, 2.75), (2.0, 5.8, 3.35), (10.0, 6.15, 3.55), (24.0, 6.7, 3.85)]
)
SLOWNESS_OF_S = 1.75  # errors of paths and sites are longer for S by Vp/Vs
PLACES_TRIED = 12  # of which the one farthest from all stations becomes one
B_VALUE = 1.0
LARGEST_MAGNITUDE = 4.0
OMORI_C_S = 20.0  # aftershock rate ~ 1 / (t + c)
BACKGROUND_SHARE, AFTERSHOCK_SHARE = 0.3, 0.35
# S is about three times as large as P; magnitudes are those of S.
P_AMPLITUDE_SHARE = 0.35
AMPLITUDE_SCATTER = 0.15  # of log10, by radiation pattern and ground
# A wave of this many times the noise is picked as often as not; log10 width of the transition.
HALF_SEEN_SNR, SEEN_WIDTH = 3.0, 0.12
OUTLIER_FACTOR = 8.0
MODEL_NAME, MODEL_SHA, CONFIG_SHA = "synthetic/1", "00000000", "00000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What to make. Magnitudes from `least_magnitude`; `noise_mm` is the amplitude of the median
    station's noise on a Wood-Anderson seismogram; false picks per station and minute; latency from
    onset to publication is `latency_s` and an exponential part of the same mean.
    """

    stations: int = 24
    aperture_km: float = 80.0
    highest_km: float = 2.4
    events: int = 60
    duration_s: float = 900.0
    least_magnitude: float = 0.7
    deepest_km: float = 14.0
    noise_mm: float = 1.2e-2
    sigma_s: float = 0.05
    site_sigma_s: float = 0.06
    path_error: float = 0.01
    outlier_share: float = 0.05
    wrong_phase_share: float = 0.01
    false_per_min: float = 1.0
    latency_s: float = 1.0
    start_ns: int = 1_767_225_600 * NS_PER_S
    seed: int = 1


@dataclass(frozen=True, slots=True)
class TrueEvent:
    """An earthquake: origin time (POSIX ns), place (deg, km below sea level), magnitude."""

    number: int
    t_ns: int
    lat: float
    lon: float
    depth_km: float
    magnitude: float


@dataclass(frozen=True)
class Synthetic:
    """A network, what happened, and its picks in the order in which they were published.

    `owner` has the number of the true event of each pick by id, or -1 for a pick of nothing.
    """

    stations: tuple[Station, ...]
    model: LayeredModel
    events: tuple[TrueEvent, ...]
    picks: tuple[Pick, ...]
    owner: dict[str, int]

    @classmethod
    def make(cls, scenario: Scenario, model: LayeredModel = CRUST) -> "Synthetic":
        """The same scenario gives the same network, events and picks."""
        rng = np.random.default_rng(scenario.seed)
        stations = _stations(scenario, rng)
        events = _events(scenario, rng)
        picking = _Picking(scenario, stations, model, rng)
        owned = [pair for event in events for pair in picking.of_event(event)]
        owned += [(pick, -1) for pick in picking.of_nothing()]
        first: dict[str, tuple[Pick, int]] = {}
        for pick, number in owned:  # onsets within a millisecond are one pick
            first.setdefault(pick.id, (pick, number))
        ordered = sorted(first.values(), key=lambda pair: (pair[0].made_ns, pair[0].id))
        return cls(
            tuple(stations), model, tuple(events),
            tuple(pick for pick, _ in ordered),
            {pick.id: number for pick, number in ordered},
        )  # fmt: skip

    def shifted(self, by_ns: int) -> "Synthetic":
        """All of it at another time; the picks keep their ids, which are names."""
        return replace(
            self,
            events=tuple(replace(event, t_ns=event.t_ns + by_ns) for event in self.events),
            picks=tuple(
                replace(
                    pick,
                    t_ns=pick.t_ns + by_ns,
                    data_ns=pick.data_ns + by_ns,
                    made_ns=pick.made_ns + by_ns,
                )
                for pick in self.picks
            ),
        )


def _stations(scenario: Scenario, rng: np.random.Generator) -> list[Station]:
    """Each new station is the one of a few random places that is farthest from all others."""
    half_km = scenario.aperture_km / 2
    places = rng.uniform(-half_km, half_km, (1, 2))
    while len(places) < scenario.stations:
        tried = rng.uniform(-half_km, half_km, (PLACES_TRIED, 2))
        nearest = np.linalg.norm(tried[:, None] - places[None], axis=2).min(axis=1)
        places = np.vstack([places, tried[nearest.argmax()]])
    lat, lon = moved(CENTRE_LAT, CENTRE_LON, places[:, 0], places[:, 1])
    elev_km = rng.uniform(0.3, scenario.highest_km, len(places))
    return [
        Station("SY", f"N{i:03d}", *(round(float(x), 5) for x in place))
        for i, place in enumerate(zip(lat, lon, elev_km, strict=True))
    ]


def _events(scenario: Scenario, rng: np.random.Generator) -> list[TrueEvent]:
    """Earthquakes by time, the largest early enough that most of its aftershocks follow."""
    n = scenario.events
    magnitudes = scenario.least_magnitude - np.log10(rng.uniform(size=n)) / B_VALUE
    magnitudes = np.minimum(magnitudes, LARGEST_MAGNITUDE)
    times_s = rng.uniform(0, scenario.duration_s, n)
    main = int(magnitudes.argmax())
    times_s[main] = 0.3 * scenario.duration_s
    east_km, north_km, depth_km = _places(scenario, n, rng)
    after = rng.uniform(size=n) < AFTERSHOCK_SHARE
    after[main] = False
    # Omori's law with p = 1, inverted, up to the end.
    reach = math.log1p((scenario.duration_s - times_s[main]) / OMORI_C_S)
    delay_s = OMORI_C_S * np.expm1(rng.uniform(0, reach, n))
    times_s[after] = times_s[main] + delay_s[after]
    for axis in (east_km, north_km, depth_km):
        axis[after] = axis[main] + rng.normal(0, 0.02 * scenario.aperture_km, after.sum())
    lat, lon = moved(CENTRE_LAT, CENTRE_LON, east_km, north_km)
    depth_km = np.clip(depth_km, 0.5, scenario.deepest_km)
    return [
        TrueEvent(
            number,
            scenario.start_ns + round(float(times_s[i]) * NS_PER_S),
            float(lat[i]),
            float(lon[i]),
            float(depth_km[i]),
            float(magnitudes[i]),
        )
        for number, i in enumerate(np.argsort(times_s))
    ]


def _places(scenario: Scenario, n: int, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """East, north and depth in km: on a dipping fault through the network, or anywhere in it."""
    half_km = scenario.aperture_km / 2
    strike = math.radians(rng.uniform(0, 180))
    along_km = rng.uniform(-0.6, 0.6, n) * half_km
    depth_km = rng.uniform(0.2, 1.0, n) * scenario.deepest_km
    across_km = 0.5 * (depth_km - scenario.deepest_km / 2) + rng.normal(0, 0.01 * half_km, n)
    east_km = along_km * math.sin(strike) + across_km * math.cos(strike)
    north_km = along_km * math.cos(strike) - across_km * math.sin(strike)
    anywhere = rng.uniform(size=n) < BACKGROUND_SHARE
    east_km[anywhere], north_km[anywhere] = rng.uniform(-0.8, 0.8, (2, n))[:, anywhere] * half_km
    return east_km, north_km, depth_km


class _Picking:
    """What the stations make of events and of nothing."""

    def __init__(
        self,
        scenario: Scenario,
        stations: Sequence[Station],
        model: LayeredModel,
        rng: np.random.Generator,
    ) -> None:
        self._scenario = scenario
        self._stations = stations
        self._model = model
        self._rng = rng
        self._lat = np.array([station.lat for station in stations])
        self._lon = np.array([station.lon for station in stations])
        self._site_s = rng.normal(0, scenario.site_sigma_s, len(stations))
        self._noise_mm = scenario.noise_mm * 10 ** rng.normal(0, 0.25, len(stations))

    def of_event(self, event: TrueEvent) -> list[tuple[Pick, int]]:
        """The picks of one event, with its number."""
        away_km = distances_km(np.array([event.lat]), np.array([event.lon]), self._lat, self._lon)[
            0
        ]
        picks = []
        for i, station in enumerate(self._stations):
            hypocentral_km = math.hypot(away_km[i], event.depth_km + station.elev_km)
            faded = float(magnitude_terms(ATTENUATION, np.array(hypocentral_km)))
            amplitude_mm = 10 ** (event.magnitude - faded)
            for phase, v_km_s, share in (
                ("P", self._model.vp_km_s, P_AMPLITUDE_SHARE),
                ("S", self._model.vs_km_s, 1.0),
            ):
                travel_s = first_arrival_s(
                    away_km[i], event.depth_km, station.depth_km, self._model.top_km, v_km_s
                )
                arrival = (phase, float(travel_s), share * amplitude_mm)
                pick = self._seen(event, i, *arrival)  # type: ignore[arg-type]
                picks += [(pick, event.number)] if pick else []
        return picks

    def of_nothing(self) -> list[Pick]:
        """False picks, as likely at any time, before and after the events too."""
        scenario, rng = self._scenario, self._rng
        n = rng.poisson(scenario.false_per_min / 60 * scenario.duration_s * len(self._stations))
        picks = []
        for _ in range(n):
            station = int(rng.integers(len(self._stations)))
            t_ns = scenario.start_ns + round(rng.uniform(0, scenario.duration_s) * NS_PER_S)
            phase: Phase = "P" if rng.uniform() < 0.6 else "S"
            picks.append(self._pick(station, phase, t_ns, rng.beta(2, 4) * 0.7 + 0.3))
        return picks

    def _seen(
        self, event: TrueEvent, station: int, phase: Phase, travel_s: float, amplitude_mm: float
    ) -> Pick | None:
        """The pick of one arrival, None if it is missed."""
        scenario, rng = self._scenario, self._rng
        amplitude_mm *= 10 ** rng.normal(0, AMPLITUDE_SCATTER)
        snr = amplitude_mm / self._noise_mm[station]
        seen = 1 / (1 + math.exp(-(math.log10(snr) - math.log10(HALF_SEEN_SNR)) / SEEN_WIDTH))
        if rng.uniform() > seen:
            return None
        longer = SLOWNESS_OF_S if phase == "S" else 1.0
        sigma_s = scenario.sigma_s * longer * (1 + 2 / snr)
        if rng.uniform() < scenario.outlier_share:
            sigma_s *= OUTLIER_FACTOR
        error_s = rng.normal(0, sigma_s) + travel_s * rng.normal(0, scenario.path_error)
        if phase == "S" and rng.uniform() < scenario.wrong_phase_share:
            phase = "P"
        after_s = travel_s + error_s + longer * self._site_s[station]
        prob = 0.3 + 0.68 * seen * rng.beta(6, 1.5)
        t_ns = event.t_ns + round(after_s * NS_PER_S)
        return self._pick(station, phase, t_ns, prob, round(snr, 2), round(amplitude_mm, 6))

    def _pick(
        self,
        station: int,
        phase: Phase,
        t_ns: int,
        prob: float,
        snr: float | None = None,
        amp: float | None = None,
    ) -> Pick:
        place, latency_s = self._stations[station], self._scenario.latency_s
        made_ns = t_ns + round((latency_s + self._rng.exponential(latency_s)) * NS_PER_S)
        instrument = Instrument(place.net, place.sta, "", "HH")
        return Pick(
            id=pick_id(instrument, phase, t_ns, MODEL_SHA[:6]),
            rev=0, status="new", net=place.net, sta=place.sta, loc="",
            cha="HHZ" if phase == "P" else "HHN", phase=phase, t_ns=t_ns, prob=round(prob, 4),
            model=MODEL_NAME, model_sha=MODEL_SHA, cfg=CONFIG_SHA, agency="SY",
            author="msnet-stream/synthetic", data_ns=made_ns, made_ns=made_ns, n_comp=3,
            lat=place.lat, lon=place.lon, elev=round(1000 * place.elev_km, 1),
            snr=snr, amp=amp, amp_unit=None if amp is None else "mm",
        )  # fmt: skip
