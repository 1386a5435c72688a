"""What the databases are called that restores and drills make beside another one; whoever works in one locks its name."""

from __future__ import annotations

import hashlib
import re

KEPT, NEW = "_dbctl_", "_dbctl_new_"
LONGEST_NAME = 64  #: letters
NAMES = "select schema_name from information_schema.schemata"


def beside(name: str, suffix: str) -> str:
    """Return a name that goes with another one, in as many letters as a server keeps."""
    room = LONGEST_NAME - len(f"{KEPT}YYYYMMDD_HHMMSS")
    if len(name) > room:
        name = f"{name[: room - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"{name}{suffix}"


def new_ones(name: str) -> re.Pattern[str]:
    """Return a pattern of the names of what is being loaded for a database, or was when its dbctl was killed."""
    return re.compile(rf"{re.escape(beside(name, NEW))}[0-9a-f]{{8}}")
