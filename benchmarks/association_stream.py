"""How many P picks a second the association worker takes: its window on picks as they would come.

    python benchmarks/association_stream.py ../shared/assoc/synth/regional [...] [--profile best]

Messages are decoded, taken in batches as from Redis, kept in SQLite, made into preliminary events,
settled, and left to be sent: all of the worker but the sockets. CPU seconds of one core, after what
the worker, too, does before it takes its first pick; the settled events are compared with those of
the batch. `delay_ms`: wall time from the pick that completes an event to its version 1 on disk,
ready to be sent, when each pick comes by itself.
"""

import argparse
import json
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from streamer.association.message import Event, latest_events
from streamer.association.network import Network
from streamer.association.offline import settled_events
from streamer.association.parameters import AssociationConfig
from streamer.association.pickfiles import PickRow, from_message, read_picks
from streamer.association.real_files import real_parameters
from streamer.association.stations import read_stations
from streamer.association.store import Store, Unsent
from streamer.association.velocity import LayeredModel
from streamer.association.warm_up import warm_up
from streamer.association.window import Window
from streamer.picks import Pick

BATCH = 200
DELAYED = 4000  # picks that come one by one, for the delay
LAG_NS = 20 * 10**9  # how far behind the newest publication picks are taken to be complete


def messages(folder: Path, rows: list[PickRow]) -> list[dict[str, str]]:
    """Pick messages in order of their ingest times, the amplitudes as Wood-Anderson ones."""
    lines = (folder / "picks.csv").read_text().splitlines()
    column = lines[0].split(",").index("ingest")
    ingest_s = {line.split(",")[0]: float(line.split(",")[column]) for line in lines[1:]}
    picks = []
    for row in rows:
        made_ns = round(ingest_s[row.id] * 1e9)
        pick = Pick(
            id=row.id, rev=0, status="new", net=row.code[0], sta=row.code[1], loc="", cha="HHZ",
            phase=row.phase, t_ns=row.t_ns, prob=row.prob, model="m", model_sha="0", cfg="0",
            agency="XX", author="benchmark", data_ns=made_ns, made_ns=made_ns, amp=row.amp,
            amp_unit="mm",
        )  # fmt: skip
        picks.append(pick)
    return [pick.to_fields() for pick in sorted(picks, key=lambda pick: pick.made_ns)]


def played(
    network: Network, rules: AssociationConfig, fields: list[dict[str, str]], batch: int = BATCH
) -> Iterator[list[Unsent]]:
    """What the worker would publish after each batch of messages, and once all is settled."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "association.sqlite")
        window = Window(store, network, rules)
        newest_ns = 0
        for start in range(0, len(fields), batch):
            with store.transaction():
                for each in fields[start : start + batch]:
                    pick = Pick.from_fields(each)
                    window.take(pick, pick.made_ns)
                    newest_ns = max(newest_ns, pick.made_ns)
                    while window.advance(newest_ns - LAG_NS):
                        continue
                window.save()
            yield from unsent(store)
        with store.transaction():
            while window.advance(newest_ns + 3600 * 10**9):
                continue
        yield from unsent(store)
        store.close()


def unsent(store: Store) -> Iterator[list[Unsent]]:
    """What is to be sent now, once; then it is sent."""
    rows = store.unsent(10**6)
    yield rows
    if rows:
        store.sent(rows[-1].n)


def stream(
    network: Network, rules: AssociationConfig, fields: list[dict[str, str]]
) -> list[Unsent]:
    """All messages that the worker would publish."""
    return [row for rows in played(network, rules, fields) for row in rows]


def delays_ms(
    network: Network, rules: AssociationConfig, fields: list[dict[str, str]]
) -> tuple[float, float]:
    """Median and 95th percentile from a pick that completes an event to its version 1."""
    told_ms = []
    start_s = time.perf_counter()
    for rows in played(network, rules, fields, batch=1):
        end_s = time.perf_counter()
        if any(json.loads(row.text)["status"] == "preliminary" for row in rows):
            told_ms.append(1000 * (end_s - start_s))
        start_s = time.perf_counter()
    median, high = np.percentile(told_ms, (50, 95))
    return round(float(median), 1), round(float(high), 1)


def nameless(events: list[Event]) -> list[Event]:
    return [replace(event, id="", version=1, status="final") for event in events]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--profile", choices=("best", "real"), default="best")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    arguments = parser.parse_args()
    results = []
    for folder in arguments.folders:
        config = json.loads((folder / "config.json").read_text())
        layers = config["model"]
        model = LayeredModel.from_layers(
            zip(layers["tops"], layers["vp"], layers["vs"], strict=True)
        )
        network = Network.build(read_stations(folder / "stations.csv"), model)
        rows, _ = read_picks(folder / "picks.csv")
        real = real_parameters(config["real"], config["lat0"])
        rules = AssociationConfig(profile=arguments.profile, real=real)
        fields = messages(folder, rows)
        warm_up(rules)
        start_s = time.process_time()
        rows_sent = stream(network, rules, fields)
        cpu_s = time.process_time() - start_s
        told = [Event.from_fields(each.to_fields()) for each in rows_sent]
        # Of the picks as the messages have them, which round amplitudes.
        heard = [from_message(Pick.from_fields(each)) for each in fields]
        same = nameless(latest_events(told)) == nameless(settled_events(network, heard, rules))
        n_p = sum(row.phase == "P" for row in rows)
        result = {
            "set": folder.name,
            "profile": arguments.profile,
            "stations": len(network.stations),
            "picks": len(rows),
            "p_per_s": round(n_p / cpu_s),
            "cpu_s": round(cpu_s, 2),
            "delay_ms": delays_ms(network, rules, fields[:DELAYED]),
            "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "messages": dict(Counter(event.status for event in told)),
            "settled_is_batch": same,
        }
        results.append(result)
        print(json.dumps(result), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
