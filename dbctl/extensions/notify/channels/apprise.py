"""The services of Apprise, a Python package that dbctl[apprise] installs; ntfy is one of them, with a section of its own."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, urlencode

from dbctl.config.environment import VARIABLE_PATTERN
from dbctl.extensions.notify.addresses import fill_address, fill_text
from dbctl.extensions.notify.channels.base import (
    SendFailedError,
    cut_text,
    describe_address,
    read_channel_secret,
)
from dbctl.extensions.notify.notice import Notice
from dbctl.extensions.notify.section import AppriseConfig, NtfyConfig

_KINDS = {"error": "failure", "warning": "warning", "info": "info"}
#: The length of a message that ntfy does not turn into an attachment, in bytes.
MAX_MESSAGE, MAX_TITLE = 4000, 250
#: The priority of ntfy, and the tag that it shows as an emoji.
_URGENCY = {
    "error": ("high", "rotating_light"),
    "warning": ("default", "warning"),
    "info": ("default", "white_check_mark"),
}


class Apprise:
    """One or several services, each with its own address."""

    name = "apprise"

    def __init__(self, section: AppriseConfig, _folder: Path) -> None:
        self._section = section

    @property
    def place(self) -> str:
        """The schemes of the addresses, or their variables; the other parts, or all of a mistyped address, may be secret."""
        known = (
            re.match(rf"{VARIABLE_PATTERN}|[A-Za-z][A-Za-z0-9+.-]*://", text) for text in self._section.urls
        )
        return ", ".join(match[0] if match else "an address without ://" for match in known)

    def send(self, notice: Notice) -> None:
        """Send a message to each service; as ``Channel.send``."""
        addresses = [fill_text(text) for text in self._section.urls]
        _send(addresses, notice, notice.title, notice.body)


class Ntfy:
    """A topic of an ntfy server."""

    name = "ntfy"

    def __init__(self, section: NtfyConfig, folder: Path) -> None:
        self._section, self._folder = section, folder

    @property
    def place(self) -> str:
        """The address for messages, without the topic, which may be secret."""
        return describe_address(self._section.url)

    def send(self, notice: Notice) -> None:
        """Publish a message; as ``Channel.send``."""
        title, body = cut_text(notice.title, MAX_TITLE), cut_text(notice.body, MAX_MESSAGE)
        _send([self._translate(notice)], notice, title, body)

    def _translate(self, notice: Notice) -> str:
        """Return the address of the topic in the form of Apprise.

        Raises:
            SendFailedError: Apprise has no form for it, or the token would be sent without TLS.
        """
        endpoint = fill_address(self._section.url).endpoint
        topic = endpoint.path.removeprefix("/")
        if not topic or "/" in topic:
            raise SendFailedError("the path of url is not a topic; write https://ntfy.sh/TOPIC")
        priority, tag = _URGENCY[notice.severity]
        # A redirect could lead the message and the token to another server.
        query = {"redirect": "no", "image": "no", "priority": priority, "tags": tag}
        if token := read_channel_secret(self._section, self._folder):
            if not (endpoint.secure or endpoint.is_loopback):
                raise SendFailedError("the token would be sent unencrypted; write https://, or use no token")
            query |= {"auth": "token", "token": token.reveal()}
        scheme = "ntfys" if endpoint.secure else "ntfy"
        port = f":{endpoint.port}" if endpoint.port else ""
        return f"{scheme}://{endpoint.host}{port}/{quote(topic)}?{urlencode(query, quote_via=quote)}"


def _send(addresses: Sequence[str], notice: Notice, title: str, body: str) -> None:
    """Send a message to each address.

    Raises:
        SendFailedError: Apprise is missing, or a service did not accept the message. The text has no part of an address.
    """
    try:
        import apprise
    except ImportError:
        raise SendFailedError(
            "the Python package apprise is missing. Install it with: pip install 'dbctl[apprise]'"
        ) from None
    # Its messages contain addresses with secrets.
    logging.getLogger("apprise").addHandler(logging.NullHandler())
    logging.getLogger("apprise").propagate = False
    failures = []
    for index, address in enumerate(addresses, 1):
        service = apprise.Apprise()
        which = f"address {index}" if len(addresses) > 1 else "the address"
        if not service.add(address):
            failures.append(f"Apprise does not support {which}")
        elif not service.notify(body=body, title=title, notify_type=_KINDS[notice.severity]):
            failures.append(f"the service of {which} did not accept it")
    if failures:
        raise SendFailedError("; ".join(failures))
