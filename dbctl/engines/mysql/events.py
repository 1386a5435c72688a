"""Events of a dump: the server must not run them before the tables are at their place.

An event with the name of its database in its statement would change the live database during a verification.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_MARK = b"/*!50106 CREATE*/ "
#: The server writes all options, in this order.
_OPTIONS = rb"EVENT (?P<name>`(?:[^`]|``)+`) ON SCHEDULE [^`]*? ON COMPLETION (?:NOT )?PRESERVE )(?P<state>ENABLE|DISABLE)\b"
_IN_DUMP = re.compile(
    rb"^(?P<beginning>" + re.escape(_MARK) + rb" *(?:/\*!50117[^\n]*?\*/ +)?/\*!50106 " + _OPTIONS,
    re.MULTILINE,
)
_DEFINITION = re.compile(rb"(?P<beginning>\ACREATE (?:DEFINER=[^\n]*? )?" + _OPTIONS)


class LoadedEvents:
    """The events that a dump enables: disabled where it is loaded, and enabled again in the database that it replaces."""

    def __init__(self) -> None:
        self._enabled = set[bytes]()

    def disable(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Disable the events in whole lines of a dump."""

        def replace(event: re.Match[bytes]) -> bytes:
            if event["state"] == b"ENABLE":
                self._enabled.add(event["name"])
            return event["beginning"] + b"DISABLE"

        return (_IN_DUMP.sub(replace, block) if _MARK in block else block for block in blocks)

    def enable(self, script: bytes) -> bytes:
        """Enable events that the dump enables in a dump, or in the definition of one of them."""

        def replace(event: re.Match[bytes]) -> bytes:
            return event["beginning"] + (b"ENABLE" if event["name"] in self._enabled else event["state"])

        return _DEFINITION.sub(replace, _IN_DUMP.sub(replace, script))
