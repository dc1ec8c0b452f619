"""The HTTP side of the page: its files, a snapshot, the live messages, and waveforms on request.

Read-only: nothing here changes a pick or a setting. Answers carry a content policy that lets the
page load from here alone, for it must work where there is no other network.
"""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamer.bus.asks import MOST_SECONDS, Ask
from streamer.web.board import Board

Lookup = Callable[[Ask], Awaitable[object | None]]

STATIC = Path(str(files("streamer.web") / "static"))
_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"


def make_app(board: Board, look_up: Lookup, hosts: list[str]) -> Starlette:
    """The page for what is on `board`; `look_up` gets waveforms of one instrument.

    Only requests for one of `hosts` are answered: another site that has its name point here must
    not read along.
    """

    async def page(request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def snapshot(request: Request) -> Response:
        return JSONResponse(board.snapshot())

    async def stream(request: Request) -> Response:
        seen = request.headers.get("last-event-id") or request.query_params.get("after", "0")
        after = int(seen) if seen.isdecimal() else 0
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            _texts(board, after), media_type="text/event-stream", headers=headers
        )

    async def waveforms(request: Request) -> Response:
        ask = _ask(request)
        if ask is None:
            problem = f"instrument=NET.STA.LOC.BI, start_ns, stop_ns, at most {MOST_SECONDS} s"
            return JSONResponse({"error": problem}, 400)
        found = await look_up(ask)
        if found is None:
            reason = "no picker that runs has this station"
            found = {"components": {}, "probability": {}, "reason": reason}
        return JSONResponse(found)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/api/snapshot", snapshot),
            Route("/api/stream", stream),
            Route("/api/waveforms", waveforms),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts),
            Middleware(_ContentPolicy),
        ],
    )


async def _texts(board: Board, after: int) -> AsyncIterator[str]:
    yield "retry: 2000\n\n"
    async for message in board.listen(after):
        yield message.text()


def _ask(request: Request) -> Ask | None:
    """The question in the address; None unless it is a proper one."""
    query = request.query_params
    fields = {name: query.get(name, "") for name in ("instrument", "start_ns", "stop_ns")}
    return Ask.of({**fields, "id": secrets.token_hex(8)})


class _ContentPolicy:
    """Puts the policy on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", _POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        await self._app(scope, receive, send_with_policy)
