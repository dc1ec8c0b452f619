"""Where secrets come from: a file, a systemd credential, a variable; never the command line."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from streamer.errors import AccessDeniedError


@dataclass(frozen=True, slots=True)
class Secret:
    """`what` it is in messages, its systemd credential and its environment variable."""

    what: str
    credential: str
    variable: str


def find_secret(secret: Secret, file: Path | None, environ: Mapping[str, str]) -> str | None:
    """The first found: in `file`, as the credential, in the variable; None when there is none.

    A trailing line end of a file is not part of it. Raises AccessDeniedError when a file that is
    there or is named cannot be read.
    """
    path = secret_path(secret, file, environ)
    return environ.get(secret.variable) or None if path is None else read_secret(path, secret.what)


def secret_path(secret: Secret, file: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file that holds it: `file`, or the credential if systemd gives it; None: no file."""
    if file is not None:
        return file
    if directory := environ.get("CREDENTIALS_DIRECTORY"):
        credential = Path(directory) / secret.credential
        return credential if credential.exists() else None
    return None


def read_secret(path: Path, what: str) -> str:
    """The text of a file less its last line end. Raises AccessDeniedError: unreadable, empty."""
    try:
        text = path.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise AccessDeniedError(
            f"the {what} file {path} cannot be read: {reason}; "
            "check the path and that this user may read it"
        ) from None
    if not text:
        raise AccessDeniedError(f"the {what} file {path} is empty")
    return text
