"""Signed requests to a webhook."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from pathlib import Path
from uuid import uuid4

import msgspec
from msgspec import structs

from dbctl.extensions.notify.addresses import fill_address
from dbctl.extensions.notify.channels.base import SendFailedError, describe_address, read_channel_secret
from dbctl.extensions.notify.channels.http import post
from dbctl.extensions.notify.notice import Notice
from dbctl.extensions.notify.section import WebhookConfig
from dbctl.model import Secret

#: The prefix of a key in Base64, as Standard Webhooks writes it.
_KEY_PREFIX = "whsec_"


class Webhook:
    """An address that receives notices as JSON."""

    name = "webhook"

    def __init__(self, section: WebhookConfig, folder: Path) -> None:
        self._section, self._folder = section, folder

    @property
    def place(self) -> str:
        """The address for messages, without its path, which may be secret."""
        return describe_address(self._section.url)

    def send(self, notice: Notice) -> None:
        """Send a request; as ``Channel.send``."""
        address = fill_address(self._section.url)
        key = read_channel_secret(self._section, self._folder)
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
