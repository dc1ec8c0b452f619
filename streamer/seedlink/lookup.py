"""Ask a server what it has of the stations wanted."""

from streamer.config import Server
from streamer.seedid import Nslc
from streamer.seedlink.discovery import Listing, info_item, parse_listing
from streamer.seedlink.link import Link, LinkSettings
from streamer.seedlink.packets import LinkError, RefusedError
from streamer.stationspec import StationSpec


async def look_up(server: Server, settings: LinkSettings, spec: StationSpec) -> Listing:
    """Over a connection of its own. Raises as `Link.open` and `listing_of`."""
    link = Link(server, settings)
    try:
        await link.open()
        return await listing_of(link, spec)
    finally:
        await link.close()


async def listing_of(link: Link, spec: StationSpec) -> Listing:
    """The channels of a server; all of them if it has none of `spec`, so that a hint can be given.

    Raises LinkError (also if it refuses to tell and `spec` has wildcards), OSError.
    """
    listing: Listing | None = None
    for item in dict.fromkeys((info_item(spec, v4=link.v4), "STREAMS")):
        try:
            listing = parse_listing(await link.info(item), v4=link.v4)
        except RefusedError:
            continue
        if any(map(spec.matches, listing.channels)):
            break
    return _named(spec, v4=link.v4) if listing is None else listing


def _named(spec: StationSpec, *, v4: bool) -> Listing:
    """For a server that tells nobody what it has: the channels that are asked for by name."""
    exact = (
        Nslc(pattern.network, pattern.station, pattern.location, pattern.channel)
        for pattern in spec.patterns
        if pattern.is_exact and not pattern.exclude
    )
    channels = dict.fromkeys(exact, "")
    if not channels:
        raise LinkError("it refuses INFO STREAMS: name all channels, without wildcards")
    return Listing(v4=v4, channels=channels)


def no_match(spec: StationSpec, listing: Listing, server: str) -> str:
    """Says that a server has nothing of `spec`, and which of its names are nearest."""
    nearest = ", ".join(spec.nearest(str(nslc) for nslc in listing.channels))
    hint = f"nearest: {nearest}" if nearest else "the server has no channels at all"
    return f"{server} has no channel that matches --stations {spec}; {hint}"
