"""Names of the databases that restores and drills create next to another database."""

from __future__ import annotations

import hashlib
import re

from dbctl.engines.postgresql.connection import MAX_NAME_BYTES

RETAINED_SUFFIX, SCRATCH_SUFFIX = "_dbctl_", "_dbctl_new_"


def derived_name(name: str, suffix: str) -> str:
    """Return a name derived from another one, within the maximum length of the server, in bytes."""
    limit = MAX_NAME_BYTES - len(f"{RETAINED_SUFFIX}YYYYMMDD_HHMMSS")
    if len(name.encode()) > limit:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{name.encode()[: limit - 9].decode(errors='ignore')}_{digest}"
    return f"{name}{suffix}"


def scratch_name_pattern(name: str) -> str:
    """Return a pattern for the names of scratch databases, including those that a killed process left over."""
    return f"^{re.escape(derived_name(name, SCRATCH_SUFFIX))}[0-9a-f]{{8}}$"
