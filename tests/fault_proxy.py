"""An HTTP proxy in front of a server that refuses, delays, truncates and changes requests and responses."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec


class Request(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    path: str  #: with the query string
    headers: dict[str, str]  #: names in lower case
    body: bytes
    number: int  #: number of earlier requests


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A response; ``sent`` limits the bytes of its body that are sent before the connection is closed."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = {}
    sent: int | None = None


def error_response(status: int, code: str, more: str = "") -> Response:
    """Return the error response of an S3 server."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>No.</Message>{more}</Error>"
    return Response(status=status, body=body.encode(), headers={"Content-Type": "application/xml"})


#: Close the connection without a response.
CUT = Response(sent=-1)
#: Returns a response in place of the server's, or None to forward the request.
Interfere = Callable[[Request], Response | None]
#: Returns the response that replaces the response of the server.
Change = Callable[[Request, Response], Response]


class FaultProxy:
    """The proxy of one test."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        """Forward requests to a local port; with a ``context``, accept TLS."""
        self._port, self._lock = port, threading.Lock()
        self.requests = list[Request]()
        self.interfere: Interfere = lambda _request: None
        self.change: Change = lambda _request, response: response
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                outer._serve(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815 - names of the library

            def log_message(self, *_words: object) -> None:
                """Write no log."""

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
        response = self.interfere(request)
        if response is None:
            response = self.change(request, self.forward(request))
        if response.sent == -1:
            handler.close_connection = True
            return
        handler.send_response(response.status)
        for name, value in response.headers.items():
            if name.lower() not in {"content-length", "connection", "transfer-encoding", "date", "server"}:
                handler.send_header(name, value)
        length = (
            int(response.headers.get("Content-Length", 0)) if request.method == "HEAD" else len(response.body)
        )
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        if request.method != "HEAD":
            handler.wfile.write(response.body[: response.sent])
        handler.close_connection = response.sent is not None

    def forward(self, request: Request) -> Response:
        """Return the response of the server."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(request.method, request.path, request.body, request.headers)
            received = connection.getresponse()
            return Response(status=received.status, body=received.read(), headers=dict(received.getheaders()))
        finally:
            connection.close()

    @contextmanager
    def running(self) -> Iterator[FaultProxy]:
        thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
