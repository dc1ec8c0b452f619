"""`python -m streamer.cli` is `msnet-stream`."""

from streamer.cli import main

main(prog_name="msnet-stream")
