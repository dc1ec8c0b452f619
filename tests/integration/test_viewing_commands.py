"""`picks` and `events`, tail and export, as processes on a real server."""

import csv
import io
import json
import signal
import subprocess
import sys
from contextlib import contextmanager

import matplotlib.image
import obspy
import pytest
from bus_picks import make_pick as any_pick
from bus_servers import running
from click.testing import CliRunner
from daemon_parts import COMMAND, msnet_stream

from streamer.association.message import Arrival, Event
from streamer.bus.reading import follow_entries
from streamer.cli import main
from streamer.config import Config
from streamer.errors import ConfigError, DataError, NoInputError
from streamer.export.commands import export_event_files, plot_events
from streamer.timebase import iso

T_NS = 1_700_000_000 * 10**9


def make_pick(number, rev=0, **changes):
    t_ns = T_NS + number * 10**9
    return any_pick(number, rev, **{"t_ns": t_ns, "made_ns": t_ns, "prob": 0.5} | changes)


def make_event(number, version=1, status="final"):
    t_ns = T_NS + number * 10**9 - 10**9
    arrival = Arrival(
        pick_id=make_pick(number).id, net="CI", sta="PASC", phase="P",
        time=iso(make_pick(number).t_ns), residual_s=0.0, distance_km=5.0, azimuth_deg=10.0,
        weight=1.0, prob=0.5,
    )  # fmt: skip
    return Event(
        id=f"ms{number}", version=version, status=status, profile="best", time=iso(t_ns), t_ns=t_ns,
        lat=34.0 + number / 100, lon=-118.0, depth_km=5.0, time_error_s=0.1, lat_error_km=1.0,
        lon_error_km=1.0, depth_error_km=1.0, major_error_km=1.0, minor_error_km=1.0,
        major_azimuth_deg=0.0, gap_deg=100.0, nearest_km=5.0, rms_s=0.1, n_p=1, n_s=0, n_both=0,
        arrivals=(arrival,),
    )  # fmt: skip


@pytest.fixture
def server(redis_server_binary, tmp_path):
    with running(redis_server_binary, tmp_path) as process:
        yield process


def url(server):
    return f"unix://{server.socket}"


def publish(server, stream, *messages):
    with server.plain() as client:
        for message in messages:
            fields = message if isinstance(message, dict) else message.to_fields()
            client.xadd(f"msnet:{stream}", fields)


@contextmanager
def tailing(*arguments):
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_tail_prints_what_was_published_since_then_what_comes_and_ends_cleanly(server):
    publish(server, "picks", make_pick(1), {"v": "9", "id": "unreadable"}, make_pick(2))
    with tailing(
        "picks", "tail", "--redis", url(server), "--since", "1h", "--format", "jsonl"
    ) as tail:
        assert json.loads(tail.stdout.readline()) == make_pick(1).to_fields()
        assert json.loads(tail.stdout.readline()) == make_pick(2).to_fields()
        gone = make_pick(2, rev=1, status="retract")
        publish(server, "picks", gone)
        assert json.loads(tail.stdout.readline()) == gone.to_fields()
        tail.send_signal(signal.SIGINT)
        assert tail.wait(20) == 0
        warnings = tail.stderr.read().splitlines()
    assert [json.loads(line)["event"] for line in warnings] == ["pick_unreadable"]


def test_tail_of_now_begins_with_the_next_message_and_outlives_the_server(server):
    publish(server, "events", make_event(1))
    with tailing("events", "tail", "--redis", url(server), "--format", "table") as tail:
        assert tail.stdout.readline().split()[:3] == ["time", "(UTC)", "lat"]
        subscribed(server)
        publish(server, "events", make_event(2, 1, "preliminary"))
        line = tail.stdout.readline()
        assert "34.0200" in line
        assert "preliminary" in line
        server.kill()
        server.start()
        publish(server, "events", make_event(2, 2, "retracted"))
        assert "retracted" in tail.stdout.readline()


def subscribed(server):
    """Return when a reader waits on the server."""
    with server.plain() as client:
        while not any("b" in each["flags"] for each in client.client_list()):
            pass


def test_tail_without_a_server_ends_at_once_and_says_where_it_looked(tmp_path):
    result = msnet_stream("picks", "tail", "--redis", f"unix://{tmp_path}/none.sock")
    assert result.returncode == 69
    assert "none.sock" in result.stderr
    assert msnet_stream("picks", "tail", "--state-dir", tmp_path).returncode == 69


@pytest.mark.parametrize("group", ["picks", "events"])
def test_every_format_is_exported_and_tail_says_why_it_has_only_some(group, tmp_path):
    """From a file, without Redis: something is written in each format that `export` names."""
    made = {"picks": make_pick, "events": make_event}[group]
    (tmp_path / "in.jsonl").write_text(f"{json.dumps(made(1).to_fields())}\n")
    if group == "events":
        (tmp_path / "in.jsonl").write_text(made(1).to_json() + "\n")
    formats = choices(f"{group} export")
    for kind in formats:
        output = tmp_path / kind
        arguments = [group, "export", "--from", tmp_path / "in.jsonl", "--format", kind]
        result = CliRunner().invoke(main, [*map(str, arguments), "-o", str(output)])
        assert result.exit_code == 0, result.output
        files = [path for path in output.rglob("*") if path.is_file()] or [output]
        assert all(path.stat().st_size > 20 for path in files), kind
    refused = set(formats) - set(choices(f"{group} tail"))
    assert {"quakeml", "seiscomp", "real"} < refused
    for kind in refused:
        result = CliRunner().invoke(main, [group, "tail", "--format", kind])
        assert result.exit_code == 2
        assert f"export --format {kind}" in " ".join(result.output.split())


