"""What ``~/.my.cnf`` says to every client of MySQL: where a password may stand that stands nowhere else."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from dbctl import durable
from dbctl.errors import FileFailedError
from dbctl.model import Secret
from dbctl.url import Url

#: Below the home directory of whoever runs dbctl.
NAME = ".my.cnf"
_SECTION = re.compile(r"\s*\[\s*([^\]]+?)\s*\]")
_OPTION = re.compile(r"\s*([A-Za-z][\w-]*)\s*=\s*(.*?)\s*$")
_QUOTED = re.compile(r"""(['"])((?:\\.|(?!\1).)*)\1""")
_ESCAPED = re.compile(r"\\([btnrs\\\"'])")
_MEANING = {"b": "\b", "t": "\t", "n": "\n", "r": "\r", "s": " "}


def login(url: Url) -> tuple[str, Secret | None]:
    """Return user and password for ``url``: its own, or those of the option file where it has none.

    What the file says of another user, host or port is for other servers, and a password goes to nobody it is not meant
    for. A file that others may write is not believed, as MySQL's own clients do.

    Raises:
        FileFailedError: the file is there and cannot be read, or others may write it.
    """
    if url.password is not None:
        return url.user, url.password
    told = _client(Path.home() / NAME)
    fits = (
        url.user in ("", told.get("user", url.user))
        and told.get("host", url.host) == url.host
        and told.get("port", str(url.port or "")) == str(url.port or "")
    )
    if not fits:
        return url.user, None
    return url.user or told.get("user", ""), Secret(told["password"]) if "password" in told else None


def _client(path: Path) -> dict[str, str]:
    """Return what stands below ``[client]``."""
    try:
        mode = path.stat().st_mode
        text = durable.read_settings(path)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not valid UTF-8"
        raise FileFailedError(path=path, reason=reason) from None
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise FileFailedError(path=path, reason="others may write it; chmod go-w makes it your own")
    found: dict[str, str] = {}
    section = ""
    for line in text.splitlines():
        if opened := _SECTION.match(line):
            section = opened[1].lower()
        elif section == "client" and (option := _OPTION.match(line)):
            found[option[1].lower().replace("_", "-")] = _value(option[2])
    return found


def _value(text: str) -> str:
    """Return a value without its quotes, or what is behind a blank and a ``#``; escapes mean what they mean there."""
    quoted = _QUOTED.match(text)
    text = quoted[2] if quoted else re.sub(r"\s+#.*$", "", text)
    return _ESCAPED.sub(lambda found: _MEANING.get(found[1], found[1]), text)
