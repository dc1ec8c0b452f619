"""The publisher killed at random instants, and disks that are full or read-only."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from bus_picks import make_pick
from bus_servers import running

HERE = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), str(HERE.parent), str(HERE)]),
}
KILLS = 5
PICKS_PER_LIFE = 400


def test_killed_publisher_loses_and_doubles_nothing(folder: Path, redis_server_binary: str) -> None:
    """kill -9 at random instants, server killed between: each pick once, in order, once stamped."""
    dice = random.Random(5)
    state = folder / "state"
    state.mkdir()
    always = ("--appendonly", "yes", "--appendfsync", "always")
    with running(redis_server_binary, folder, *always) as server:
        command = [sys.executable, HERE / "publish_numbers.py", server.socket, state]
        for life in range(1, KILLS + 1):
            total = str(life * PICKS_PER_LIFE)
            process = subprocess.Popen([*command, total], env=ENVIRONMENT, stdout=subprocess.PIPE)
            assert process.stdout is not None
            for _ in range(dice.randrange(1, 20)):
                assert process.stdout.readline()
            time.sleep(dice.uniform(0, 0.01))
            if life % 3 == 0:
                server.kill()
                server.start()
            process.kill()
            process.communicate()
        total_picks = KILLS * PICKS_PER_LIFE
        subprocess.run([*command, str(total_picks)], env=ENVIRONMENT, check=True, timeout=60)
        found = [fields for _, fields in server.entries()]
    assert [each["id"] for each in found] == [make_pick(number).id for number in range(total_picks)]


def test_picks_go_around_a_spool_whose_disk_is_full(tmp_path: Path) -> None:
    """They reach Redis directly; `secure` waits for room; read-only, the daemon does not start."""
    outcome = disk_trouble("full", tmp_path)
    assert outcome["names"] == [make_pick(number).name for number in range(520)]
    assert not outcome["secure_while_in_trouble"]
    assert (outcome["dropped"], outcome["repeated"]) == (0, 5)
    assert [entry["event"] for entry in outcome["logs"]] == ["spool_failed", "spool_recovered"]
    assert "database or disk is full" in outcome["logs"][0]["error"]
    assert outcome["refusal"].startswith("73 ")
    assert "Read-only file system" in outcome["refusal"]


def test_a_disk_that_turns_read_only_stops_the_checkpoint_and_no_pick(tmp_path: Path) -> None:
    """Picks go to Redis directly; when the disk takes writes again, so do spool and checkpoint."""
    outcome = disk_trouble("read-only", tmp_path)
    assert outcome["names"] == [make_pick(number).name for number in range(70)]
    assert outcome["dropped"] == 0
    assert outcome["written"] == [True, True]
    assert outcome["checkpoints"] == [10, 70], "the old one stays as it is meanwhile"
    logged = [entry["event"] for entry in outcome["logs"]]
    about_disk = ("spool_failed", "checkpoint_failed", "spool_recovered", "checkpoint_written")
    assert [name for name in logged if name != "resumed"] == [*about_disk]
    assert "Read-only file system" in outcome["logs"][0]["error"]


def disk_trouble(kind: str, folder: Path) -> dict[str, Any]:
    """What a publisher did on a disk that is in trouble."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], check=False).returncode:
        pytest.skip("unshare -rm (util-linux, user namespaces) is needed to mount a small disk")
    done = subprocess.run(
        [unshare, "-rm", sys.executable, HERE / "disk_trouble.py", kind, folder],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome
