"""The transactions in segments of a log, as ``pg_waldump`` lists them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from dbctl import signals
from dbctl.extensions.recover.errors import RecoveryDamagedError
from dbctl.extensions.recover.postgresql.log import parse_position
from dbctl.extensions.recover.private_server import PrivateFolder
from dbctl.model import Struct

_RECORD = re.compile(
    r"lsn: (?P<position>[0-9A-F]+/[0-9A-F]+), .*desc: (?:"
    r"(?P<end>COMMIT|ABORT)\w*(?: \d+:)? (?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) "
    r"|BACKUP_END (?P<start>[0-9A-F]+/[0-9A-F]+)"
    r'|CREATE \d+ "(?P<tablespace>.*)")'
)
#: The kinds of records that are read.
_KINDS = ("Transaction", "XLOG", "Tablespace")


class Record(Struct, frozen=True, kw_only=True):
    """What matters of a record of the log; of its last three fields, one is set."""

    position: int  #: at which it begins
    time: datetime | None = None  #: at which a transaction was committed or rolled back
    copy_start: int | None = None  #: the start of the physical copy that ends here
    tablespace: str = ""  #: the path of a new one


def scan_segments(
    waldump: Path, segments: Sequence[Path], folder: PrivateFolder, target: str, *, is_last: bool
) -> Iterator[Record]:
    """Yield the records that begin in the first to the last of ``segments``, which follow each other on one timeline.

    The user of ``folder`` runs ``waldump``. With ``is_last``, the log ends with them: then its last record may be incomplete.

    Raises:
        RecoveryDamagedError: a segment is damaged.
    """
    signals.raise_if_interrupted()
    first, last = segments[0], segments[-1]
    kinds = [f"--rmgr={kind}" for kind in _KINDS]
    process = subprocess.run(  # noqa: S603 - a program of the server with its full path
        [str(waldump), *kinds, str(first), *([last.name] if last != first else [])],
        env={"TZ": "UTC", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        **folder.as_user,
    )
    if process.returncode and not is_last:
        reason = process.stderr.decode(errors="replace").strip().removeprefix("pg_waldump: error: ")
        raise RecoveryDamagedError(
            target=target, reason=f"the segment {last.name} of the log, or the one before it: {reason}"
        )
    for match in _RECORD.finditer(process.stdout.decode(errors="replace")):
        yield Record(
            position=parse_position(match["position"]),
            time=datetime.fromisoformat(match["time"]).replace(tzinfo=UTC) if match["time"] else None,
            copy_start=parse_position(match["start"]) if match["start"] else None,
            tablespace=match["tablespace"] or "",
        )
