"""A program REAL that repeats what the true one once said, for stations under other names.

Its events come from a file beside it: station codes are replaced by those of the station file with
the same coordinates, and only events whose picks are all in the pick files are told.
"""

import json
import os
import stat
import sys
from pathlib import Path

SCRIPT = """#!{python} -SE
import json, os, subprocess, sys, time
from datetime import date
from pathlib import Path
mode = os.environ.get("STAND_IN", "")
if len(sys.argv) < 8:
    print("Usage:  Rapid Earthquake Association and Location")
    sys.exit(255)
options, (stations, picks, table) = sys.argv[1:-3], sys.argv[-3:]
assert [option[:2] for option in options] == ["-D", "-R", "-G", "-V", "-S"], options
print("Max Setting: Nst 500", flush=True)
if mode == "fail":
    print("malloc memory error for TTT")
    sys.exit(3)
if mode == "hang":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path(os.environ["STAND_IN_PIDS"]).write_text(f"{{os.getpid()}} {{child.pid}}")
    time.sleep(60)
day, stored = json.loads(Path({stored!r}).read_text())
shift = 86400 * (date(*day) - date(*map(int, options[0][2:].split("/")[:3]))).days
names, known = {{}}, set()
for line in Path(stations).read_text().splitlines():
    lon, lat, net, sta, channel, elevation = line.split()
    assert len(net) <= 4 and len(sta) <= 7 and len(channel) <= 3
    names[round(float(lat), 4), round(float(lon), 4)] = net, sta
    for phase in "PS":
        for pick in Path(picks, f"{{net}}.{{sta}}.{{phase}}.txt").read_text().splitlines():
            time_s, weight, amplitude = map(float, pick.split())
            assert time_s >= 0
            known.add((sta, phase, round(time_s * 1e4)))
assert len(Path(table).read_text().splitlines()) <= 20000
lines = []
for header, arrivals in stored:
    cells = header.split()
    event = [" ".join([*cells[:5], f"{{float(cells[5]) + shift:.3f}}", *cells[6:]])]
    for place, phase, time_s, rest in arrivals:
        time_s += shift
        net, sta = names.get(tuple(place), ("", ""))
        if (sta, phase, round(time_s * 1e4)) not in known:
            break
        event.append(f"{{net:>5}} {{sta:>8}} {{phase:>5}} {{time_s:12.4f}} {{rest}}")
    else:
        lines += event
if mode != "silent":
    Path("phase_sel.txt").write_text("".join(line + "\\n" for line in lines))
"""


def stand_in(
    folder: Path,
    phase_sel: Path,
    day: tuple[int, int, int],
    stations: dict[tuple[str, str], tuple[float, float]],
) -> Path:
    """The executable `REAL` in a folder.

    `day`: that of the stored output; `stations` (lat, lon) by the codes in it.
    """
    events: list = []
    for line in phase_sel.read_text().splitlines():
        cells = line.split()
        if cells[2] in "PS":
            lat, lon = stations[cells[0], cells[1]]
            place = [round(lat, 4), round(lon, 4)]
            events[-1][1].append([place, cells[2], float(cells[3]), " ".join(cells[4:])])
        else:
            events.append([line, []])
    stored = folder / "stored.json"
    stored.write_text(json.dumps([day, events]))
    program = folder / "REAL"
    program.write_text(SCRIPT.format(python=sys.executable, stored=str(stored)))
    os.chmod(program, program.stat().st_mode | stat.S_IXUSR)
    return program
