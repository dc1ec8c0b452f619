"""Training and evaluation of MSNet (`msnet-train`). Never imported by `streamer`."""
