"""Encryption of backups: recipients, identities and passphrases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from shlex import quote

from dbctl.config import environment, secrets
from dbctl.config.model import EncryptionConfig
from dbctl.config.secrets import DecryptionFiles
from dbctl.errors.backup import (
    BackupCorruptError,
    KeyInvalidError,
    KeyWrongError,
    PassphraseInvalidError,
    RepositoryFailedError,
)
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import FileFailedError, FileMissingError
from dbctl.errors.usage import KeyMissingError
from dbctl.files import age, atomic
from dbctl.files.age import Identity, ProtectedKey, Recipient
from dbctl.files.atomic import hash_blocks
from dbctl.model import Secret, format_count
from dbctl.services.app.app import App
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.stores.base import Store
from dbctl.stores.staging import Staging

#: Limits in bytes.
MAX_KEY_FILE_BYTES = 1 << 20
MAX_PASSPHRASE_BYTES = 1 << 12
#: Permissions of the group and of other users.
OTHERS_MODE = 0o077
#: Prompts for the passphrase of the given file; raises without a terminal.
PassphrasePrompt = Callable[[str], Secret]


class EncryptionPolicy:
    """The configured encryption of all of an app's backups."""

    def __init__(self, app: App, settings: EncryptionConfig) -> None:
        """Read the recipients or the passphrase.

        Raises:
            KeyInvalidError: a recipient or the passphrase is invalid.
            FileMissingError, FileFailedError: the file of recipients or of the passphrase cannot be read.
            DriverMissingError: the encryption package is not installed.
        """
        age.require_pyrage()
        self._passphrase = None
        #: for files before their encryption
        self.staging = Staging(environment.staging_folder(app.configured))
        self.recipient_names: list[str] = []  #: the recipients as configured
        self._recipients: list[Recipient] = []
        if settings.passphrase_file:
            self._passphrase = read_passphrase(Path(settings.passphrase_file))
        elif settings.passphrase_env:
            self._passphrase = secrets.read_passphrase_variable(app.configured)
        else:
            self._read_recipients(app.name, settings)

    def _read_recipients(self, app: str, settings: EncryptionConfig) -> None:
        entries = [(f"recipient {index} of {app}", text) for index, text in enumerate(settings.recipients, 1)]
        if settings.recipients_file:
            entries += _read_recipients_file(Path(settings.recipients_file))
        for place, text in entries:
            if text in self.recipient_names:
                raise KeyInvalidError(place=place, reason="duplicate recipient")
            self._recipients.append(age.parse_recipient(text, place))
            self.recipient_names.append(text)
        if not self.recipient_names:
            raise KeyInvalidError(place=settings.recipients_file, reason="it contains no recipient")

    def plan_step(self) -> str:
        method = (
            "with a passphrase"
            if self._passphrase
            else f"for {format_count(len(self.recipient_names), 'recipient')}"
        )
        return f"encrypt every file {method} in the age format (….age)"

    def create_key(self) -> ProtectedKey | None:
        """Return a new key for one backup, protected by the passphrase; None without a passphrase."""
        return age.generate_key(self._passphrase) if self._passphrase else None

    def recipients(self, key: ProtectedKey | None) -> Sequence[Recipient]:
        """Return the recipients for the files of a backup with this key."""
        return [age.parse_recipient(key.recipient, "the key of the backup")] if key else self._recipients

    def is_current(self, store: Store, manifest: Manifest) -> bool:
        """Whether a backup is encrypted for the recipients, or its key is protected by the passphrase."""
        if self._passphrase:
            return self._unlocks(store, manifest)
        return manifest.key_member is None and set(manifest.recipients) == set(self.recipient_names)

    def find_identities(self, key: ProtectedKey | None, keys: DecryptionKeys | None) -> Sequence[Identity]:
        """Return identities that decrypt files of a backup with this key, of ``keys`` or by the passphrase; empty: there are none."""
        passphrase = self._passphrase
        if key and passphrase:
            return age.parse_identities(key.file, "the key of the backup", lambda _purpose: passphrase)
        return keys.file_identities if keys and self.can_be_decrypted_by(keys) else ()

    def _unlocks(self, store: Store, manifest: Manifest) -> bool:
        """Whether the passphrase unlocks the key of a backup, which may be damaged, or protected by another one."""
        key, passphrase = manifest.key_member, self._passphrase
        if key is None or passphrase is None:
            return False
        try:
            raw = _read_backup_key(store, manifest, key)
            age.parse_identities(raw, key.file, lambda _purpose: passphrase)
        except (BackupCorruptError, KeyInvalidError, KeyWrongError):
            return False
        return True

    def can_be_decrypted_by(self, keys: DecryptionKeys) -> bool:
        """Whether these keys can decrypt new backups."""
        if self._passphrase:
            return True  # the passphrase also decrypts
        try:
            return age.can_decrypt(keys.file_identities, self._recipients)
        except DbctlError:  # an unreadable identity decrypts nothing
            return False


