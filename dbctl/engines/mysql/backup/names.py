"""Names of the databases that restores and drills create next to another database, each locked by its process."""

from __future__ import annotations

import hashlib
import re

RETAINED_SUFFIX, SCRATCH_SUFFIX = "_dbctl_", "_dbctl_new_"
MAX_NAME_LENGTH = 64  #: characters
DATABASES = "select schema_name from information_schema.schemata"


def derived_name(name: str, suffix: str) -> str:
    """Return a name derived from another one, within the maximum length of the server."""
    limit = MAX_NAME_LENGTH - len(f"{RETAINED_SUFFIX}YYYYMMDD_HHMMSS")
    if len(name) > limit:
        name = f"{name[: limit - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"{name}{suffix}"


def scratch_name_pattern(name: str) -> re.Pattern[str]:
    """Return a pattern for the names of scratch databases, including those that a killed process left over."""
    return re.compile(rf"{re.escape(derived_name(name, SCRATCH_SUFFIX))}[0-9a-f]{{8}}")
