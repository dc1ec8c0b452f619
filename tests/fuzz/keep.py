"""Take the interesting part of what a run has found over into the corpus of the repository.

    python tests/fuzz/keep.py records --work /tmp/fuzz

The shortest inputs come first; one is kept if it goes from one line to another as none before it.
"""

import argparse
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from run import CORPUS
from targets import TARGETS

SOURCES = str(Path(__file__).parents[2] / "streamer")
Step = tuple[str, int, int]


def steps(target: str, data: bytes) -> set[Step]:
    """The steps from line to line within our sources."""
    taken: set[Step] = set()
    last: dict[FrameType, int] = {}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(SOURCES):
            return None
        if event == "line":
            taken.add((file, last.get(frame, 0), frame.f_lineno))
            last[frame] = frame.f_lineno
        return trace

    sys.settrace(trace)
    try:
        TARGETS[target](data)
    finally:
        sys.settrace(None)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--work", type=Path, required=True, help="folder of the run")
    options = parser.parse_args()
    corpus = CORPUS / options.target
    known: set[Step] = set()
    for path in sorted(corpus.iterdir()):
        known |= steps(options.target, path.read_bytes())
    found = (path for path in (options.work / options.target / "found").iterdir())
    kept = 0
    for path in sorted(found, key=lambda path: (path.stat().st_size, path.name)):
        data = path.read_bytes()
        taken = steps(options.target, data)
        if not taken <= known:
            known |= taken
            kept += 1
            (corpus / path.name[:12]).write_bytes(data)
    print(f"{kept} inputs kept, {len(known)} steps")


if __name__ == "__main__":
    main()
