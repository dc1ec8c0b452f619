"""`msnet-stream associate`: files in, located events out, in a process without torch."""

import json
import subprocess
import sys

import numpy as np
import pytest

# What the scoring rule of shared/assoc/score.py calls found: 60 % of the event's picks from one
# true event, at least 4 and 40 % of that event's picks.
PURE, COMPLETE, LEAST = 0.6, 0.4, 4
WITHOUT = ("torch", "streamer.seedlink", "streamer.waveforms", "streamer.picking", "model")

RUN = f"""
import sys
from streamer.cli import main
try:
    main(sys.argv[1:], standalone_mode=False)
finally:
    print([name for name in {WITHOUT!r} if name in sys.modules])
"""


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-c", RUN, "associate", *map(str, arguments)],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def mine(shared_assoc, tmp_path_factory):
    """The first five minutes of the synthetic mine: the files of the command, and the truth."""
    folder, out = shared_assoc / "synth" / "mine", tmp_path_factory.mktemp("mine")
    header, *lines = (folder / "picks.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines if float(line.split(",")[4]) < 360]
    (out / "picks.csv").write_text("\n".join([header, *map(",".join, rows)]) + "\n")
    model = json.loads((folder / "config.json").read_text())["model"]
    layers = zip(model["tops"], model["vp"], model["vs"], strict=True)
    text = "".join(f"- {{top_km: {t}, vp_km_s: {p}, vs_km_s: {s}}}\n" for t, p, s in layers)
    (out / "model.yaml").write_text("layers:\n" + text)
    (out / "stations.csv").write_text((folder / "stations.csv").read_text())
    owner = {row[0]: int(row[7]) for row in rows}
    events = np.loadtxt(folder / "events.csv", delimiter=",", skiprows=1)
    return out, owner, events[events[:, 1] < 355]


def score(found, owner, events):
    """Recall of detectable events, precision, and median epicentral error (km)."""
    sizes = np.bincount([event for event in owner.values() if event >= 0], minlength=1000)
    matched, errors = {}, []
    for event in found:
        owners = [owner[arrival["pick_id"]] for arrival in event["arrivals"]]
        counts = np.bincount([one for one in owners if one >= 0], minlength=1)
        best = int(counts.argmax())
        least = max(LEAST, COMPLETE * sizes[best])
        if counts[best] >= PURE * len(owners) and counts[best] >= least and best not in matched:
            matched[best] = event
    for number, _, lat, lon, *_ in events:
        if (event := matched.get(int(number))) is not None:
            errors.append(np.hypot(event["lat"] - lat, (event["lon"] - lon) * 0.734) * 111.19)
    detectable = {int(row[0]) for row in events if row[-1] == 1}
    recall = len(detectable & set(matched)) / len(detectable)
    return recall, len(matched) / len(found), float(np.median(errors))


def test_a_mine_is_associated_without_torch(mine, tmp_path):
    out, owner, events = mine
    path = tmp_path / "events.jsonl"
    done = run("--picks", out / "picks.csv", "--stations", out / "stations.csv",
               "--velocity-model", out / "model.yaml", "-o", path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    found = [json.loads(line) for line in path.read_text().splitlines()]
    recall, precision, epicentre_km = score(found, owner, events)
    assert recall >= 0.96
    assert precision >= 0.97
    assert epicentre_km <= 0.025
    assert [event["t_ns"] for event in found] == sorted(event["t_ns"] for event in found)
    assert len({event["id"] for event in found}) == len(found)


def test_what_cannot_be_read_ends_with_the_exit_code_of_its_kind(mine, tmp_path):
    out, _, _ = mine
    (tmp_path / "stations.csv").write_text("net,sta,lat,lon,elev_km\nSY,S00,x,y,0\n")
    done = subprocess.run(
        [sys.executable, "-m", "streamer.cli", "associate", "--picks", out / "picks.csv",
         "--stations", tmp_path / "stations.csv", "--velocity-model", out / "model.yaml"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 65
    assert "has no station (1 x a coordinate is not a number)" in done.stderr
