"""Picks as USGS/ANSS detection formats have them: JSON messages Pick and Retraction.

The formats are those of https://github.com/usgs/earthquake-detection-formats and its package
anss-formats 0.1 (which pins too much to depend on).
"""

import json
from typing import Any

from streamer.picks import Pick
from streamer.timebase import NS_PER_MS, iso

GREATEST_SNR = 1e9


def anss_json(pick: Pick) -> str:
    """One line: a Pick, or a Retraction if the pick is retracted."""
    source = {"agencyID": pick.agency, "author": pick.author}
    if pick.status == "retract":
        return json.dumps({"type": "Retraction", "id": pick.id, "source": source})
    message = {
        "type": "Pick",
        "id": pick.id,
        "channel": _channel(pick),
        "source": source,
        "time": _milliseconds(pick.t_ns),
        "phase": pick.phase,
        "polarity": pick.pol,
        "amplitudeInfo": _amplitude(pick),
        "analyticsInfo": {"predictions": [_prediction(pick)]},
    }
    return json.dumps({name: value for name, value in message.items() if value})


def _milliseconds(t_ns: int) -> str:
    """ISO 8601 with the three decimals these formats demand, rounded."""
    return iso((t_ns + NS_PER_MS // 2) // NS_PER_MS * NS_PER_MS)[:23] + "Z"


def _channel(pick: Pick) -> dict[str, Any]:
    channel: dict[str, Any] = {
        "type": "Feature",
        "properties": {"station": pick.sta, "channel": pick.cha, "network": pick.net},
    }
    if pick.loc:
        channel["properties"]["location"] = pick.loc
    if pick.lat is not None and pick.lon is not None and pick.elev is not None:
        channel["geometry"] = {"type": "Point", "coordinates": [pick.lon, pick.lat, pick.elev]}
    return channel


def _amplitude(pick: Pick) -> dict[str, Any]:
    amplitude: dict[str, Any] = {}
    if pick.amp is not None:
        amplitude["amplitude"] = pick.amp
    if pick.amp_unit is not None:
        amplitude["units"] = pick.amp_unit
    if pick.snr is not None:
        amplitude["snr"] = min(max(pick.snr, 0.0), GREATEST_SNR)
    return amplitude


def _prediction(pick: Pick) -> dict[str, Any]:
    prediction: dict[str, Any] = {
        "label": "phase",
        "value": pick.phase,
        "probability": round(pick.prob, 4),
        "modelID": pick.model,
        "modelVersion": pick.model_sha,
    }
    if pick.t_unc is not None:
        prediction["metrics"] = {"timeStd": pick.t_unc}
    return prediction
