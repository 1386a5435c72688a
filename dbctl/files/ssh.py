"""How dbctl runs the user's ssh: it asks nothing, and its configuration is that of the user."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Options of every ssh: it asks nothing, a dead connection ends, and nothing else of the user's configuration is started.
OPTIONS = (
    "BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15", "ControlMaster=no", "ClearAllForwardings=yes",
    "RemoteCommand=none", "RequestTTY=no", "PermitLocalCommand=no", "LogLevel=INFO",
)  # fmt: skip
#: A host with a port; other colons are those of an IPv6 address.
_ADDRESS = re.compile(r"([^:]+|\[.*\]):(\d+)")
#: Messages of ssh that only repeat that something failed.
_VAGUE = re.compile(r"(?i)stdio forwarding|kex_exchange_identification|UNKNOWN port 65535")


def list_options() -> Sequence[str]:
    """Return ``OPTIONS`` as words."""
    return [word for option in OPTIONS for word in ("-o", option)]


def split_address(text: str) -> tuple[Sequence[str], str]:
    """Return the words for the port of ``[USER@]HOST[:PORT]``, and the destination.

    A URL with an IPv6 address is refused by ssh, and only one in brackets accepted for a machine between.
    """
    user, at, address = text.rpartition("@")
    match = _ADDRESS.fullmatch(address)
    name, port = match.groups() if match else (address, "")
    return ["-p", port] if port else [], f"{user}{at}{name.strip('[]')}"


def choose_reason(lines: Sequence[str]) -> str:
    """Return the last line that states why a program failed, without control characters."""
    line = next((line for line in reversed(lines) if line and not _VAGUE.search(line)), lines[-1])
    return clean(line)


def clean(text: str) -> str:
    """Return a text of another machine without control characters."""
    return "".join(sign for sign in text if sign.isprintable())
