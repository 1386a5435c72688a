"""The protocol of channels, and what they have in common."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, Protocol

from dbctl.config.environment import VariableUnreadableError, read_variable
from dbctl.errors.usage import ExtensionInvalidError
from dbctl.extensions import registry
from dbctl.extensions.notify.notice import Notice
from dbctl.extensions.notify.section import ChannelSection
from dbctl.files import atomic
from dbctl.model import Secret

#: Seconds for one connection, and for each wait for a reply.
SOCKET_SECONDS = 5.0


class SendFailedError(Exception):
    """The notice was not delivered; the text is the reason, without a secret."""


class Channel(Protocol):
    """A way to deliver notices."""

    @property
    def name(self) -> str:
        """Its key in ``[notify]``."""
        ...

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


class FailedChannel(NamedTuple):
    """A channel of another distribution that cannot be used."""

    name: str
    reason: str
    place: str = ""

    def send(self, _notice: Notice) -> None:
        """Raise the reason; as ``Channel.send``."""
        raise SendFailedError(self.reason)


def create_channel(name: str, section: ChannelSection, folder: Path) -> Channel:
    """Return the channel of a section; ``folder`` is the base of relative paths."""
    try:
        channel: Channel = registry.load(section.channel)(section, folder)
    except ExtensionInvalidError as error:  # it fails no command
        return FailedChannel(name, str(error))
    return channel


def read_channel_secret(channel: ChannelSection, folder: Path) -> Secret | None:
    """Return the token, key or password of a channel; None: none is configured. ``folder`` is the base of relative paths.

    Raises:
        VariableUnreadableError: it cannot be read, or is empty.
    """
    variable, file = (getattr(channel, key) for key in channel.secret_keys or ())
    if not (variable or file):
        return None
    try:
        text = atomic.read_settings(folder / atomic.expand_home(file)) if file else read_variable(variable)
    except (OSError, UnicodeDecodeError) as error:
        raise VariableUnreadableError(f"{file} cannot be read: {atomic.explain_failure(error)}") from error
    text = text.partition("\n")[0].removesuffix("\r")
    if not text:
        raise VariableUnreadableError(f"{file or variable} is empty")
    return Secret(text)


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
