"""What the databases are called that restores and drills make beside another one."""

from __future__ import annotations

import hashlib
import re

from dbctl.engines.postgresql.session import LONGEST_NAME

KEPT, NEW = "_dbctl_", "_dbctl_new_"


def beside(name: str, suffix: str) -> str:
    """Return a name that goes with another one, in as many bytes as a server keeps."""
    room = LONGEST_NAME - len(f"{KEPT}YYYYMMDD_HHMMSS")
    if len(name.encode()) > room:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{name.encode()[: room - 9].decode(errors='ignore')}_{digest}"
    return f"{name}{suffix}"


def new_ones(name: str) -> str:
    """Return a pattern of the names of what is being loaded for a database, or was when its dbctl was killed."""
    return f"^{re.escape(beside(name, NEW))}[0-9a-f]{{8}}$"
