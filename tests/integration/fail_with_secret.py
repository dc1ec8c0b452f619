"""Runs commands that fail while they know a password; everything they say goes to the terminal.

    python fail_with_secret.py SECRET SOCKET FOLDER

The last line is JSON: exit code by case. The server at SOCKET has another password.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from streamer.bus.redis_streams import PickStream
from streamer.cli import main


def invoke(arguments: list[str], environ: Mapping[str, str]) -> int | str:
    os.environ.update(environ)
    try:
        main.main(arguments, standalone_mode=True)
    except SystemExit as end:
        return int(end.code or 0)
    except RuntimeError:
        sys.excepthook(*sys.exc_info())
        return "traceback"
    finally:
        for name in environ:
            del os.environ[name]
    return 0


def cases(secret: str, socket: str, folder: Path) -> dict[str, tuple[list[str], dict[str, str]]]:
    password_file, settings, wrong = folder / "password", folder / "good.yaml", folder / "bad.yaml"
    password_file.write_text(secret)
    here = f"unix://picker:{secret}@{socket}"
    settings.write_text(f"redis:\n  url: {here}\n")
    wrong.write_text(
        f"redis:\n  url: [{here}]\n  password: {secret}\n  prefix: 'a b'\n"
        f"  password_file: {{a: {secret}}}\n  embedded: {secret}\n"
    )
    run = ["run", "--stations", "XX.*", "--server", "127.0.0.1:1", "--log-level", "debug"]
    run += ["--state-dir", str(folder / "state")]
    url = [*run, "--redis"]
    plain = f"unix://{socket}"
    return {
        "url": ([*url, here], {}),
        "json": ([*url, here], {"MSNET_STREAM_LOG__FORMAT": "json"}),
        "logfmt": ([*url, here], {"MSNET_STREAM_LOG__FORMAT": "logfmt"}),
        "environment": ([*url, plain], {"MSNET_STREAM_REDIS_PASSWORD": secret}),
        "file": ([*url, plain], {"MSNET_STREAM_REDIS__PASSWORD_FILE": str(password_file)}),
        "settings": ([*run, "--config", str(settings)], {}),
        "unreachable": ([*url, f"redis://picker:{secret}@127.0.0.1:1/0"], {}),
        "no tls": ([*url, f"rediss://picker:{secret}@127.0.0.1:1/0"], {}),
        "sentinels": ([*url, f"redis+sentinel://u:{secret}@127.0.0.1:1,127.0.0.1:2/q"], {}),
        "bad port": ([*url, f"redis://picker:{secret}@host:port/0"], {}),
        "bad database": ([*url, f"redis://picker:{secret}@host/first"], {}),
        "bad option": ([*url, f"redis://picker:{secret}@host/0?password={secret}"], {}),
        "unquoted": ([*url, f"redis://picker:{secret}#{secret}@{secret}@host/0"], {}),
        "no user": ([*url, f"redis://{secret}@127.0.0.1:1/0"], {}),
        "tail": (["picks", "tail", "--redis", here], {}),
        "doctor": (["doctor", "--config", str(settings)], {}),
        "show-config": (["show-config", "--origin"], {"MSNET_STREAM_REDIS__URL": here}),
        "check-config": (["check-config", str(wrong)], {}),
        "broken": (
            ["run", "--stations", "XX.*", "--server", "h", "--redis", here,
             "--state-dir", str(folder / quote("broken"))],
            {"MSNET_BREAK": "1"},
        ),
    }  # fmt: skip


async def broken(self: PickStream) -> None:
    raise RuntimeError(f"a fault while {self!r} connects to {self.server!r}")


if __name__ == "__main__":
    outcome = {}
    for name, (arguments, environ) in cases(sys.argv[1], sys.argv[2], Path(sys.argv[3])).items():
        if "MSNET_BREAK" in environ:
            PickStream.connect = broken  # type: ignore[method-assign]
        print(f"=== {name}", flush=True)
        outcome[name] = invoke(arguments, environ)
    print(json.dumps(outcome))
