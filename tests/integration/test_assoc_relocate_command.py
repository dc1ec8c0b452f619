"""`msnet-stream events relocate`: a file of events in, their places among each other out."""

import json
import subprocess
import sys

import numpy as np
import pytest

from streamer.association.network import Network
from streamer.association.offline import settled_events
from streamer.association.pickfiles import from_message
from streamer.association.synthetic import Scenario, Synthetic

LAYERS = [(-3.0, 4.8, 2.75), (2.0, 5.8, 3.35), (10.0, 6.15, 3.55), (24.0, 6.7, 3.85)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A generated network with aftershocks: its events, stations and model as files."""
    folder = tmp_path_factory.mktemp("relocate")
    made = Synthetic.make(Scenario(stations=14, events=40, duration_s=1200.0, aperture_km=50.0))
    network = Network.build(made.stations, made.model)
    events = settled_events(network, map(from_message, made.picks))
    (folder / "events.jsonl").write_text("".join(event.to_json() + "\n" for event in events))
    rows = [f"{s.net},{s.sta},{s.lat},{s.lon},{s.elev_km}\n" for s in made.stations]
    (folder / "stations.csv").write_text("net,sta,lat,lon,elev_km\n" + "".join(rows))
    rows = [f"{top},{vp},{vs}\n" for top, vp, vs in LAYERS]
    (folder / "model.csv").write_text("top_km,vp_km_s,vs_km_s\n" + "".join(rows))
    return folder


def relocate(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "streamer.cli", "events", "relocate", "--stations",
         folder / "stations.csv", "--velocity-model", folder / "model.csv", *arguments],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def read(text):
    return [json.loads(line) for line in text.splitlines()]


def test_events_move_together_and_new_ones_join_those_that_stay(files, tmp_path):
    path = files / "events.jsonl"
    done = relocate(files, "--from", path, "-o", tmp_path / "all.jsonl")
    assert done.returncode == 0, done.stderr
    before, after = read(path.read_text()), read((tmp_path / "all.jsonl").read_text())
    assert [event["id"] for event in after] == [event["id"] for event in before]
    moved = [event for event in after if event.get("relocated_by") == "dd"]
    assert len(moved) >= 10
    for old, new in zip(before, after, strict=True):
        if "relocated_by" not in new:
            assert new == old
        assert np.hypot(new["lat"] - old["lat"], new["lon"] - old["lon"]) < 0.1
    # The last event of the cluster by itself, against the others as they are now.
    newest = moved[-1]["id"]
    (tmp_path / "reference.jsonl").write_text(
        "".join(json.dumps(event) + "\n" for event in after if event["id"] != newest)
    )
    one = next(event for event in before if event["id"] == newest)
    (tmp_path / "one.jsonl").write_text(json.dumps(one) + "\n")
    done = relocate(
        files, "--from", tmp_path / "one.jsonl", "--reference", tmp_path / "reference.jsonl"
    )
    assert done.returncode == 0, done.stderr
    (alone,) = read(done.stdout)
    assert alone["relocated_by"] == "dd"
    assert abs(alone["lat"] - moved[-1]["lat"]) < 0.01
    assert abs(alone["lon"] - moved[-1]["lon"]) < 0.015


def test_without_hypodd_its_files_are_written_and_the_events_stay(files, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    keep = tmp_path / "hypodd"
    done = relocate(files, "--from", files / "events.jsonl", "--method", "hypodd", "--keep", keep)
    assert done.returncode == 0, done.stderr
    assert "hypodd_missing" in done.stderr
    assert read(done.stdout) == read((files / "events.jsonl").read_text())
    names = {"phase.dat", "station.dat", "dt.ct", "event.sel", "ph2dt.inp", "hypoDD.inp"}
    assert {path.name for path in keep.iterdir()} == names
    assert (keep / "dt.ct").read_text().startswith("#")


def test_what_cannot_be_done_ends_with_the_exit_code_of_its_kind(files, tmp_path):
    (tmp_path / "picks.jsonl").write_text('{"v": 1, "id": "no event"}\n')
    done = relocate(files, "--from", tmp_path / "picks.jsonl")
    assert done.returncode == 65
    assert "no line is an event" in done.stderr
    done = relocate(files, "--from", files / "events.jsonl", "--method", "hypodd", "--reference",
                    files / "events.jsonl")  # fmt: skip
    assert done.returncode == 78
