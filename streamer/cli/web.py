"""The web page."""

from pathlib import Path
from typing import Any

import click

from streamer.cli.options import viewed, viewer_options


@click.command()
@viewer_options
@click.option("--host", default="127.0.0.1", show_default=True,
              help="Address to listen on. The page has no login: mind who reads.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=8018, show_default=True,
              help="Port to listen on; 0 takes a free one.")  # fmt: skip
@click.option("--allow-host", multiple=True, metavar="NAME",
              help="Further name by which browsers reach this page. Repeatable.")  # fmt: skip
@click.option(
    "--open", "open_browser", is_flag=True, help="Open it in the browser of this desktop."
)
def web(
    host: str,
    port: int,
    allow_host: tuple[str, ...],
    open_browser: bool,
    config_path: Path | None,
    log_level: str | None,
    **options: Any,
) -> None:
    """Serve a page with stations, waveforms, picks and events as they come.

    Read-only, and from any host that reaches the Redis server. Needs the extra msnet-stream[web].
    """
    import webbrowser

    from streamer.bus.address import server_address
    from streamer.errors import ConfigError

    config = viewed(config_path, log_level, **options)
    try:
        from streamer.web.serve import serve_page
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the web page needs {error.name}: pip install 'msnet-stream[web]'"
        ) from error

    def started(address: str) -> None:
        click.echo(address)
        if open_browser:
            webbrowser.open(address)

    serve_page(
        server_address(config), config.redis.prefix, host, port, hosts=allow_host, started=started
    )
