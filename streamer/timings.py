"""Where the time of the daemon goes: CPU by stage, and how long data take through it."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from streamer.timebase import NS_PER_MS

_LATENCIES = 100_000  # the newest of these are told; more come in no interval between two reports
_QUANTILES = (50, 95, 99)


class Timings:
    """CPU seconds by stage since the start, and processing latencies since the last report."""

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}
        self._latency_ms: deque[float] = deque(maxlen=_LATENCIES)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the CPU time that this thread spends inside. Nothing inside may be awaited."""
        began_s = time.thread_time()
        try:
            yield
        finally:
            spent_s = time.thread_time() - began_s
            self.cpu_s[name] = self.cpu_s.get(name, 0.0) + spent_s

    def passed(self, arrived_ns: int, done_ns: int) -> None:
        """Data that arrived then have been picked now."""
        self._latency_ms.append((done_ns - arrived_ns) / NS_PER_MS)

    def report(self) -> dict[str, Any]:
        """`cpu_s` by stage and the rest of the process, `latency_ms` by quantile; begins anew."""
        latency_ms = np.array(self._latency_ms)
        self._latency_ms.clear()
        quantiles = np.percentile(latency_ms, _QUANTILES) if len(latency_ms) else []
        spent = {name: round(cpu_s, 4) for name, cpu_s in self.cpu_s.items()}
        # SeedLink, Redis, the event loop: what happens inside awaited calls of libraries.
        spent["other"] = round(time.process_time() - sum(self.cpu_s.values()), 4)
        return {
            "cpu_s": spent,
            "latency_ms": {
                f"p{q}": round(float(value), 1)
                for q, value in zip(_QUANTILES, quantiles, strict=False)
            },
        }
