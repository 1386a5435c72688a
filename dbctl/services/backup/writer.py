"""The folder of a backup while it is filled: its files come to lie there as they are, or encrypted, and never both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from dbctl.errors import FileFailedError
from dbctl.files import MadeKey, Progress, Seal, age, atomic, compression, new_file, silent
from dbctl.model import Compression, Value, now
from dbctl.services.backup.encryption import Sealing
from dbctl.services.backup.manifest import Encryption, Member
from dbctl.stores import NewFolder


class Laid(Value, frozen=True, kw_only=True):
    """How a file came to lie in a backup: these fields of its ``Member``."""

    file: str
    bytes: int
    sha256: str
    encryption: Encryption = "none"
    inner_bytes: int = 0
    inner_sha256: str = ""


@contextmanager
def laying(folder: NewFolder, name: str, sealing: Sealing | None, need: int) -> Iterator[Laying]:
    """Give what lays the files of the backup ``name`` into its folder.

    Where they are encrypted, what is not yet stands in a private folder of this machine, which may take ``need`` bytes
    at a time: the repository may be the disk of others.

    Raises:
        RoomMissingError, RepositoryFailedError, RepositoryUnsafeError: there is none, or none can be made.
    """
    if not sealing:
        yield Laying(folder, name)
        return
    with sealing.aside.folder(need) as aside:
        yield Sealed(folder, name, sealing, aside)


class Laying:
    """Lays files down as they are."""

    def __init__(self, folder: NewFolder, name: str) -> None:
        self._folder, self.name = folder, name  #: the id of the backup

    def place(self, file: str) -> Path:
        """Return where a file is to be made that ``keep`` or ``pack`` takes."""
        return self._folder.place(file)

    def keep(self, file: str, sha256: str = "") -> Laid:
        """Lay down what was made at its place; it is read for its SHA-256, unless whoever wrote it knows it."""
        kept = self._folder.keep(file, sha256)
        return Laid(file=file, bytes=kept.bytes, sha256=kept.sha256)

    def copy(self, source: Path, file: str) -> Laid:
        """Lay down a copy of a file.

        Raises:
            FileFailedError: it cannot be read.
        """
        try:
            atomic.copied(source, self._folder.place(file))
        except OSError as error:
            raise FileFailedError(path=source, reason=error.strerror or str(error)) from error
        return self.keep(file)

    def pack(
        self, plain: Path, file: str, form: Compression, progress: Progress = silent
    ) -> tuple[Laid, int]:
        """Lay down a file packed; return also how many bytes it had."""
        packed = compression.pack(plain, self._folder.place(file), form, progress)
        return self.keep(file, packed.sha256), packed.plain_bytes

    def drop(self, file: str) -> None:
        """Take away what was made, or laid down, of a file that is of no use."""
        self._folder.drop(file)

    def tidy(self) -> None:
        """Take away what is left of files that were laid down."""

    @property
    def recipients(self) -> list[str]:
        """For whom they are encrypted."""
        return []

    def key(self) -> list[Member]:
        """Lay down what opens the other files, where that is theirs alone."""
        return []


class Sealed(Laying):
    """Lays files down encrypted."""

    def __init__(self, folder: NewFolder, name: str, sealing: Sealing, aside: Path) -> None:
        super().__init__(folder, name)
        self._sealing, self._aside = sealing, aside
        self._key: MadeKey | None = sealing.made_key()
        recipients = sealing.recipients(self._key)
        self._seal: Seal = partial(age.encrypt, recipients=recipients)

    def place(self, file: str) -> Path:
        return self._aside / file

    def keep(self, file: str, sha256: str = "") -> Laid:
        del sha256  # of what is not laid down
        return self.copy(self.place(file), file)

    def copy(self, source: Path, file: str) -> Laid:
        return self.pack(source, file, "none")[0]

    def pack(
        self, plain: Path, file: str, form: Compression, progress: Progress = silent
    ) -> tuple[Laid, int]:
        sealed = f"{file}{age.ENDING}"
        packed = compression.pack(plain, self._folder.place(sealed), form, progress, seal=self._seal)
        kept = self._folder.keep(sealed, packed.sha256)
        laid = Laid(
            file=sealed,
            bytes=kept.bytes,
            sha256=kept.sha256,
            encryption="age",
            inner_bytes=packed.inner_bytes,
            inner_sha256=packed.inner_sha256,
        )
        return laid, packed.plain_bytes

    def drop(self, file: str) -> None:
        self.place(file).unlink(missing_ok=True)
        self._folder.drop(f"{file}{age.ENDING}")

    def tidy(self) -> None:
        for left in self._aside.iterdir():
            left.unlink()

    @property
    def recipients(self) -> list[str]:
        return [self._key.recipient] if self._key else self._sealing.names

    def key(self) -> list[Member]:
        if self._key is None:
            return []
        file = f"key_{self.name}{age.ENDING}"
        with new_file(self._folder.place(file)) as written:
            written.write(self._key.file)
        kept = self._folder.keep(file, written.sha256)
        return [
            Member(
                database="",
                file=file,
                bytes=kept.bytes,
                sha256=kept.sha256,
                form="key",
                engine="",
                taken_at=now(),
                rows={},
                schema="",
                facts={},
            )
        ]
