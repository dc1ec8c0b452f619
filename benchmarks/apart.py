"""A contender in a process of its own, as its users run it: settings of one do not help another."""

import multiprocessing
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Self

import torch
from contenders import Contender, Turns, take_turns, turn

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
        name, stations = self._pipe.recv()  # EOFError if the process died
        return name, stations

    def turn(self, second: int) -> tuple[int, float]:
        """`contenders.turn` in its process."""
        self._pipe.send(second)
        picks, cpu_s = self._pipe.recv()
        return picks, cpu_s


def measure_apart(
    builds: Sequence[Build], rounds: int, tell: Callable[[str], None]
) -> list[tuple[str, int, Turns]]:
    """Name, stations and turns of each contender, as `measure` has them."""
    with ExitStack() as stack:
        contenders = [stack.enter_context(Apart(build)) for build in builds]
        known = [contender.ready() for contender in contenders]
        names = [name for name, _ in known]
        takers = dict(zip(names, (contender.turn for contender in contenders), strict=True))
        turns = take_turns(takers, rounds, tell)
        return [(*each, done) for each, done in zip(known, turns, strict=True)]


def _serve(pipe: Connection, build: Build) -> None:
    torch.set_num_threads(1)
    contender = build()
    pipe.send((contender.name, contender.stations))
    while True:
        pipe.send(turn(contender, pipe.recv()))
