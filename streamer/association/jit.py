"""The one way in which this wing compiles: cached on disk, without the interpreter lock."""

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """`function` as machine code; compiled at its first call and kept beside its source file.

    Arithmetic keeps its order (no fast-math), so that a result does not depend on the processor.
    """
    return cast(Function, njit(cache=True, nogil=True)(function))
