"""The keys of encrypted backups: for whom they are encrypted, and what opens them on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from dbctl.config import Encrypt, Opening, paths
from dbctl.errors import (
    DbctlError,
    FileFailedError,
    FileMissingError,
    KeyInvalidError,
    KeyMissingError,
    KeyWrongError,
    PassphraseInvalidError,
)
from dbctl.files import Identity, MadeKey, Recipient, age, atomic
from dbctl.model import Secret, counted
from dbctl.services.app import App
from dbctl.services.backup.manifest import Manifest
from dbctl.stores import Staging, Store

#: Bytes; no file of keys, and no passphrase, is larger.
LARGEST = 1 << 20
LONGEST_PASSPHRASE = 1 << 12
#: Rights of a group and of everybody else.
OTHERS = 0o077
#: Asks a person for a passphrase, told what for; raises where nobody is there.
Ask = Callable[[str], Secret]


class Sealing:
    """How the backups of an app are encrypted, as its configuration says: always, or not at all."""

    def __init__(self, app: App) -> None:
        """Read for whom.

        Raises:
            KeyInvalidError: a recipient, or the passphrase, is none.
            FileMissingError, FileFailedError: the file of recipients, or of the passphrase, cannot be read.
            DriverMissingError: what encrypts is not installed.
        """
        told = app.configured.backup
        self._told = told.encrypt if told else None
        self._passphrase = None
        self.aside = Staging(paths.aside(app.configured))  #: for what is not encrypted yet
        self.names: list[str] = []  #: the recipients, as they were given
        self._recipients: list[Recipient] = []
        if self._told:
            age.want()
        if self._told and self._told.passphrase_file:
            self._passphrase = passphrase_in(Path(self._told.passphrase_file))
        elif self._told:
            self._read(app.name, self._told)

    def __bool__(self) -> bool:
        """Whether backups are encrypted."""
        return self._told is not None

    def _read(self, app: str, told: Encrypt) -> None:
        places = [(f"recipient {number} of {app}", text) for number, text in enumerate(told.recipients, 1)]
        if told.recipients_file:
            places += _lines(Path(told.recipients_file))
        for place, text in places:
            if text in self.names:
                raise KeyInvalidError(place=place, reason="it stands there twice")
            self._recipients.append(age.recipient(text, place))
            self.names.append(text)
        if not self.names:
            raise KeyInvalidError(
                place=told.recipients_file, reason="it names no recipient, so nobody could open a backup"
            )

    def told(self) -> str:
        """Return what it does, as a plan tells it."""
        whom = "by a passphrase" if self._passphrase else f"for {counted(len(self.names), 'recipient')}"
        return f"encrypt every file {whom}, in the age format (….age)"

    def made_key(self) -> MadeKey | None:
        """Return a new key for one backup, where a passphrase is to protect it."""
        return age.made_key(self._passphrase) if self._passphrase else None

    def recipients(self, key: MadeKey | None) -> Sequence[Recipient]:
        """Return for whom the files of a backup are encrypted that has this key."""
        return [age.recipient(key.recipient, "the key of the backup")] if key else self._recipients

    def is_opened_by(self, keys: Keys) -> bool:
        """Whether what is encrypted now could be opened with these keys again."""
        if self._passphrase:
            return True  # the passphrase itself is among what opens
        try:
            return age.opens(keys.own, self._recipients)
        except DbctlError:  # what cannot be read opens nothing
            return False


class Keys:
    """What opens encrypted backups on this machine, read once it is wanted."""

    def __init__(self, opening: Opening, ask: Ask) -> None:
        """Take which files there are, and who asks for a passphrase that none of them holds."""
        self._opening, self._ask = opening, ask
        self.aside = Staging(opening.aside)  #: for what was decrypted
        self._own: list[Identity] | None = None
        self._of_backups = dict[str, Sequence[Identity] | KeyWrongError]()
        self._asked: Secret | None = None

    @property
    def own(self) -> Sequence[Identity]:
        """The identities of the files; raises as ``ready`` does."""
        if self._own is None:
            found = list[Identity]()
            for path in self._opening.identities:
                found += self._identities(read_file(path, "identity file"), str(path))
            self._own = found
        return self._own

    def ready(self, store: Store, manifest: Manifest) -> None:
        """Read what opens a backup, where it is encrypted; a person may be asked for a passphrase.

        Raises:
            KeyMissingError: nothing here could open it.
            KeyInvalidError: what should is no key.
            KeyWrongError: the passphrase is another one.
            FileMissingError, FileFailedError: it cannot be read.
            DriverMissingError: what decrypts is not installed.
        """
        if is_encrypted(manifest):
            self.of(store, manifest)

    def of(self, store: Store, manifest: Manifest) -> Sequence[Identity]:
        """Return what may open a backup; raises as ``ready`` does."""
        if manifest.key is None:
            if not self.own:
                raise KeyMissingError(
                    what=f"backup {manifest.id}", reason="no identity is at hand to open it"
                )
            return self.own
        found = self._of_backups.get(manifest.id) or self._of_backup(store, manifest.id, manifest.key.file)
        self._of_backups[manifest.id] = (
            found  # also that it is a wrong one: each try is slow, as it is meant to be
        )
        if isinstance(found, KeyWrongError):
            raise found
        return found

    def _of_backup(self, store: Store, folder: str, file: str) -> Sequence[Identity] | KeyWrongError:
        with store.opened(folder, file) as path:
            raw = read_file(path, "key")
        try:
            return self._identities(raw, file)
        except KeyWrongError as error:
            return error

    def exposed(self) -> Iterator[str]:
        """Yield which of the files others may read."""
        for path in (*self._opening.identities, *self._opening.passphrases):
            if is_exposed(path):
                yield f"{path} may be read by others; chmod 600 it"

    def _identities(self, raw: bytes, place: str) -> Sequence[Identity]:
        """Return the identities of a file; where it is protected, the first passphrase that opens it does."""
        ways: list[Ask] = [partial(_passphrase_of, path) for path in self._opening.passphrases]
        wrong = list[KeyWrongError]()
        for way in ways or [self._answer]:
            try:
                return age.identities(raw, place, way)
            except KeyWrongError as error:
                wrong.append(error)
        raise wrong[-1]

    def _answer(self, what: str) -> Secret:
        if self._asked is None:
            self._asked = self._ask(what)
        return self._asked


def _passphrase_of(path: Path, _what: str) -> Secret:
    return passphrase_in(path)


def is_encrypted(manifest: Manifest) -> bool:
    """Whether a backup wants a key to be opened."""
    return any(one.encryption != "none" for one in manifest.members)


def is_exposed(path: Path) -> bool:
    """Whether others than the owner may read a file, as far as that can be told."""
    try:
        return bool(path.stat().st_mode & OTHERS)
    except OSError:
        return False


def passphrase_in(path: Path) -> Secret:
    """Return the passphrase on the first line of a file; only the line's end is cut off.

    Raises:
        PassphraseInvalidError: there is none, or it is too long or not UTF-8.
        FileMissingError, FileFailedError: it cannot be read.
    """
    line = read_file(path, "passphrase file").split(b"\n", 1)[0].removesuffix(b"\r")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise PassphraseInvalidError(place=str(path), reason="its passphrase is not UTF-8") from None
    if not text:
        raise PassphraseInvalidError(
            place=str(path), reason="its first line, which is the passphrase, is empty"
        )
    if len(line) > LONGEST_PASSPHRASE:
        reason = f"its passphrase is longer than {LONGEST_PASSPHRASE} bytes"
        raise PassphraseInvalidError(place=str(path), reason=reason)
    return Secret(text)


def read_file(path: Path, what: str) -> bytes:
    """Return what a file of keys holds, also one that the shell has opened (``<(…)``).

    Raises:
        FileMissingError, FileFailedError: it cannot be read, or is larger than any such file.
    """
    try:
        with atomic.named(path) as file:
            raw = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise FileMissingError(what=what, path=path) from None
    except OSError as error:
        reason = f"this {what} cannot be read: {error.strerror or error}"
        raise FileFailedError(path=path, reason=reason) from error
    if len(raw) > LARGEST:
        raise FileFailedError(path=path, reason=f"it is larger than any {what}")
    return raw


def _lines(path: Path) -> list[tuple[str, str]]:
    """Return the recipients of a file, and where each stands; blank lines and comments are none."""
    lines = read_file(path, "recipients file").decode(errors="replace").splitlines()
    return [
        (f"{path}, line {number}", text)
        for number, line in enumerate(lines, 1)
        if (text := line.strip()) and not text.startswith("#")
    ]
