"""Health, metrics, the status page and POST /score, on a thread of their own: they answer even when the pipeline is
stuck."""

import asyncio
import hmac
import logging
import socket
import threading
from collections.abc import Callable

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from monitor.config import LOCAL_HOSTS, HttpSection
from monitor.errors import ConfigError, Unavailable
from monitor.health import Health
from monitor.http_connections import MAX_CONNECTIONS, ImpatientProtocol
from monitor.metrics import Metrics
from monitor.posts import Score

log = logging.getLogger(__name__)

MAX_SCORE_TEXTS = 1000
MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_REQUEST_S = 10.0  #: for the head of a request to arrive, and again for its body
MAX_REQUESTS = MAX_CONNECTIONS // 2  #: answered at once; probes do not count and are always answered
_OPEN_PATHS = frozenset({"/livez", "/readyz"})
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    ),
}


class ScoreRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /score."""

    texts: list[str]


class ScoreResponse(msgspec.Struct):
    """Answer of POST /score, in the order of the texts."""

    model: str
    scores: list[Score]


class Guard:
    """Token and Host checks before any route; security headers after."""

    def __init__(self, app: ASGIApp, token: str | None, hosts: frozenset[str]) -> None:
        self._app = app
        self._token = token
        self._hosts = hosts
        self._n_busy = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", []))  # type: ignore[call-overload]
                message["headers"] = headers + [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            await send(message)

        request = Request(scope)
        if scope["path"] in _OPEN_PATHS:  # not the request's URL, which is made from the Host header
            await self._app(scope, receive, send_with_headers)  # type: ignore[arg-type]
            return
        self._n_busy += 1
        try:
            refusal = self._refusal(request)
            await (refusal or self._app)(scope, receive, send_with_headers)  # type: ignore[arg-type]
        finally:
            self._n_busy -= 1

    def _refusal(self, request: Request) -> Response | None:
        if self._n_busy > MAX_REQUESTS:
            return PlainTextResponse("too many requests at once\n", 503, {"retry-after": "1"})
        if self._token is not None:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            is_right = hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())
            if is_right and scheme.lower() == "bearer":
                return None
            return PlainTextResponse(
                "a token is needed: Authorization: Bearer HTTP_TOKEN\n", 401, {"www-authenticate": "Bearer"}
            )
        # Without a token only this machine may ask, and a web page opened on it must not: its Host would be another
        # name.
        if request.headers.get("host", "").rsplit(":", 1)[0].strip("[]").lower() not in self._hosts:
            return PlainTextResponse("unknown host name\n", 421)
        return None


class HttpServer:
    """Starts at once, before anything it reports on is ready."""

    def __init__(
        self,
        section: HttpSection,
        token: str | None,
        health: Health,
        metrics: Metrics,
        page: Callable[[], str],
        score: Callable[[list[str]], tuple[str, list[Score]]] | None = None,
        max_request_s: float = MAX_REQUEST_S,
    ) -> None:
        self._max_request_s = max_request_s
        self._health = health
        self._metrics = metrics
        self._page = page
        self.score = score  # set once the bundle is loaded
        local = section.host in LOCAL_HOSTS
        if not local and not token:
            raise ConfigError(f"http.host {section.host} is not this machine alone: set HTTP_TOKEN, or use 127.0.0.1")
        self._socket = _bind(section.host, section.port)
        self.host, self.port = section.host, int(self._socket.getsockname()[1])
        app = Starlette(routes=self._routes(), middleware=[Middleware(Guard, token=token, hosts=_hosts_of(section))])
        settings = uvicorn.Config(
            app,
            http=type("Protocol", (ImpatientProtocol,), {"max_request_s": max_request_s}),
            backlog=MAX_CONNECTIONS,  # so many are taken in at once, before any of them can be put out
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_keep_alive=5,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="http", daemon=True
        )

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Finish requests in hand (at most 2 s) and end."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(4)
        self._socket.close()

    def _routes(self) -> list[Route]:
        return [
            Route("/livez", self._livez),
            Route("/readyz", self._readyz),
            Route("/metrics", self._render_metrics),
            Route("/score", self._score, methods=["POST"]),
            Route("/", self._status_page),
        ]

    async def _livez(self, request: Request) -> Response:  # noqa: ARG002
        stuck = self._health.stuck()
        return PlainTextResponse(f"stuck: {', '.join(stuck)}\n" if stuck else "ok\n", 503 if stuck else 200)

    async def _readyz(self, request: Request) -> Response:  # noqa: ARG002
        lines = [
            f"{'ok  ' if part.ok else 'WAIT' if part.needed else 'warn'} {part.name}: {part.detail}"
            for part in self._health.parts()
        ]
        return PlainTextResponse("\n".join([*lines, ""]), 200 if self._health.ready() else 503)

    async def _render_metrics(self, request: Request) -> Response:  # noqa: ARG002
        return Response(self._metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _status_page(self, request: Request) -> Response:  # noqa: ARG002
        try:
            return HTMLResponse(await run_in_threadpool(self._page))
        except Unavailable as error:
            return PlainTextResponse(f"the store does not answer: {error}\n", 503)

    async def _score(self, request: Request) -> Response:
        if self.score is None:
            return PlainTextResponse("no bundle is loaded here\n", 503)
        try:
            async with asyncio.timeout(self._max_request_s):
                body = await _read_body(request)
        except TimeoutError:
            return PlainTextResponse("the request did not arrive in time\n", 408)
        except ClientDisconnect:
            return Response(status_code=400)  # for nobody
        if body is None:
            return PlainTextResponse(f"at most {MAX_BODY_BYTES} bytes\n", 413)
        try:
            wanted = msgspec.json.decode(body, type=ScoreRequest)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return PlainTextResponse('expected {"texts": ["...", "..."]}\n', 400)
        if len(wanted.texts) > MAX_SCORE_TEXTS:
            return PlainTextResponse(f"at most {MAX_SCORE_TEXTS} texts\n", 413)
        model, scores = await run_in_threadpool(self.score, wanted.texts)
        return Response(msgspec.json.encode(ScoreResponse(model, scores)), media_type="application/json")


async def _read_body(request: Request) -> bytes | None:
    """The body, or None as soon as it is longer than allowed."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


def _hosts_of(section: HttpSection) -> frozenset[str]:
    public = section.public_url.split("://")[-1].split("/")[0].rsplit(":", 1)[0].lower()
    return LOCAL_HOSTS | ({public} if public else frozenset())


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)  # from now on requests wait instead of being refused
    except OSError as error:
        listener.close()
        raise Unavailable(f"cannot listen on http.host {host}, http.port {port}: {error.strerror}") from error
    return listener
