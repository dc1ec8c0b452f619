"""Picks and events for the tests of exports: an event of four stations, and what it is made of."""

from dataclasses import replace

from streamer.association.message import Arrival, Event, Relocation
from streamer.picks import Pick
from streamer.timebase import NS_PER_S, iso

ORIGIN_NS = 1_700_000_000 * NS_PER_S + 123_456_789


def make_pick(sta: str, phase: str, after_s: float, **changes: object) -> Pick:
    """A pick of network CI, `after_s` after the origin."""
    t_ns = ORIGIN_NS + round(after_s * NS_PER_S)
    pick = Pick(
        id=f"CI.{sta}.00.HH.{phase}.{after_s:06.3f}.abcdef", rev=1, status="update", net="CI",
        sta=sta, loc="00", cha="HHZ" if phase == "P" else "HHN", phase=phase,  # type: ignore[arg-type]
        t_ns=t_ns, prob=0.875, model="msnet/a@1", model_sha="0123abcd", cfg="11112222",
        agency="XX", author="msnet-stream/1@host", data_ns=t_ns + 10**9, made_ns=t_ns + 2 * 10**9,
        n_comp=3,
    )  # fmt: skip
    return replace(pick, **changes)


PICKS = [
    make_pick("PASC", "P", 1.5, snr=12.5, t_unc=0.04, pol="up", pol_prob=0.9),
    make_pick("PASC", "S", 2.6, qual="gap", amp=2.5e-6, amp_unit="m/s"),
    make_pick("USC", "P", 2.0, loc="", lat=34.019, lon=-118.286, elev=58.0),
    make_pick("USC", "S", 3.5),
    make_pick("RPV", "P", 3.25, final=0),
]
DISTANCE_KM = {"PASC": 6.0, "USC": 9.5, "RPV": 17.0}


def arrival_of(pick: Pick) -> Arrival:
    return Arrival(
        pick_id=pick.id, net=pick.net, sta=pick.sta, phase=pick.phase, time=iso(pick.t_ns),
        residual_s=0.0125, distance_km=DISTANCE_KM[pick.sta], azimuth_deg=350.0,
        weight=0.0 if pick.sta == "RPV" else 0.9, prob=pick.prob,
    )  # fmt: skip


EVENT = Event(
    id="ms20231114T221320.1-abcd", version=3, status="final", profile="best", time=iso(ORIGIN_NS),
    t_ns=ORIGIN_NS, lat=34.05, lon=-118.25, depth_km=7.25, time_error_s=0.06, lat_error_km=0.4,
    lon_error_km=0.5, depth_error_km=1.2, major_error_km=0.55, minor_error_km=0.35,
    major_azimuth_deg=80.0, gap_deg=151.5, nearest_km=6.0, rms_s=0.0823, n_p=3, n_s=2, n_both=2,
    gain=31.5, arrivals=tuple(map(arrival_of, PICKS)),
)  # fmt: skip
EARLY = replace(
    EVENT, id="ms20231114T221300.1-ffff", version=1, status="preliminary", depth_km=-0.4, gain=None,
    t_ns=ORIGIN_NS - 20 * NS_PER_S, time=iso(ORIGIN_NS - 20 * NS_PER_S),
)  # fmt: skip
EVENTS = [EARLY, EVENT]
RELOCATED = replace(
    EVENT,
    relocation=Relocation(
        time=iso(ORIGIN_NS + NS_PER_S // 4), lat=34.051, lon=-118.2525, depth_km=7.5,
        time_error_s=0.004, lat_error_km=0.04, lon_error_km=0.05, depth_error_km=0.06,
        neighbours=23, gain=6.5,
    ),
)  # fmt: skip
