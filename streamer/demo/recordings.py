"""The recordings of the demo, which come with obspy: 230 s of four stations in Bavaria."""

import importlib.util
from pathlib import Path

from streamer.errors import DataError
from streamer.waveforms.archive import read_archive
from streamer.waveforms.records import Record

RECORDINGS = "BW.UH*2010.147.cut.slist.gz"


def load_recordings() -> list[Record]:
    """All of them. Raises DataError if this obspy lacks them."""
    found = sorted(recordings_folder().glob(RECORDINGS))
    if not found:
        raise DataError("this installation of obspy lacks its test recordings: reinstall obspy")
    return [record for _, record in read_archive(found)]


def recordings_folder() -> Path:
    """The folder they lie in. Raises DataError without obspy."""
    # Found without importing it: that takes a second and is not needed to find files.
    spec = importlib.util.find_spec("obspy")
    if spec is None or spec.origin is None:
        raise DataError("obspy is not installed: install msnet-stream again")
    return Path(spec.origin).parent / "signal" / "tests" / "data"
