"""A configuration looked at before it is used: all that is wrong with it, with lines."""

from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from streamer.bus.redis_url import EMBEDDED_URL, parse_redis_url
from streamer.config import Config, read_sources
from streamer.errors import MsnetError
from streamer.stationspec import parse_station_spec


def check(path: Path, environ: Mapping[str, str]) -> None:
    """Raises a ConfigError with a line for each error of the file at `path`, in their order.

    Texts that only the parts of the daemon read are read here, too: what passes starts.
    """
    sources = read_sources(path, {}, environ)
    stations, url = sources.value("stations"), sources.value("redis.url")
    if isinstance(stations, str):
        stations = stations.split(",")
    for text in stations if isinstance(stations, list) else []:
        if isinstance(text, str) and text != "-":
            try:
                parse_station_spec([text], StringIO())
            except MsnetError as error:
                sources.complain("stations", str(error))
    if isinstance(url, str) and url != EMBEDDED_URL:
        try:
            parse_redis_url(url, environ={})
        except MsnetError as error:
            sources.complain("redis.url", str(error))
    sources.validate(Config)