def load_encryption(app: App) -> EncryptionPolicy | None:
    """Return the encryption of an app's backups, or None; raises as ``EncryptionPolicy``."""
    settings = app.configured.backup_settings.encrypt
    return EncryptionPolicy(app, settings) if settings else None


class DecryptionKeys:
    """The identities and passphrases that decrypt backups on this machine, read on first use."""

    def __init__(self, settings: DecryptionFiles, prompt: PassphrasePrompt) -> None:
        self._settings, self._prompt = settings, prompt
        self.staging = Staging(settings.staging)  #: for decrypted files
        self._file_identities: list[Identity] | None = None
        self._identities_by_key = dict[str, Sequence[Identity] | KeyWrongError]()
        self._entered_passphrase: Secret | None = None

    @property
    def file_identities(self) -> Sequence[Identity]:
        """The identities of the identity files; raises as ``prepare`` does."""
        if self._file_identities is None:
            identities = list[Identity]()
            for path in self._settings.identities:
                identities += self._parse_identities(read_key_file(path, "identity file"), str(path))
            self._file_identities = identities
        return self._file_identities

    def prepare(self, store: Store, manifest: Manifest) -> None:
        """Read the keys of a backup if it is encrypted; may prompt for a passphrase.

        Raises:
            KeyMissingError: no key is configured.
            KeyInvalidError: a key file is invalid.
            KeyWrongError: the passphrase is wrong.
            BackupCorruptError: the key of the backup is missing or damaged.
            FileMissingError, FileFailedError: a key file cannot be read.
            DriverMissingError: the decryption package is not installed.
        """
        if is_encrypted(manifest):
            self.identities_for(store, manifest)

    def identities_for(self, store: Store, manifest: Manifest) -> Sequence[Identity]:
        """Return the identities that may decrypt a backup; raises as ``prepare`` does."""
        if (key := manifest.key_member) is None:
            if not self.file_identities:
                raise KeyMissingError(target=f"backup {manifest.id}", reason="no identity is configured")
            return self.file_identities
        identities = self._identities_by_key.get(key.sha256) or self._unlock_key(
            _read_backup_key(store, manifest, key), key.file
        )
        self._identities_by_key[key.sha256] = identities  # also an error: each attempt is slow by design
        if isinstance(identities, KeyWrongError):
            raise identities
        return identities

    def _unlock_key(self, raw: bytes, file: str) -> Sequence[Identity] | KeyWrongError:
        try:
            return self._parse_identities(raw, file)
        except KeyWrongError as error:
            return error

    def describe_exposed_files(self) -> Iterator[str]:
        """Yield a description of each key file that other users may read."""
        for path in (*self._settings.identities, *self._settings.passphrases):
            if is_exposed(path):
                yield f"other users can read {path}; run chmod 600 {quote(str(path))}"

    def _parse_identities(self, raw: bytes, place: str) -> Sequence[Identity]:
        """Return the identities of a file; a protected file is tried with each passphrase in turn."""
        prompts: list[PassphrasePrompt] = [
            partial(_passphrase_from_file, path) for path in self._settings.passphrases
        ]
        errors = list[KeyWrongError]()
        if read_variable := self._settings.read_passphrase:
            prompts.append(lambda _purpose: read_variable())
        for prompt in prompts or [self._enter_passphrase]:
            try:
                return age.parse_identities(raw, place, prompt)
            except KeyWrongError as error:
                errors.append(error)
        raise errors[-1]

    def _enter_passphrase(self, purpose: str) -> Secret:
        if self._entered_passphrase is None:
            self._entered_passphrase = self._prompt(purpose)
        return self._entered_passphrase


