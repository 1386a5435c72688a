"""E-mail through an SMTP server, encrypted unless the configuration disables that."""

from __future__ import annotations

import mimetypes
import os
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

from dbctl.extensions.notify.channels.base import (
    SOCKET_SECONDS,
    SendFailedError,
    cut_text,
    read_channel_secret,
)
from dbctl.extensions.notify.notice import Notice
from dbctl.extensions.notify.section import EmailConfig
from dbctl.http_client import explain_error
from dbctl.model import join_hint

PORTS = {"starttls": 587, "implicit": 465, "none": 25}
MAX_SUBJECT = 200


class Email:
    """An SMTP server with sender and recipients."""

    name = "email"

    def __init__(self, section: EmailConfig, folder: Path) -> None:
        self._section, self._folder = section, folder
        self._port = section.port or PORTS[section.tls]

    @property
    def place(self) -> str:
        """The server and its port."""
        return f"{self._section.host}:{self._port}"

    def send(self, notice: Notice) -> None:
        """Send a message; as ``Channel.send``."""
        message = self._create_message(notice)
        try:
            with self._connect() as server:
                refused = server.send_message(message, to_addrs=list(self._section.to))
        except smtplib.SMTPException as error:
            raise SendFailedError(_explain(error)) from None
        except (OSError, UnicodeError) as error:
            reason, hint = explain_error(error, "", address="host", tls="tls, host and port")
            raise SendFailedError(join_hint(reason, hint)) from None
        if refused:
            raise SendFailedError(f"it refuses {len(refused)} of {len(self._section.to)} recipients")

    def _create_message(self, notice: Notice) -> EmailMessage:
        host = os.uname().nodename
        message = EmailMessage()
        message["Subject"] = cut_text(f"{notice.title} ({host})", MAX_SUBJECT)
        message["From"] = self._section.sender or f"dbctl@{host}"
        message["To"] = ", ".join(self._section.to)
        message["Date"] = formatdate(localtime=False)
        message["Message-ID"] = make_msgid("dbctl", host)
        message["Auto-Submitted"] = "auto-generated"  # so that no program replies
        message.set_content(notice.body)
        if notice.attachment:
            kind, _ = mimetypes.guess_type(notice.attachment.name)
            main, _, subtype = (kind or "application/octet-stream").partition("/")
            message.add_attachment(
                notice.attachment.content, maintype=main, subtype=subtype, filename=notice.attachment.name
            )
        return message

    @contextmanager
    def _connect(self) -> Iterator[smtplib.SMTP]:
        """Yield a connection that is encrypted as configured, with a login.

        Raises:
            SendFailedError: the server does not offer STARTTLS; nothing was sent unencrypted.
        """
        section, context = self._section, ssl.create_default_context()
        password = read_channel_secret(section, self._folder)
        # Without a name of this machine, smtplib looks it up in the DNS.
        host, name = section.host, os.uname().nodename
        server: smtplib.SMTP
        if section.tls == "implicit":
            server = smtplib.SMTP_SSL(host, self._port, name, timeout=SOCKET_SECONDS, context=context)
        else:
            server = smtplib.SMTP(host, self._port, name, timeout=SOCKET_SECONDS)
        with server:
            server.ehlo()
            if section.tls == "starttls":
                if not server.has_extn("starttls"):
                    raise SendFailedError("it does not offer STARTTLS, so nothing was sent. Check tls.")
                server.starttls(context=context)
            if password:
                server.login(section.user, password.reveal())
            yield server


def _explain(error: smtplib.SMTPException) -> str:
    """Return the reason of a failure, without the text of the server."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"it refuses the login ({error.smtp_code}). Check user and password."
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = sorted({str(code) for code, _ in error.recipients.values()})
        return f"it refuses all recipients ({', '.join(codes)})"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        is_slow = isinstance(error.__context__, TimeoutError)
        return "it did not respond in time" if is_slow else "the connection was interrupted"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"it responds with {error.smtp_code}"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return "it does not support the login, or addresses that are not ASCII"
    return "the server does not support SMTP"
