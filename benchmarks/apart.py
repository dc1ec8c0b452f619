"""A contender in a process of its own, as its users run it: settings of one do not help another."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any, Self

import torch
from contenders import WARM_S, Contender, Turns

Build = Callable[[], Contender]


class Apart:
    """Starts the process, which builds its contender while others start theirs."""

    def __init__(self, build: Build) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(far_end, build), daemon=True)
        self._process.start()
        far_end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.join()

    def ready(self) -> tuple[str, int]:
        """Name and number of stations, once it is built."""
        name, stations = self._answer()
        return name, stations

    def turn(self, second: int) -> tuple[int, float]:
        """One second of all stations: how many picks, and the CPU seconds of its process."""
        self._pipe.send(second)
        picks, cpu_s = self._answer()
        return picks, cpu_s

    def _answer(self) -> Any:
        return self._pipe.recv()  # EOFError if the process died; its traceback was printed


def measure_apart(
    builds: Sequence[Build], rounds: int, tell: Callable[[str], None]
) -> list[tuple[str, int, Turns]]:
    """Name, stations and turns of each contender, as `measure` has them."""
    with ExitStack() as stack:
        contenders = [stack.enter_context(Apart(build)) for build in builds]
        known = [contender.ready() for contender in contenders]
        turns = [Turns([], 0) for _ in builds]
        for second in range(WARM_S, WARM_S + rounds + 1):
            for number, contender in enumerate(contenders):
                picks, cpu_s = contender.turn(second)
                kept = [*turns[number].cpu_s, cpu_s] if second > WARM_S else []
                turns[number] = Turns(kept, turns[number].picks + picks)
                tell(known[number][0])
        return [(*each, done) for each, done in zip(known, turns, strict=True)]


def _serve(pipe: Connection, build: Build) -> None:
    torch.set_num_threads(1)
    contender = build()
    pipe.send((contender.name, contender.stations))
    while True:
        hop = contender.prepare(pipe.recv())
        began_s = time.process_time()
        picks = hop()
        pipe.send((picks, time.process_time() - began_s))
