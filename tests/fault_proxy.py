"""A way to a server of HTTP that a test spoils: between dbctl and storage, it refuses, delays, cuts off and changes."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request."""

    method: str
    path: str  #: with its query
    headers: dict[str, str]  #: names in small letters
    body: bytes
    number: int  #: how many came before


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer; ``sent`` bytes of its body arrive, where not all do."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = {}
    sent: int | None = None


def refused(status: int, code: str, more: str = "") -> Answer:
    """Return how a server of S3 refuses."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>No.</Message>{more}</Error>"
    return Answer(status=status, body=body.encode(), headers={"Content-Type": "application/xml"})


#: Nothing is answered, and the connection ends.
CUT = Answer(sent=-1)
#: Does what it likes with a request: gives an answer in place of the server's, or None to let it through.
Interfere = Callable[[Request], Answer | None]
#: Does what it likes with the server's answer.
Change = Callable[[Request, Answer], Answer]


class FaultProxy:
    """The server of one test."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        """Forward requests to a local port; with a ``context``, accept TLS."""
        self._port, self._lock = port, threading.Lock()
        self.requests = list[Request]()
        self.interfere: Interfere = lambda _request: None
        self.change: Change = lambda _request, answer: answer
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                outer._serve(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815 - names of the library

            def log_message(self, *_words: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self._server.server_address[1]}"

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self._lock:
            request = Request(
                method=handler.command,
                path=handler.path,
                headers=headers,
                body=body,
                number=len(self.requests),
            )
            self.requests.append(request)
        answer = self.interfere(request)
        if answer is None:
            answer = self.change(request, self.forward(request))
        if answer.sent == -1:
            handler.close_connection = True
            return
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in {"content-length", "connection", "transfer-encoding", "date", "server"}:
                handler.send_header(name, value)
        length = (
            int(answer.headers.get("Content-Length", 0)) if request.method == "HEAD" else len(answer.body)
        )
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        if request.method != "HEAD":
            handler.wfile.write(answer.body[: answer.sent])
        handler.close_connection = answer.sent is not None

    def forward(self, request: Request) -> Answer:
        """Return what the server itself answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(request.method, request.path, request.body, request.headers)
            got = connection.getresponse()
            return Answer(status=got.status, body=got.read(), headers=dict(got.getheaders()))
        finally:
            connection.close()

    @contextmanager
    def running(self) -> Iterator[FaultProxy]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
