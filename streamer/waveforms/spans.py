"""Ranges of sample indices that something is known about: few, in order, the newest ones kept."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Spans:
    """Half-open ranges [first, stop) of sample indices that neither touch nor overlap.

    At most `most` of them: for more the oldest are forgotten.
    """

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self._firsts: list[int] = []
        self._stops: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._firsts, self._stops, strict=True)))

    def add(self, first: int, stop: int) -> None:
        """Take in a range; what it touches becomes one with it."""
        left, right = bisect_left(self._stops, first), bisect_right(self._firsts, stop)
        if left < right:
            first, stop = min(first, self._firsts[left]), max(stop, self._stops[right - 1])
        self._firsts[left:right], self._stops[left:right] = [first], [stop]
        del self._firsts[: -self._most], self._stops[: -self._most]

    def remove(self, first: int, stop: int) -> None:
        """Forget what lies in a range."""
        left, right = bisect_right(self._stops, first), bisect_left(self._firsts, stop)
        if left >= right:
            return
        kept = [(self._firsts[left], first), (stop, self._stops[right - 1])]
        kept = [span for span in kept if span[0] < span[1]]
        self._firsts[left:right] = [span[0] for span in kept]
        self._stops[left:right] = [span[1] for span in kept]

    def meets(self, first: int, stop: int) -> bool:
        """Whether any index of a range is in one of ours."""
        return bisect_right(self._stops, first) < bisect_left(self._firsts, stop)
