"""Clients that mean no good, on bare sockets: slow ones, endless ones, and those that look for what is not theirs."""

import ast
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from inspect import getsource

import pytest
from feeds import wait_for

from monitor import http
from monitor.config import HttpSection
from monitor.health import Health
from monitor.http import MAX_BODY_BYTES, MAX_REQUESTS, HttpServer
from monitor.http_connections import MAX_CONNECTIONS
from monitor.metrics import Metrics
from monitor.posts import Score

MAX_REQUEST_S = 0.5
SCORE = Score(0.5, 1, "neutral", 0.3, 0.4, 0.3)


@pytest.fixture
def server() -> Iterator[HttpServer]:
    """A server without a token, with little patience."""
    metrics = Metrics()
    made = HttpServer(
        HttpSection(port=0), None, Health(metrics), metrics, lambda: "<p>page</p>", max_request_s=MAX_REQUEST_S
    )
    made.score = lambda texts: ("tiny@1", [SCORE] * len(texts))
    made.start()
    yield made
    made.stop()


def connect(server: HttpServer) -> socket.socket:
    """A connection that is given up on after ten seconds."""
    return socket.create_connection(("127.0.0.1", server.port), 10)


def answer_of(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    found = b""
    while piece := _received(connection):
        found += piece
    return found


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65_536)
    except ConnectionResetError:
        return b""


def ask(server: HttpServer, request: bytes) -> bytes:
    """The answer to one request."""
    with closing(connect(server)) as connection:
        connection.sendall(request)
        return answer_of(connection)


