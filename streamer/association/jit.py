"""The one way in which this wing compiles: cached on disk, without the interpreter lock."""

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """`function` as machine code; compiled at its first call and kept beside its source file.

    It is kept in NUMBA_CACHE_DIR if that is set, and in the user's cache where the package cannot
    be written; where nothing can, each process compiles anew. Arithmetic keeps its order (no
    fast-math), so that a result does not depend on the processor.
    """
    try:
        return cast(Function, njit(cache=True, nogil=True)(function))
    except RuntimeError:  # there is no place for a cache
        return cast(Function, njit(nogil=True)(function))
