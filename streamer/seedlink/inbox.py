"""The queue between the reader of the network and the work: bounded in bytes, and it tells."""

import asyncio

import structlog

from streamer.seedlink.packets import Packet

log = structlog.get_logger()

# A packet in memory is this much larger than its record.
_OVERHEAD_BYTES = 250
# Full and free again are told when the fill has crossed this share, not at every packet.
_FREE_SHARE = 0.5


class Inbox(asyncio.Queue[Packet]):
    """Packets in order of arrival; full at `max_bytes`, and then `put` waits.

    While it waits nothing is read, and the server has to keep what follows: a server whose own
    buffer is small then leaves a hole. `times_full` counts.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self.held_bytes = 0
        self.times_full = 0
        self._max_bytes = max_bytes
        self._told = False

    def full(self) -> bool:
        """Whether `put` has to wait."""
        return self.held_bytes >= self._max_bytes

    def _put(self, item: Packet) -> None:
        super()._put(item)
        self.held_bytes += len(item.data) + _OVERHEAD_BYTES
        if self.full() and not self._told:
            self._told = True
            self.times_full += 1
            log.warning("inbox_full", packets=self.qsize(), held_bytes=self.held_bytes)

    def _get(self) -> Packet:
        packet = super()._get()
        self.held_bytes -= len(packet.data) + _OVERHEAD_BYTES
        if self._told and self.held_bytes < _FREE_SHARE * self._max_bytes:
            self._told = False
            log.info("inbox_free", packets=self.qsize())
        return packet
