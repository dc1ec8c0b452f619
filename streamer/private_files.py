"""Files and folders of the state folder: readable by this user alone, and held by one process."""

import fcntl
import os
import stat
from pathlib import Path
from typing import BinaryIO

from streamer.errors import CannotCreateError


def private_folder(folder: Path) -> None:
    """Make the folder if need be and close it to other users. Raises CannotCreateError."""
    make_folder(folder.parent)
    make_folder(folder)
    try:
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
            folder.chmod(0o700)
            return
    except OSError as error:
        raise _no_folder(folder, error) from error
    raise CannotCreateError(
        f"{folder} must be a folder (no link) that belongs to this user: remove it, or choose "
        "another state folder"
    )


def make_folder(folder: Path) -> None:
    """Make a folder that is not there, for this user alone. Raises CannotCreateError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _no_folder(folder, error) from error


def write_private(path: Path, text: str) -> None:
    """Replace a file as a whole, readable by this user alone from its first byte."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


def append_private(path: Path) -> BinaryIO:
    """Open a file to append to, readable by this user alone if it is new."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return open(descriptor, "ab")


def open_lock(path: Path) -> int:
    """Descriptor of a lock file; closing it gives the lock up. Raises CannotCreateError."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotCreateError(
            f"{path} cannot be made: {error.strerror}; check the disk and the permissions, or "
            "choose another state folder"
        ) from error


def try_lock(lock: int) -> bool:
    """Take the lock of `open_lock` unless another process holds it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def hold(path: Path) -> int:
    """Take the lock file at `path` for this process; closing the descriptor gives it up.

    Raises CannotCreateError, naming the process that holds it.
    """
    lock = open_lock(path)
    if try_lock(lock):
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        return lock
    holder = os.pread(lock, 20, 0).decode(errors="replace") or "unknown"
    os.close(lock)
    raise CannotCreateError(
        f"{path} is held by process {holder}: end that one, or give this one another state folder "
        "(--state-dir)"
    )


def _no_folder(folder: Path, error: OSError) -> CannotCreateError:
    return CannotCreateError(
        f"the folder {folder} cannot be made: {error.strerror}; check the permissions, or choose "
        "another state folder"
    )
