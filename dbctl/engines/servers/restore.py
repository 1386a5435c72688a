"""What restores on all servers share: names of other databases, the checks of a load, and the parts of a target without effect."""

from __future__ import annotations

import hashlib
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from dbctl.engines.contract.dumps import Dump, DumpVerification, LoadRequest, TrialRestore
from dbctl.errors.restore import RestoreFailedError
from dbctl.files.codecs import ParallelGzip
from dbctl.files.progress import Progress, release_nothing
from dbctl.files.subprocesses import ClientProgram, NewFile
from dbctl.url import Url

UNCHANGED = "The database is unchanged."
NO_BACKUP = "No backup was created; existing backups are unchanged."
#: Rows shrink to about a quarter in a compressed dump.
COMPRESSION_RATIO = 4
RETAINED_SUFFIX, SCRATCH_SUFFIX = "_dbctl_", "_dbctl_new_"
#: Maximum bytes of a name on every server.
MAX_NAME_BYTES = 63


def derived_name(name: str, suffix: str) -> str:
    """Return the name of a database that belongs to another one, within the maximum length of a server."""
    limit = MAX_NAME_BYTES - len(f"{RETAINED_SUFFIX}YYYYMMDD_HHMMSS")
    if len(name.encode()) > limit:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{name.encode()[: limit - 9].decode(errors='ignore')}_{digest}"
    return f"{name}{suffix}"


def new_scratch_name(name: str) -> str:
    return derived_name(name, f"{SCRATCH_SUFFIX}{secrets.token_hex(4)}")


def scratch_name_pattern(name: str) -> str:
    """Return a pattern for the names of scratch databases, including those that a killed process left over."""
    return f"^{re.escape(derived_name(name, SCRATCH_SUFFIX))}[0-9a-f]{{8}}$"


def copy_output(
    client: ClientProgram,
    file: NewFile,
    feed: Callable[[bytes], None],
    compressor: ParallelGzip | None,
    expected_bytes: int,
    progress: Progress,
) -> None:
    """Write the output of a dump program to a file, and pass each block to ``feed``."""
    written = 0
    for block in client.blocks():
        feed(block)
        written += file.write(compressor.compress(block) if compressor else block)
        progress(min(1.0, written / expected_bytes))
    if compressor:
        file.write(compressor.flush())


def failed_verification(problem: str) -> DumpVerification:
    """Return the verification of a dump that cannot be loaded."""
    return DumpVerification(tables={}, schema="", problems=[problem])


def require_row_counts(
    path: Path, target: str, counts: Mapping[str, int], expected: Mapping[str, int]
) -> None:
    """Refuse a file whose row counts differ from those of the dump that it should contain.

    Raises:
        RestoreFailedError: a table differs.
    """
    if counts != dict(expected):
        names = sorted(name for name in {*counts, *expected} if counts.get(name) != expected.get(name))
        reason = f"{path.name}: row counts of {', '.join(names)} are unexpected"
        raise RestoreFailedError(target=target, reason=reason, hint=UNCHANGED)


class ServerRestoreTarget(ABC):
    """The methods of ``RestoreTarget`` that are the same on all servers."""

    requires_load = True

    @abstractmethod
    def trial_restore(self, request: LoadRequest) -> AbstractContextManager[TrialRestore]: ...

    def files(self) -> Sequence[Path]:
        return ()  # the server owns them

    def require_space(self, required_bytes: int) -> None:
        del required_bytes  # a server does not report its free space

    def prepare(self, request: LoadRequest) -> AbstractContextManager[None]:
        """Do nothing: a restore needs no preparation here."""
        del request
        return nullcontext()

    def block_writers(self, dump: Dump, *, timeout: float) -> AbstractContextManager[Callable[[], None]]:
        """Block no writers: the replaced tables are retained under another name, with all later writes."""
        del dump, timeout
        return nullcontext(release_nothing)

    def markers(self) -> Mapping[str, str]:
        return {}  # the retained database identifies the state

    @contextmanager
    def restored_copy(self, request: LoadRequest) -> Iterator[Url]:
        with self.trial_restore(request) as trial:
            yield trial.url
