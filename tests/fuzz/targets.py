"""What is fuzzed: each target takes any bytes and fails by an exception, a crash or a hang.

The first byte of an input chooses how the rest is cut, so that the same bytes arrive in pieces of
different lengths.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress

from streamer.errors import DataError
from streamer.seedlink.discovery import parse_listing
from streamer.seedlink.handshake import Handshake
from streamer.seedlink.link import limits_ns
from streamer.seedlink.packets import (
    InfoAnswer,
    LinkError,
    PacketSplitter,
    channel_key,
    channel_of,
)
from streamer.seedlink.protocol import Command, CommandError, LineSplitter
from streamer.waveforms.records import decode, decode_header


def pieces(data: bytes) -> Iterator[bytes]:
    """The bytes behind the first, in pieces of the length that it says: at most eight."""
    length = max(data[0] * 7 + 1, len(data) // 8) if data else 1
    return (data[at : at + length] for at in range(1, len(data), length))


def packets(data: bytes, *, v4: bool) -> None:
    """Whatever a server sends in its data phase; records are looked into as the client does."""
    splitter, answer = PacketSplitter(v4=v4), InfoAnswer(v4=v4)
    length = 0
    with suppress(LinkError):
        for piece in pieces(data):
            for frame in splitter.feed(piece):
                length += len(frame.payload)
                if frame.is_info:
                    answer.add(frame)
                else:
                    channel_of(channel_key(frame.payload))
                    limits_ns(frame.payload)
    # Twice: what a record of v3 has swallowed is looked at again, but only once.
    assert length + splitter.skipped_bytes <= 2 * len(data), "more came out than went in"


def packets_v3(data: bytes) -> None:
    packets(data, v4=False)


def packets_v4(data: bytes) -> None:
    packets(data, v4=True)


def records(data: bytes) -> None:
    """One record, as the ingest decodes it."""
    with suppress(DataError):
        record = decode(data)
        assert record.end_ns > record.start_ns
        assert len(record.samples) > 0
        assert sum(len(piece.samples) for piece in record.pieces(10)) == len(record.samples)
    with suppress(DataError):
        _, start_ns, end_ns = decode_header(data)
        assert end_ns >= start_ns


def listings(data: bytes) -> None:
    """An answer to INFO."""
    with suppress(LinkError):
        parse_listing(data[1:], v4=data[:1] < b"\x80")


def commands(data: bytes) -> None:
    """What a client sends to the replay server."""
    lines = LineSplitter()
    handshake = Handshake("SeedLink v4.0", "fuzz", ["CX_PB01", "GE_WLF"])
    with suppress(CommandError):
        for piece in pieces(data):
            for command in lines.feed(piece):
                if not handshake.ready and command.name not in ("INFO", "BYE"):
                    _obey(handshake, command)


def _obey(handshake: Handshake, command: Command) -> None:
    refusal = b"\r\n"
    try:
        handshake.handle(command)
    except CommandError as error:
        refusal = handshake.refusal(error)
    assert refusal.endswith(b"\r\n")


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (packets_v3, packets_v4, records, listings, commands)
}
