"""HDF5 files and the CSV tables beside them: how they are opened, what they say of themselves."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamer.errors import ConfigError, DataError, NoInputError
from train.sources.recording import Segment, UnreadableError, as_samples


def open_hdf5(path: Path) -> Any:
    """An open h5py.File, to be closed by the caller.

    Raises ConfigError without h5py, NoInputError or DataError naming the file.
    """
    try:
        import h5py
    except ImportError as error:
        raise ConfigError(
            f"{path}: reading HDF5 needs h5py: pip install 'msnet-stream[train]'"
        ) from error
    if not path.is_file():
        raise NoInputError(f"{path}: no such file; the table beside it needs its waveforms")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: not a readable HDF5 file: {error}") from error


def columns(path: Path) -> list[str]:
    """Names in the first line of a CSV file; [] if it has none or is not text."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return next(csv.reader(file), [])
    except (OSError, csv.Error, UnicodeDecodeError):
        return []


def count_rows(path: Path) -> int:
    """Lines after the first: how many rows a table has, unless cells hold line breaks."""
    with path.open("rb") as file:
        return max(sum(1 for _ in file) - 1, 0)


def read_dataset(group: Any, name: str, where: object, what: str) -> npt.NDArray[Any]:
    """`group[name][where]` as an array; raises UnreadableError."""
    try:
        return np.asarray(group[name][where])
    except KeyError as error:
        raise UnreadableError("no_waveform", f"{what}: no waveform of that name") from error
    except (OSError, ValueError, IndexError, TypeError, AttributeError) as error:
        raise UnreadableError("no_waveform", f"{what}: cannot be read: {error}") from error


def segments(samples: npt.NDArray[Any], order: str, what: str) -> tuple[Segment, ...]:
    """Components of (len(order), n) samples; of a code we do not know, none.

    Raises UnreadableError if the array has another shape.
    """
    if samples.ndim != 2 or len(samples) != len(order):
        raise UnreadableError(
            "wrong_shape", f"{what}: shape {samples.shape} for the components {order!r}"
        )
    return tuple(
        Segment(code, 0, as_samples(line, what))
        for code, line in zip(order, samples, strict=True)
        if code in "ZNE12"
    )
