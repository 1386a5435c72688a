"""Product, version and features of a server."""

from __future__ import annotations

import re
from typing import Literal

from dbctl.errors.usage import NotSupportedError
from dbctl.model import Struct

#: The oldest versions with all required features.
OLDEST = {"MySQL": (8, 0, 17), "MariaDB": (10, 6, 0)}
#: Since this version, one right of MySQL allows any existing definer, and a second one missing definers.
SET_ANY_DEFINER_VERSION = (8, 2, 0)
#: Since this version, MySQL stores libraries of JavaScript and other languages in a database.
LIBRARIES_VERSION = (9, 2, 0)
#: Since this version, MariaDB has collations that ignore case and distinguish accents.
UCA1400_VERSION = (10, 10, 1)
_VERSION = re.compile(r"(?:5\.5\.5-)?(\d+)\.(\d+)\.(\d+)")


class Server(Struct, frozen=True, kw_only=True):
    """Product and version of a server, and its features."""

    product: Literal["MySQL", "MariaDB"]
    version: tuple[int, int, int]
    version_text: str  #: as the server reports it

    @property
    def exact_collation(self) -> str:
        """The collation by code points in which trailing spaces are significant."""
        return "utf8mb4_nopad_bin" if self.product == "MariaDB" else "utf8mb4_0900_bin"

    @property
    def folding_collation(self) -> str:
        """The collation that ignores only case."""
        if not self.is_mariadb:
            return "utf8mb4_0900_as_ci"
        return (
            "utf8mb4_uca1400_nopad_as_ci"
            if self.version >= UCA1400_VERSION
            else "utf8mb4_unicode_520_nopad_ci"
        )

    @property
    def is_mariadb(self) -> bool:
        return self.product == "MariaDB"

    @property
    def backslash_escapes(self) -> bool:
        """Whether a backslash in a string begins an escape, in every session of dbctl.

        MySQL stores generated columns, defaults and checks as text with such escapes, pushes conditions into derived tables
        as such text, and parses both in the mode of the session. Without escapes, a table with a quote in such an expression
        would not open, and one with a backslash would compute another value, also for the app.
        """
        return not self.is_mariadb

    @property
    def has_libraries(self) -> bool:
        """Whether ``CREATE LIBRARY`` exists."""
        return not self.is_mariadb and self.version >= LIBRARIES_VERSION

    @property
    def definer_privilege(self) -> str:
        """The right to create objects with another definer."""
        if self.is_mariadb:
            return "SET USER"
        return "SET_USER_ID" if self.version < SET_ANY_DEFINER_VERSION else "SET_ANY_DEFINER"


def parse_server(text: str, target: str) -> Server:
    """Parse the version that a server reports.

    Raises:
        NotSupportedError: it is older than the oldest supported version.
    """
    product: Literal["MySQL", "MariaDB"] = "MariaDB" if "mariadb" in text.lower() else "MySQL"
    match = _VERSION.match(text)
    version = (int(match[1]), int(match[2]), int(match[3])) if match else (0, 0, 0)
    if version < OLDEST[product]:
        oldest_versions = " and ".join(
            f"{name} {'.'.join(map(str, oldest))}" for name, oldest in OLDEST.items()
        )
        raise NotSupportedError(
            feature=f"opening {target}",
            subject=f"{product} {text}",
            hint=f"dbctl supports {oldest_versions}, and later versions.",
        )
    return Server(product=product, version=version, version_text=text)
