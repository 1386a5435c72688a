"""The protocol of channels, and the channels of a section."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

from dbctl.config.model import NotifyConfig
from dbctl.extensions.notify.notice import Notice

#: Seconds for one connection, and for each wait for a reply.
SOCKET_SECONDS = 5.0

#: The module and the class of each channel, by its key in ``[notify]``; only those of configured channels are imported.
_CLASSES = {
    "ntfy": ("apprise", "Ntfy"),
    "webhook": ("webhook", "Webhook"),
    "email": ("email", "Email"),
    "apprise": ("apprise", "Apprise"),
}


class SendFailedError(Exception):
    """The notice was not delivered; the text is the reason, without a secret."""


class Channel(Protocol):
    """A way to deliver notices."""

    name: str  #: its key in ``[notify]``

    @property
    def place(self) -> str:
        """The address for messages, without the parts that may be secret."""
        ...

    def send(self, notice: Notice) -> None:
        """Deliver a notice; called in a thread.

        Raises:
            SendFailedError: it was not delivered.
            VariableUnreadableError: a secret cannot be read.
        """
        ...


def create_channels(section: NotifyConfig, folder: Path) -> Sequence[Channel]:
    """Return the configured channels.

    Args:
        section: the merged section of an app.
        folder: the base of relative paths.
    """
    channels = list[Channel]()
    for name, channel in section.channels.items():
        module, class_name = _CLASSES[name]
        channels.append(getattr(import_module(f"{__package__}.{module}"), class_name)(channel, folder))
    return channels


def describe_address(text: str) -> str:
    """Return scheme and host of a configured address, whose other parts may be secret."""
    match = re.match(r"https?://[^/?#@]*(?=[/?#]|$)", text)
    return match[0] if match else re.sub(r"(?<=\}).*|://.*", "", text) if text.startswith("${") else ""


def cut_text(text: str, max_bytes: int, *, keep_end: bool = False) -> str:
    """Return the beginning, or the end, of a text that is longer than ``max_bytes`` in UTF-8."""
    raw = text.encode(errors="replace")
    if len(raw) <= max_bytes:
        return text
    return (raw[-max_bytes:] if keep_end else raw[:max_bytes]).decode(errors="ignore")