def get(path: bytes, *headers: bytes, method: bytes = b"GET") -> bytes:
    """A request after which the connection ends."""
    lines = [method + b" " + path + b" HTTP/1.1", b"Host: localhost", b"Connection: close", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def drip(connection: socket.socket, content: bytes, deadline_s: float = 8.0) -> float:
    """Send a byte at a time until the server closes; returns the seconds it took."""
    began = time.monotonic()
    connection.settimeout(0.05)
    for byte in content * 1000:
        assert time.monotonic() - began < deadline_s, "the server waits without end"
        try:
            connection.sendall(bytes([byte]))
            if connection.recv(1) == b"":
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began


@pytest.mark.parametrize("before", [b"", get(b"/livez").replace(b"close", b"keep-alive")], ids=["first", "second"])
def test_a_head_that_never_ends_is_not_waited_for(server: HttpServer, before: bytes) -> None:
    """Headers byte by byte, as a first request or after a good one: the connection is closed in time."""
    with closing(connect(server)) as connection:
        if before:
            connection.sendall(before)
            assert b"200" in connection.recv(65_536)
        assert drip(connection, b"GET /livez HTTP/1.1\r\nX: " + b"x" * 500) < 4 * MAX_REQUEST_S + 2
    assert b"200" in ask(server, get(b"/livez"))


def test_silence_is_not_waited_for(server: HttpServer) -> None:
    """A connection without a request is closed."""
    with closing(connect(server)) as connection:
        assert connection.recv(1) == b""


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "], ids=["silent", "slow"])
def test_connections_that_keep_us_waiting_make_room_for_others(sent: bytes) -> None:
    """Three times as many as there may be, none with a whole request: probes and pages are answered at once, and the
    oldest of them were put out for it, long before their time was over."""
    metrics = Metrics()
    server = HttpServer(HttpSection(port=0), None, Health(metrics), metrics, lambda: "page", max_request_s=60)
    server.start()
    held: list[socket.socket] = []
    try:
        for _ in range(3 * MAX_CONNECTIONS):
            held.append(connect(server))
            with suppress(OSError):
                held[-1].sendall(sent)
        for path in (b"/livez", b"/metrics", b"/"):
            assert ask(server, get(path)).startswith(b"HTTP/1.1 200"), path
        open_ = [one for one in held if is_open(one)]
        assert 0 < len(open_) <= MAX_CONNECTIONS
        assert open_ == held[-len(open_) :]
    finally:
        for one in held:
            one.close()
        server.stop()


def is_open(connection: socket.socket) -> bool:
    """Whether the server has not closed it."""
    connection.settimeout(0)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_slow_bodies_keep_no_probe_waiting(server: HttpServer) -> None:
    """As many requests in hand as there may be: another one is told to come later, probes are answered, and once the
    time of those is over so is everybody. What was put out on the way leaves no traceback behind."""
    head = get(b"/score", b"Content-Length: 100", method=b"POST") + b'{"texts":'
    held = [connect(server) for _ in range(MAX_REQUESTS)]
    try:
        for one in held:
            one.sendall(head)
        wait_for(lambda: ask(server, get(b"/metrics"))[:12], lambda answer: answer == b"HTTP/1.1 503")
        assert ask(server, get(b"/livez")).startswith(b"HTTP/1.1 200")
        wait_for(lambda: ask(server, get(b"/metrics"))[:12], lambda answer: answer == b"HTTP/1.1 200")
    finally:
        for one in held:
            one.close()


def test_an_upload_that_breaks_off_is_no_crash(server: HttpServer, caplog: pytest.LogCaptureFixture) -> None:
    """The client goes in the middle of its body: nobody is told, nothing is logged as an error."""
    with closing(connect(server)) as connection:
        connection.sendall(get(b"/score", b"Content-Length: 100", method=b"POST") + b'{"texts":')
        time.sleep(0.1)
    time.sleep(0.2)
    assert ask(server, get(b"/livez")).startswith(b"HTTP/1.1 200")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_an_answer_that_nobody_takes_is_not_waited_for() -> None:
    """A client asks for a long page and reads none of it: its connection ends, and a stop does not wait for it."""
    metrics = Metrics()
    page = "x" * 50_000_000
    server = HttpServer(HttpSection(port=0), None, Health(metrics), metrics, lambda: page, max_request_s=MAX_REQUEST_S)
    server.start()
    try:
        with closing(connect(server)) as connection:
            connection.sendall(get(b"/"))
            time.sleep(4 * MAX_REQUEST_S)
            assert len(answer_of(connection)) < len(page)
    finally:
        server.stop()


def test_a_body_that_never_ends_is_not_waited_for(server: HttpServer) -> None:
    """A body that stops coming is 408."""
    head = get(b"/score", b"Content-Length: 100", method=b"POST")
    assert ask(server, head + b'{"texts":').startswith(b"HTTP/1.1 408")


def test_an_endless_body_is_cut(server: HttpServer) -> None:
    """More than is allowed is 413, whether announced or sent in chunks."""
    announced = get(b"/score", b"Content-Length: 999999999", method=b"POST") + b" " * (MAX_BODY_BYTES + 1)
    assert b" 413 " in ask_in_full(server, announced)
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    chunked = get(b"/score", b"Transfer-Encoding: chunked", method=b"POST") + chunk * (MAX_BODY_BYTES // 65_536 + 2)
    assert b" 413 " in ask_in_full(server, chunked)


def ask_in_full(server: HttpServer, request: bytes) -> bytes:
    """As `ask`; the server may close before it has taken everything."""
    with closing(connect(server)) as connection:
        with suppress(OSError):
            connection.sendall(request)
        return answer_of(connection)


def test_an_endless_head_is_cut(server: HttpServer) -> None:
    """Headers without end are 400, long before they fill the memory."""
    assert ask_in_full(server, b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000).startswith(b"HTTP/1.1 400")


PATHS = (
    b"/../../etc/passwd", b"/..%2f..%2fetc%2fpasswd", b"//etc/passwd", b"/%2e%2e/config.yaml", b"/config.yaml",
    b"/static/x", b"/page.html", b"/livez/../metrics", b"/\x00", b"/metrics%00.txt", b"http://evil.example/etc/passwd",
    b"file:///etc/passwd", b"/" + b"a/" * 4000, b"*",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_no_path_reads_a_file(server: HttpServer, path: bytes) -> None:
    """There are five paths; every other one is refused, and none shows a file."""
    found = ask(server, get(path))
    assert found[:12] in {b"HTTP/1.1 404", b"HTTP/1.1 400"}
    assert b"root:" not in found


@pytest.mark.parametrize(
    "method", [b"PUT", b"DELETE", b"PATCH", b"TRACE", b"OPTIONS", b"CONNECT", b"POST", b"NONSENSE"]
)
def test_no_other_method_and_no_other_origin(server: HttpServer, method: bytes) -> None:
    """Only GET and HEAD; a page of another site gets no permission to read anything."""
    origin = (b"Origin: https://evil.example", b"Access-Control-Request-Method: POST", b"Content-Length: 0")
    found = ask(server, get(b"/", *origin, method=method))
    assert found[:12] in {b"HTTP/1.1 405", b"HTTP/1.1 400"}
    assert b"access-control" not in found.lower()
    assert b"access-control" not in ask(server, get(b"/", *origin[:1])).lower()


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"Bearer",
        b"Bearer \xff\xfe",
        b"Basic b3BlbjpzZXNhbWU=",
        b"Bearer open sesam",
        b"Bearer open sesame ",
        b"open sesame!",
        b"Token open sesame!",
    ],
)
def test_only_the_token_opens(given: bytes) -> None:
    """Near misses, other schemes and bytes that are no text are all 401, on every path but the two probes."""
    metrics = Metrics()
    server = HttpServer(HttpSection(host="0.0.0.0", port=0), "open sesame!", Health(metrics), metrics, lambda: "page")
    server.start()
    try:
        for path in (b"/", b"/metrics", b"/score", b"/livez/", b"//livez", b"/LIVEZ", b"/livez?x", b"/x/../livez"):
            found = ask(server, get(path, b"Authorization: " + given))
            assert found.startswith(b"HTTP/1.1 401") or path == b"/livez?x", (path, found)
    finally:
        server.stop()


@pytest.mark.parametrize(
    "name", [b"127.0.0.1/livez?", b"localhost/livez#", b"localhost@other", b"other", b"localhost."]
)
def test_a_host_header_opens_no_path(server: HttpServer, name: bytes) -> None:
    """A URL is made from it and the path together: what looks like the open path there must not pass for it."""
    assert ask(server, get(b"/metrics")).startswith(b"HTTP/1.1 200")
    wanted = get(b"/metrics").replace(b"Host: localhost", b"Host: " + name)
    assert ask(server, wanted).startswith((b"HTTP/1.1 421", b"HTTP/1.1 400"))


def test_the_token_is_compared_in_constant_time() -> None:
    """How long an answer takes must not tell how much of a guess is right: the token goes into `hmac.compare_digest`
    and into no other comparison.
    """
    guard = next(node for node in ast.walk(ast.parse(getsource(http))) if getattr(node, "name", "") == "Guard")
    compared = [
        ast.unparse(node)
        for node in ast.walk(guard)
        if isinstance(node, ast.Compare | ast.Call) and "self._token" in ast.unparse(node)
    ]
    digest = 'hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())'
    assert sorted(compared) == sorted([digest.replace('"', "'"), "self._token.encode()", "self._token is not None"])


def test_requests_cannot_be_smuggled(server: HttpServer) -> None:
    """A request with two lengths is refused whole: what follows it is not taken for another one."""
    two = get(b"/livez", b"Content-Length: 0", b"Content-Length: 60").replace(b"close", b"keep-alive")
    found = ask_in_full(server, two + get(b"/metrics"))
    assert found.startswith(b"HTTP/1.1 400")
    assert found.count(b"HTTP/1.1") == 1
