"""Which server answers: asked once for each session, so that nothing else has to ask."""

from __future__ import annotations

import re
from typing import Literal

from dbctl.errors import NotSupportedError
from dbctl.model import Value

#: The oldest that is known to do all that is asked here.
OLDEST = {"MySQL": (8, 0, 17), "MariaDB": (10, 6, 0)}
#: Since then one right of MySQL lets a user make something in the name of another one, and a second one of nobody.
NAMES_DEFINERS = (8, 2, 0)
#: Since then MySQL keeps libraries of JavaScript and the like in a database.
KEEPS_LIBRARIES = (9, 2, 0)
_VERSION = re.compile(r"(?:5\.5\.5-)?(\d+)\.(\d+)\.(\d+)")


class Server(Value, frozen=True, kw_only=True):
    """What a server is, and what follows from it."""

    product: Literal["MySQL", "MariaDB"]
    version: tuple[int, int, int]
    told: str  #: in its own words

    @property
    def exact(self) -> str:
        """Its collation by code points in which a blank at the end counts."""
        return "utf8mb4_nopad_bin" if self.product == "MariaDB" else "utf8mb4_0900_bin"

    @property
    def is_mariadb(self) -> bool:
        return self.product == "MariaDB"

    @property
    def escapes(self) -> bool:
        """Whether a backslash in a text escapes, in every session that is opened here.

        MySQL keeps what a column is computed by, its default and its checks as a text in which it does, looks for rows in
        derived tables by another one, and reads both in the mode of the session. Where none escaped, a table would not
        open that has a quote there, and one with a backslash would compute something else, also for the app.
        """
        return not self.is_mariadb

    @property
    def has_libraries(self) -> bool:
        """Whether ``CREATE LIBRARY`` exists."""
        return not self.is_mariadb and self.version >= KEEPS_LIBRARIES

    @property
    def making_for_others(self) -> str:
        """The right to make triggers, views, routines and events in the name of somebody else."""
        if self.is_mariadb:
            return "SET USER"
        return "SET_USER_ID" if self.version < NAMES_DEFINERS else "SET_ANY_DEFINER"


def server_of(told: str, target: str) -> Server:
    """Return what a server says of itself.

    Raises:
        NotSupportedError: it is older than what is known to work.
    """
    product: Literal["MySQL", "MariaDB"] = "MariaDB" if "mariadb" in told.lower() else "MySQL"
    found = _VERSION.match(told)
    version = (int(found[1]), int(found[2]), int(found[3])) if found else (0, 0, 0)
    if version < OLDEST[product]:
        least = " and ".join(f"{name} {'.'.join(map(str, oldest))}" for name, oldest in OLDEST.items())
        raise NotSupportedError(
            what=f"opening {target}", by=f"{product} {told}", instead=f"It takes {least}, or later ones."
        )
    return Server(product=product, version=version, told=told)
