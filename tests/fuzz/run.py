"""Coverage-guided fuzzing with atheris (pip install atheris; wheels for Linux).

    python tests/fuzz/run.py records --runs 1000000 --work /tmp/fuzz

An input that fails is written to WORK/TARGET/ and ends the run; WORK/TARGET/found/ keeps what
reached new code, and a later run goes on with it. The corpus of the repository is only read;
keep.py takes the interesting part over.
"""

import argparse
import sys
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    import atheris

    with atheris.instrument_imports(
        include=["streamer.seedlink", "streamer.waveforms", "streamer.timebase"]
    ):
        from targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs to try")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is found")
    options = parser.parse_args()
    work = options.work / options.target
    found = work / "found"
    found.mkdir(parents=True, exist_ok=True)
    arguments = [
        sys.argv[0],
        f"-artifact_prefix={work}/",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-max_len=3000",
        "-print_final_stats=1",
    ]
    arguments += [f"-runs={options.runs}", str(found), str(CORPUS / options.target)]
    atheris.Setup(arguments, TARGETS[options.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
