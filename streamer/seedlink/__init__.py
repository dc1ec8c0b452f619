"""SeedLink: the wire protocol, the client of live servers, the replay server."""
