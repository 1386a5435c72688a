"""Push messages through ntfy, and signed requests to a webhook."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Generic, TypeVar
from uuid import uuid4

import msgspec
from msgspec import structs

from dbctl.config.model import NtfyConfig, WebhookConfig
from dbctl.extensions.notify.channels.base import SendFailedError, cut_text, describe_address
from dbctl.extensions.notify.channels.http import post
from dbctl.extensions.notify.configuration import fill_address, read_channel_secret
from dbctl.extensions.notify.notice import Notice
from dbctl.model import Secret

SectionT = TypeVar("SectionT", NtfyConfig, WebhookConfig)
#: The length of a message that ntfy does not turn into an attachment, in bytes.
MAX_MESSAGE, MAX_TITLE = 4000, 250
#: The priority of ntfy, 1 to 5, and the tag that it shows as an emoji.
_URGENCY = {"error": (4, "rotating_light"), "warning": (3, "warning"), "info": (3, "white_check_mark")}
#: The prefix of a key in Base64, as Standard Webhooks writes it.
_KEY_PREFIX = "whsec_"


class _WebChannel(Generic[SectionT]):
    """A channel with an address, and with a secret that a file may contain."""

    def __init__(self, section: SectionT, folder: Path) -> None:
        self._section: SectionT = section
        self._folder = folder

    @property
    def place(self) -> str:
        """The address for messages, without its path, which may be secret."""
        return describe_address(self._section.url)


class Ntfy(_WebChannel[NtfyConfig]):
    """A topic of an ntfy server."""

    name = "ntfy"

    def send(self, notice: Notice) -> None:
        """Publish a message; as ``Channel.send``."""
        address = fill_address(self._section.url)
        root, _, topic = address.endpoint.path.rpartition("/")
        if not topic:
            raise SendFailedError("the topic is missing; write https://ntfy.sh/TOPIC")
        token = read_channel_secret("ntfy", self._section, self._folder)
        if token and not (address.endpoint.secure or address.endpoint.is_loopback):
            raise SendFailedError("the token would be sent unencrypted; write https://, or use no token")
        priority, tag = _URGENCY[notice.severity]
        message = {
            "topic": topic,
            "title": cut_text(notice.title, MAX_TITLE),
            "message": cut_text(notice.body, MAX_MESSAGE),
            "priority": priority,
            "tags": [tag],
        }
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token.reveal()}"
        server = address._replace(endpoint=structs.replace(address.endpoint, path=root))
        post(server, msgspec.json.encode(message), headers, path="" if root else "/")


class Webhook(_WebChannel[WebhookConfig]):
    """An address that receives notices as JSON."""

    name = "webhook"

    def send(self, notice: Notice) -> None:
        """Send a request; as ``Channel.send``."""
        address = fill_address(self._section.url)
        key = read_channel_secret("webhook", self._section, self._folder)
        data = {"title": notice.title, **structs.asdict(notice)}
        del data["attachment"]
        payload = {"type": f"dbctl.{notice.event}", "timestamp": notice.time, "data": data}
        # msgspec does not encode bytes of file names that are not UTF-8.
        body = json.dumps(msgspec.to_builtins(payload), ensure_ascii=False).encode(errors="replace")
        message_id, timestamp = f"msg_{uuid4().hex}", int(time.time())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
        }
        if key:
            headers["webhook-signature"] = sign(key, message_id, timestamp, body)
        post(address, body, headers)


def sign(key: Secret, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of Standard Webhooks: the receiver refuses old timestamps, so that a recorded request cannot be repeated.

    Raises:
        SendFailedError: the key begins with ``whsec_``, and is not Base64.
    """
    text = key.reveal()
    raw = text.encode(errors="surrogateescape")
    if text.startswith(_KEY_PREFIX):
        try:
            raw = base64.b64decode(text.removeprefix(_KEY_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise SendFailedError("the key begins with whsec_, and is not Base64") from None
    digest = hmac.new(raw, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
