"""Which server answers: asked once for each session, so that nothing else has to ask."""

from __future__ import annotations

import re
from typing import Literal

from dbctl.errors import NotSupportedError
from dbctl.model import Value

#: The oldest that is known to do all that is asked here.
OLDEST = {"MySQL": (8, 0, 17), "MariaDB": (10, 6, 0)}
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
