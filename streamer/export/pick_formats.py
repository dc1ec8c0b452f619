"""Picks for other programs: one text for each format, or a folder for REAL."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TextIO

from streamer.errors import CannotCreateError
from streamer.export.anss import anss_json
from streamer.output import PickFormat, write_picks
from streamer.picks import Pick
from streamer.timebase import NS_PER_S, iso

FilePickFormat = Literal["anss", "quakeml", "seiscomp", "nonlinloc", "gamma", "pyocto"]
DAY_NS = 86_400 * NS_PER_S


def export_picks(
    picks: Sequence[Pick], name: PickFormat | FilePickFormat, agency: str, output: TextIO
) -> None:
    """Write the picks in one format; `agency` names the catalogue where there is one."""
    match name:
        case "anss":
            output.writelines(anss_json(pick) + "\n" for pick in picks)
        case "gamma":
            output.write(gamma_csv(picks))
        case "pyocto":
            output.write(pyocto_csv(picks))
        case "quakeml" | "seiscomp" | "nonlinloc":
            from streamer.export.catalogue import as_text, pick_catalogue

            output.write(as_text(pick_catalogue(picks, agency), name))
        case _:
            write_picks(picks, name, output)


def gamma_csv(picks: Sequence[Pick]) -> str:
    """The picks table of GaMMA: id (NET.STA.LOC.BI), timestamp, type (p, s), prob, amp (m/s).

    An amplitude in another unit is left empty: GaMMA takes it for m/s.
    """
    return _table(
        ("id", "timestamp", "type", "prob", "amp"),
        (
            (
                pick.nslc[:-1],
                iso(pick.t_ns)[:-4],
                pick.phase.lower(),
                f"{pick.prob:.4f}",
                pick.amp if pick.amp_unit == "m/s" else "",
            )
            for pick in picks
        ),
    )


def pyocto_csv(picks: Sequence[Pick]) -> str:
    """The picks table of PyOcto: station (NET.STA), phase, time (POSIX s), probability, pick id."""
    return _table(
        ("station", "phase", "time", "probability", "pick_id"),
        (
            (
                f"{pick.net}.{pick.sta}",
                pick.phase,
                f"{pick.t_ns / NS_PER_S:.6f}",
                f"{pick.prob:.4f}",
                pick.id,
            )
            for pick in picks
        ),
    )


def write_real_picks(picks: Sequence[Pick], folder: Path) -> None:
    """The input of REAL: NET.STA.P.txt and NET.STA.S.txt in a folder for each day, YYYYMMDD.

    Lines are seconds of the day, probability, and amplitude (0 = none; REAL wants mm of a
    Wood-Anderson seismograph, which only picks with that unit have). Raises CannotCreateError.
    """
    lines: dict[Path, list[str]] = {}
    for pick in sorted(picks, key=lambda pick: pick.t_ns):
        day_ns = pick.t_ns // DAY_NS * DAY_NS
        day = iso(day_ns)[:10].replace("-", "")
        amplitude_mm = pick.amp if pick.amp is not None and pick.amp_unit == "mm" else 0.0
        lines.setdefault(folder / day / f"{pick.net}.{pick.sta}.{pick.phase}.txt", []).append(
            f"{(pick.t_ns - day_ns) / NS_PER_S:.4f} {pick.prob:.4f} {amplitude_mm:.3e}\n"
        )
    for path, texts in lines.items():
        write_file(path, "".join(texts))


def write_file(path: Path, text: str) -> None:
    """Write a file and the folder it lies in. Raises CannotCreateError naming it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CannotCreateError(
            f"cannot write {path}: {error.strerror}; choose another place with -o"
        ) from error


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return output.getvalue()
