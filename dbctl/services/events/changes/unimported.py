"""Find files of earlier versions that the event store does not contain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dbctl.errors.base import Remedy
from dbctl.errors.operations import JournalCorruptError, JournalUnavailableError
from dbctl.model import Finding
from dbctl.services.events.legacy import list_unimported
from dbctl.services.events.store import LEGACY_LOG, LEGACY_NAME

UNIMPORTED_HINT = Remedy("Compare it with the log, and move it away: `audit verify {file}`")


def find_unimported(folder: Path, target: str) -> Iterator[Finding]:
    """Yield a finding about each journal and log in a folder that was not imported."""
    log = folder / LEGACY_LOG
    paths = (
        {log} if log.exists() else set[Path]()
    )  # also one with imported records, to which an older version would append
    with suppress(JournalUnavailableError, JournalCorruptError):  # the store is damaged, which is reported
        paths.update(list_unimported(folder))
    for path in sorted(paths):
        message = f"an older version wrote {path}, which was not imported: the log existed"
        hint = UNIMPORTED_HINT.write(facts={"file": path})
        if path.name == LEGACY_NAME:
            hint = "Its runs may have ends of the log. Compare them with the log, and move the file away."
        yield Finding(target, "warning", "audit-gap", message, hint, target)
