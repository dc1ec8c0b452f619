"""The chapter about files of docs/getting-started.md, typed as it stands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The programs of this interpreter and of this source tree, whatever is installed.
PROLOGUE = (
    'set -e\npython() { "$INTERPRETER" "$@"; }\nmsnet-stream() { python -m streamer.cli "$@"; }\n'
)


def chapter() -> str:
    """Its blocks as one script; the YAML one becomes the file that the text names."""
    text = (ROOT / "docs" / "getting-started.md").read_text()
    part = text.partition("\n### Files\n")[2].partition("\n### ")[0]
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", part, re.DOTALL | re.MULTILINE)
    assert [kind for kind, _ in blocks] == ["sh", "sh", "yaml", "sh"]
    assert "`network.yaml`" in part
    return "".join(
        f"cat > network.yaml <<'END'\n{text}END\n" if kind == "yaml" else text
        for kind, text in blocks
    )


def test_from_files_to_located_events_as_it_is_told(tmp_path):
    environ = os.environ | {"INTERPRETER": sys.executable, "PYTHONPATH": str(ROOT)}
    script = PROLOGUE + chapter()
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "BW.UH3..SHZ" in done.stdout
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert events
    assert all(abs(event["lat"] - 48.05) < 0.1 and event["depth_km"] < 10 for event in events)
    assert "<event " in (tmp_path / "events.xml").read_text()
    assert (tmp_path / "events.png").read_bytes().startswith(b"\x89PNG")