def choices(command):
    """The formats of a command."""
    found = main
    for name in command.split():
        found = found.commands[name]
    (option,) = [option for option in found.params if option.name == "kind"]
    return option.type.choices


def test_a_reader_that_is_behind_gets_page_after_page(server):
    with server.plain() as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(2500):
            pipeline.xadd("msnet:picks", {"n": str(number)})
        pipeline.execute()
    entries = follow_entries(server.server, "msnet:picks", "0-0")
    assert [int(next(entries)[1]["n"]) for _ in range(2500)] == list(range(2500))
    entries.close()


def test_export_writes_the_picks_that_stand_within_the_span(server):
    publish(
        server, "picks", make_pick(3), make_pick(1), make_pick(2), make_pick(1, rev=1, prob=0.9),
        make_pick(3, rev=1, status="retract"), make_pick(50),
    )  # fmt: skip
    result = msnet_stream(
        "picks",
        "export",
        "--redis",
        url(server),
        "--format",
        "csv",
        "--end",
        iso(T_NS + 40 * 10**9),
    )
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(row["id"], row["prob"]) for row in rows] == [
        (make_pick(1).id, "0.9000"),
        (make_pick(2).id, "0.5000"),
    ]


def test_events_of_redis_become_quakeml_with_the_channels_of_their_picks(server, tmp_path):
    publish(server, "picks", make_pick(1), make_pick(2))
    publish(server, "events", make_event(1), make_event(2), make_event(2, 2, "amended"))
    result = msnet_stream(
        "events", "export", "--redis", url(server), "--format", "quakeml", "--agency", "CIT",
        "-o", tmp_path / "events.xml",
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    events = obspy.read_events(tmp_path / "events.xml", format="QUAKEML")
    assert [str(event.resource_id) for event in events] == [
        "smi:CIT/event/ms1",
        "smi:CIT/event/ms2",
    ]
    assert events[1].origins[0].creation_info.version == "2"
    assert events[0].picks[0].waveform_id.get_seed_string() == "CI.PASC.00.HHZ"


def test_files_of_events_are_exported_and_drawn_without_redis(tmp_path):
    lines = [make_event(number).to_json() for number in (1, 2, 3)]
    (tmp_path / "events.jsonl").write_text("\n".join([*lines, "", "not one"]) + "\n")
    (tmp_path / "stations.csv").write_text("net,sta,lat,lon,elev_km\nCI,PASC,34.05,-118.1,0.3\n")
    source = ("--from", tmp_path / "events.jsonl")
    result = msnet_stream("events", "export", *source, "--format", "geojson")
    assert len(json.loads(result.stdout)["features"]) == 3
    assert "rows_rejected" in result.stderr
    export_event_files(Config(), tmp_path / "events.jsonl", "real", tmp_path / "real", (None, None))
    assert len((tmp_path / "real" / "catalog_sel.txt").read_text().splitlines()) == 3
    result = msnet_stream(
        "events", "plot", *source, "--stations", tmp_path / "stations.csv", "--errors",
        "-o", tmp_path / "map.png",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert matplotlib.image.imread(tmp_path / "map.png").std() > 0.05


@pytest.mark.parametrize(
    ("file", "kind", "span", "error", "reason"),
    [
        ("bad.jsonl", "csv", (None, None), DataError, "no line is a message"),
        ("none.jsonl", "csv", (None, None), NoInputError, "cannot read"),
        ("one.jsonl", "real", (None, None), ConfigError, "-o"),
        ("one.jsonl", "csv", ("noon", None), ConfigError, "--start"),
        ("one.jsonl", "png", (None, "1999-01-01"), ConfigError, "-o"),
    ],
)
def test_what_cannot_be_exported_is_told(tmp_path, file, kind, span, error, reason):
    (tmp_path / "bad.jsonl").write_text("nothing\n")
    (tmp_path / "one.jsonl").write_text(make_event(1).to_json() + "\n")
    with pytest.raises(error, match=reason):
        export_event_files(Config(), tmp_path / file, kind, None, span)


def test_a_map_of_nothing_is_refused(tmp_path):
    (tmp_path / "one.jsonl").write_text(make_event(1).to_json() + "\n")
    with pytest.raises(ConfigError, match="no event to draw"):
        plot_events(
            Config(), tmp_path / "one.jsonl", None, tmp_path / "map.png", (None, "1999-01-01")
        )


def test_the_commands_that_read_start_without_torch_and_numba():
    script = (
        "import sys; import streamer.export.following, streamer.export.commands; "
        "print([name for name in ('torch', 'numba', 'obspy', 'matplotlib') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "[]"
