"""Local servers that receive notifications: HTTP and SMTP, with every failure that a real one can have."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import msgspec
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from tests.fault_proxy import FaultProxy, Request, Response

LOGIN, PASSWORD = "dbctl", "correct horse"


@contextmanager
def receive_http(context: ssl.SSLContext | None = None) -> Iterator[FaultProxy]:
    """Run a server that accepts every request and records it; ``interfere`` changes the responses."""
    with FaultProxy(0, context).running() as receiver:
        receiver.interfere = lambda _request: Response()
        yield receiver


def read_json(request: Request) -> dict[str, object]:
    """Return the body of a request."""
    return dict(json.loads(request.body))


@contextmanager
def listen(reply: bytes = b"", *, repeat: bool = False) -> Iterator[int]:
    """Yield the port of a server that sends ``reply`` to each connection, repeatedly if ``repeat``, and does not close it."""
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        with closing(connection):
            try:
                connection.sendall(reply)
                while repeat and not ended.is_set():
                    connection.sendall(reply)
            except OSError:
                return
            ended.wait()

    def accept(server: socket.socket) -> None:
        while not ended.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        threading.Thread(target=accept, args=(server,), daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()


def create_contexts(folder, name="127.0.0.1"):
    """Return the TLS context of a server, and the file of the authority that signed its certificate."""
    context, authority = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), trustme.CA()
    authority.issue_cert(name).configure_cert(context)
    file = folder / f"authority-{name}.pem"
    authority.cert_pem.write_to_path(str(file))
    return context, file


class Message(msgspec.Struct, frozen=True, kw_only=True):
    sender: str
    recipients: list[str]
    content: str
    encrypted: bool


class MailServer:
    """An SMTP server that records messages."""

    def __init__(self, context: ssl.SSLContext | None, *, implicit: bool, login: bool) -> None:
        self.messages = list[Message]()
        self._implicit = implicit
        self.passwords = list[str]()  #: that were sent to it
        self.refused = set[str]()  #: recipients
        options = {}
        if context:
            options |= {"ssl_context" if implicit else "tls_context": context}
        if login:
            options |= {"authenticator": self._authenticate, "auth_required": True}
            options |= {"auth_require_tls": False} if implicit else {}
        self.controller = Controller(self, hostname="127.0.0.1", port=_find_port(), **options)
        self.port = self.controller.port

    def _authenticate(self, _server, _session, _envelope, _mechanism, data):
        assert isinstance(data, LoginPassword)
        self.passwords.append(data.password.decode())
        is_known = (data.login, data.password) == (LOGIN.encode(), PASSWORD.encode())
        return AuthResult(success=is_known, handled=is_known)

    async def handle_RCPT(self, _server, _session, envelope, address, _options):  # noqa: N802 - the name of the library
        if address in self.refused:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server, session, envelope):  # noqa: N802 - the name of the library
        self.messages.append(
            Message(
                sender=envelope.mail_from,
                recipients=envelope.rcpt_tos,
                content=envelope.content.decode(),
                encrypted=session.ssl is not None or self._implicit,
            )
        )
        return "250 OK"


@contextmanager
def receive_mail(
    context: ssl.SSLContext | None = None, *, implicit: bool = False, login: bool = False
) -> Iterator[MailServer]:
    """Run an SMTP server: with a ``context``, it offers STARTTLS, or requires TLS if ``implicit``."""
    server = MailServer(context, implicit=implicit, login=login)
    server.controller.start()
    try:
        yield server
    finally:
        server.controller.stop()


def _find_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


def wait_until(condition, seconds=60.0):
    """Wait for a fact that another thread or process creates; a machine under load takes long for it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
