"""The folder of this machine in which files wait that go to a store elsewhere, or come from one."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dbctl.config import paths
from dbctl.errors import FileExistsAlreadyError, RepositoryFailedError
from dbctl.files import lock as lockfile
from dbctl.files import read_whole, written_whole
from dbctl.stores import local
from dbctl.stores.base import SCRATCH


class Staging:
    """A private folder, made when it is first used; databases stand in it as they are, for as long as they are needed."""

    def __init__(self, given: Path | None) -> None:
        """Take the one that is configured, else one of this user where the system keeps what is large."""
        self.place = given or paths.staging() / f"dbctl-{os.geteuid()}"

    def want_room(self, need: int) -> None:
        """Refuse what does not fit; raises ``RoomMissingError``."""
        local.want_room(next(one for one in (self.place, *self.place.parents) if one.is_dir()), need)

    @contextmanager
    def folder(self, need: int) -> Iterator[Path]:
        """Give an empty folder that only this user may look into, and then remove it.

        What a dbctl that was killed had left is removed, too.

        Raises:
            RoomMissingError: it cannot take ``need`` bytes.
            RepositoryFailedError, RepositoryUnsafeError: none can be made, or others may write beside it.
        """
        from dbctl.files import temp

        with ExitStack() as held:
            with local.translated(self.place):
                self._make()
                local.want_room(self.place, need)
                made = held.enter_context(temp.folder(self.place, SCRATCH))
            yield made

    @contextmanager
    def lock(self, target: str, purpose: str, *, timeout: float) -> Iterator[str]:
        """Keep every other dbctl of this folder from the store ``target``; give what this machine is known by there.

        Raises:
            BusyError: another dbctl held it for all of ``timeout`` seconds.
        """
        import hashlib

        with local.translated(self.place):
            self._make()
            machine = f"{os.uname().nodename} {self._number()}"
        name = hashlib.sha256(target.encode()).hexdigest()[:16]
        try:
            with lockfile.exclusive(self.place / f"{name}.lock", target, purpose, timeout=timeout):
                yield machine
        except lockfile.CannotLockError as error:
            raise RepositoryFailedError(place=self.place, reason=f"its lock: {error}") from error

    def _number(self) -> str:
        """Return what no other folder of this kind has; made once."""
        file = self.place / "number"
        if not file.exists():
            with suppress(FileExistsAlreadyError), written_whole(file) as made:
                made.write(secrets.token_hex(16))
        return read_whole(file, 64).decode()

    def _make(self) -> None:
        with suppress(FileExistsError):
            self.place.mkdir(mode=0o700)
        told = self.place.lstat()
        if not stat.S_ISDIR(told.st_mode):
            raise NotADirectoryError(20, "it is not a directory")
        if told.st_uid not in {os.geteuid(), 0}:  # else its owner could exchange what is restored
            raise PermissionError(1, "it belongs to another user")
        local.refuse_open(self.place, told)
