"""The scenes of tests/integration/test_crash.py for as long as wanted, with other seeds.

python tests/crash_long.py --kills 500
python tests/crash_long.py --kills 10 --seed 17 --scene 2    (one again that failed)
"""

import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent / "integration"))


@click.command()
@click.option("--kills", default=500, show_default=True)
@click.option("--seed", default=100, show_default=True, help="Of the first scene; then 101 ...")
@click.option("--scene", type=int, help="Number of the only scene to play: 0 to 3.")
@click.option("--repeats", default=2, show_default=True, help="Of the recordings of 4 minutes.")
def main(kills: int, seed: int, scene: int | None, repeats: int) -> None:
    """Kill daemon, broker and server until it has been done often enough, and compare."""
    from crash_parts import SCENES, long_archive, undisturbed

    binary = shutil.which("redis-server")
    if binary is None:
        raise click.ClickException("redis-server is not on PATH")
    records = long_archive(repeats)
    with tempfile.TemporaryDirectory(prefix="calm") as folder:
        expected = undisturbed(Path(folder), binary, records)
    done: Counter[str] = Counter()
    failed = 0
    begun_s = time.monotonic()
    chosen = SCENES if scene is None else [SCENES[scene]]
    while sum(count for name, count in done.items() if name.startswith("kill")) < kills:
        played = chosen[seed % len(chosen)]
        try:
            done += played.play(binary, records, expected, seed)
            outcome = "same messages"
        except AssertionError as error:
            failed += 1
            outcome = f"FAILED: {error}"
        print(f"{time.monotonic() - begun_s:6.0f} s  seed {seed}, {played}: {outcome}", flush=True)
        seed += 1
        if failed > 3:
            break
    print(f"{dict(done)}; {len(expected)} messages each time; {failed} scenes failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
