"""What the process has done already from which daemons are forked: all that every start repeats."""

from fractions import Fraction

import numpy as np
import pytest.__main__  # noqa: F401
import scipy.signal  # noqa: F401

import streamer.daemon  # noqa: F401
from model.preprocess import Resampler
from streamer.demo.recordings import load_recordings

RATES = {record.rate for record in load_recordings()}

for rate in RATES:
    resampler = Resampler(Fraction(rate))
    first, stop = resampler.input_range(0, 100)
    resampler(np.zeros(stop - first), 0, 100)
