#!/usr/bin/env python3
"""A consumer of the picks, complete and with nothing but Python's standard library.

    python3 reference_consumer.py picks.sqlite --host localhost --port 6379
    python3 reference_consumer.py picks.sqlite --unix ~/.local/state/msnet-stream/broker/redis.sock

Copy it, or write the same in your language. What it shows:

* Delivery is at least once, so messages are inserted or ignored by (id, rev).
* The position in the stream is stored in the transaction that stores the messages: whatever
  happens, nothing is lost and nothing counts twice. No consumer group, no right to write is needed.
* A pick may be updated (rev 1, 2 ...) and retracted; the view `standing` has what is valid now.
* Fields that are not known are kept, a version that is not known ends the program.
"""

import argparse
import contextlib
import json
import os
import socket
import sqlite3
import sys
import time

STREAM = "msnet:picks"
VERSION = "1"
BLOCK_MS = 5000
RETRY_S = 2.0
SHOWN = ("status", "time", "net", "sta", "phase", "prob")

TABLES = """
create table if not exists picks (
    id text, rev integer, status text, t_ns integer, message text, primary key (id, rev));
create table if not exists position (stream text primary key, entry text);
create view if not exists standing as
    select * from picks p where status != 'retract'
    and rev = (select max(rev) from picks where id = p.id);
"""


class Redis:
    """As much of the Redis protocol (RESP 2) as a reader needs."""

    def __init__(self, address, password=None, user=None):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        if family == socket.AF_UNIX:
            self.socket = socket.socket(family)
            self.socket.connect(address)
        else:
            self.socket = socket.create_connection(address, timeout=10)
        self.socket.settimeout(BLOCK_MS / 1000 + 10)
        self.file = self.socket.makefile("rb")
        if password:
            self.command("AUTH", *([user] if user else []), password)

    def command(self, *words):
        """Send a command, return its reply: text, int, list or None. Raises on an error reply."""
        data = [str(word).encode() for word in words]
        parts = [b"*%d\r\n" % len(data), *(b"$%d\r\n%s\r\n" % (len(word), word) for word in data)]
        self.socket.sendall(b"".join(parts))
        return self._reply()

    def _reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2].decode()
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"-" and rest.startswith(("LOADING", "MASTERDOWN")):
            raise ConnectionError(rest)
        if kind == b"-":
            raise RuntimeError(f"Redis refused: {rest}")
        length = int(rest)
        if length < 0:
            return None
        if kind == b"*":
            return [self._reply() for _ in range(length)]
        return self.file.read(length + 2)[:-2].decode(errors="replace")


def open_store(path):
    """The database with its tables."""
    store = sqlite3.connect(path)
    store.executescript(TABLES)
    return store


def position(store):
    """The entry id up to which the database has everything."""
    row = store.execute("select entry from position where stream = ?", (STREAM,)).fetchone()
    return row[0] if row else "0-0"


def take(store, entries):
    """Store a page of the stream and the position after it; return the messages that are new."""
    new = []
    with store:  # one transaction
        for entry, flat in entries:
            message = dict(zip(flat[::2], flat[1::2], strict=True))
            if message.get("v") != VERSION:
                sys.exit(f"entry {entry}: message version {message.get('v')}: update this program")
            row = (message["id"], int(message["rev"]), message["status"], int(message["t_ns"]))
            added = store.execute(
                "insert or ignore into picks values (?, ?, ?, ?, ?)", (*row, json.dumps(message))
            )
            new += [message] if added.rowcount else []
        store.execute("insert or replace into position values (?, ?)", (STREAM, entries[-1][0]))
    return new


def consume(address, store, password=None, user=None, until_caught_up=False):
    """Read on from the stored position, for ever or until nothing is left."""
    redis = Redis(address, password, user)
    block = [] if until_caught_up else ["BLOCK", BLOCK_MS]
    while True:
        reply = redis.command("XREAD", "COUNT", 1000, *block, "STREAMS", STREAM, position(store))
        if reply:
            for message in take(store, reply[0][1]):
                print(*(message[name] for name in SHOWN), flush=True)
        elif until_caught_up:
            return


def main():
    """Read the command line and consume, through lost connections, until Ctrl-C."""
    parser = argparse.ArgumentParser(description="store the picks of msnet-stream in SQLite")
    parser.add_argument("database")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=6379)
    parser.add_argument("--unix", metavar="PATH", help="unix socket instead of host and port")
    parser.add_argument("--user")
    parser.add_argument("--once", action="store_true", help="end when all that is there is stored")
    options = parser.parse_args()
    address = os.path.expanduser(options.unix) if options.unix else (options.host, options.port)
    password = os.environ.get("REDIS_PASSWORD")
    store = open_store(options.database)
    while True:
        try:
            consume(address, store, password, options.user, options.once)
            return
        except OSError as error:  # lost connections and time-outs are among them
            if options.once:
                sys.exit(f"{address}: {error}")
            print(f"{address}: {error}; again in {RETRY_S:g} s", file=sys.stderr)
            time.sleep(RETRY_S)
        except RuntimeError as error:
            sys.exit(f"{address}: {error}")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
