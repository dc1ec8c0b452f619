"""`/metrics`, `/healthz` and `/readyz` over HTTP, in threads beside the event loop.

Nothing that is asked here can hold up the picking: answers are made from what can be read at any
moment. Bound to the loopback address unless told otherwise; nothing can be changed through it.
"""

import json
import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

import structlog

log = structlog.get_logger()

# A scrape is one short request: a peer that sends its own slowly is cut off.
_REQUEST_TIMEOUT_S = 10
# As many scrapers at once as anybody has; more wait in the queue of the socket.
_MAX_THREADS = 8

Answer = tuple[int, str, bytes]  # status, content type, body


class HealthServer:
    """Answers until it is closed. The constructor does no I/O.

    `metrics` renders the Prometheus text; `why_not_ready` says what keeps the daemon from picking,
    or None.
    """

    def __init__(
        self,
        host: str,
        port: int,
        metrics: Callable[[], bytes],
        why_not_ready: Callable[[], str | None],
    ) -> None:
        self.host = host
        self.port = port
        self._metrics = metrics
        self._why_not_ready = why_not_ready
        self._server: WSGIServer | None = None

    def open(self) -> bool:
        """Listen (port 0: any free one); whether it worked.

        A port that is taken is logged: the picks matter more than what can be asked about them.
        """
        try:
            kind = _ServerV6 if ":" in self.host else _Server
            self._server = make_server(self.host, self.port, self._answer, kind, _Handler)
        except OSError as error:
            reason = error.strerror or str(error)
            log.warning("metrics_unavailable", address=f"{self.host}:{self.port}", error=reason)
            return False
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()
        log.info("metrics_listening", address=f"{self.host}:{self.port}")
        return True

    @classmethod
    def at(
        cls,
        address: tuple[str, int] | None,
        metrics: Callable[[], bytes],
        why_not_ready: Callable[[], str | None],
    ) -> Self | None:
        """One that listens; None without an address, or if it cannot listen there."""
        server = None if address is None else cls(*address, metrics, why_not_ready)
        return server if server is not None and server.open() else None

    def close(self) -> None:
        """Stop listening. May be called again."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, content_type, body = self._look_up(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        start_response(_STATUS[status], headers)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    def _look_up(self, method: str, path: str) -> Answer:
        if method not in ("GET", "HEAD"):
            return 405, "text/plain", b"read only\n"
        match path:
            case "/metrics":
                return 200, "text/plain; version=0.0.4; charset=utf-8", self._metrics()
            case "/healthz":
                return 200, "application/json", b'{"alive": true}\n'
            case "/readyz":
                reason = self._why_not_ready()
                answer = {"ready": reason is None, **({"reason": reason} if reason else {})}
                return 503 if reason else 200, "application/json", _json(answer)
        return 404, "text/plain", b"/metrics, /healthz or /readyz\n"


def _json(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


_STATUS = {
    200: "200 OK",
    404: "404 Not Found",
    405: "405 Method Not Allowed",
    503: "503 Service Unavailable",
}


class _Server(ThreadingMixIn, WSGIServer):
    """One thread per question, of which there are few."""

    daemon_threads = True

    def __init__(self, *arguments: object) -> None:
        self._places = threading.BoundedSemaphore(_MAX_THREADS)
        super().__init__(*arguments)  # type: ignore[arg-type]

    def process_request(self, request: object, client_address: object) -> None:
        self._places.acquire()
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._places.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A peer that hangs up or dawdles is not worth a line."""


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _REQUEST_TIMEOUT_S

    def log_message(self, format: str, *arguments: object) -> None:
        """A scrape every few seconds is no news."""