def _read_backup_key(store: Store, manifest: Manifest, key: Member) -> bytes:
    """Return the content of the key of a backup.

    Raises:
        BackupCorruptError: it is missing or damaged.
    """
    try:
        with store.open_locally(manifest.id, key.file) as path:
            raw = read_key_file(path, "key")
    except (FileMissingError, FileFailedError, RepositoryFailedError) as error:
        raise BackupCorruptError(id=manifest.id, app=manifest.app, reason=str(error)) from error
    if hash_blocks([raw]).sha256 != key.sha256:
        reason = f"{key.file}: its SHA-256 does not match the manifest"
        raise BackupCorruptError(id=manifest.id, app=manifest.app, reason=reason)
    return raw


def _passphrase_from_file(path: Path, _purpose: str) -> Secret:
    return read_passphrase(path)


def is_encrypted(manifest: Manifest) -> bool:
    """Whether reading a backup requires a key."""
    return any(member.encryption != "none" for member in manifest.members)


def is_exposed(path: Path) -> bool:
    """Whether other users may read a file; False if its permissions are unknown."""
    try:
        return bool(path.stat().st_mode & OTHERS_MODE)
    except OSError:
        return False


def read_passphrase(path: Path) -> Secret:
    """Return the passphrase on the first line of a file, without the line ending.

    Raises:
        PassphraseInvalidError: it is empty, too long or not UTF-8.
        FileMissingError, FileFailedError: the file cannot be read.
    """
    line = read_key_file(path, "passphrase file").split(b"\n", 1)[0].removesuffix(b"\r")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise PassphraseInvalidError(place=str(path), reason="the passphrase is not UTF-8") from None
    if not text:
        raise PassphraseInvalidError(place=str(path), reason="the first line, the passphrase, is empty")
    if len(line) > MAX_PASSPHRASE_BYTES:
        reason = f"the passphrase is longer than {MAX_PASSPHRASE_BYTES} bytes"
        raise PassphraseInvalidError(place=str(path), reason=reason)
    return Secret(text)


def read_key_file(path: Path, description: str) -> bytes:
    """Return the content of a key file, also of one that the shell has opened (``<(…)``).

    Raises:
        FileMissingError, FileFailedError: it cannot be read, or is too large.
    """
    try:
        with atomic.open_named(path) as file:
            raw = file.read(MAX_KEY_FILE_BYTES + 1)
    except FileNotFoundError:
        raise FileMissingError(kind=description, path=path) from None
    except OSError as error:
        reason = f"cannot read this {description}: {error.strerror or error}"
        raise FileFailedError(path=path, reason=reason) from error
    if len(raw) > MAX_KEY_FILE_BYTES:
        raise FileFailedError(path=path, reason=f"too large for this kind of file ({description})")
    return raw


def _read_recipients_file(path: Path) -> list[tuple[str, str]]:
    """Return the recipients of a file, each with its location; blank lines and comments are skipped."""
    lines = read_key_file(path, "recipients file").decode(errors="replace").splitlines()
    return [
        (f"{path}, line {line_number}", text)
        for line_number, line in enumerate(lines, 1)
        if (text := line.strip()) and not text.startswith("#")
    ]
