"""Encryption with the age format, compatible with the ``age`` command; works in blocks, so files may have any size.

pyrage reads and writes through Python objects. It replaces their exceptions with its own, and drops the exception of the
last write (version 1.4). Therefore both objects store the exception, which is raised again after pyrage has returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from dbctl.errors.backup import KeyInvalidError, KeyWrongError
from dbctl.errors.connection import CorruptError
from dbctl.errors.usage import require_driver
from dbctl.files import age_passphrase
from dbctl.model import Secret, Struct

#: Suffix of encrypted files.
SUFFIX = ".age"
#: The first bytes of the files: the binary format, and its text format.
MAGIC = (b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE-----")
#: A recipient and an identity of pyrage.
Recipient: TypeAlias = object
Identity: TypeAlias = object
Write: TypeAlias = Callable[[bytes], int]

SSH_KEY_MAGIC = b"-----BEGIN "
NOT_FOR_US = "it was not encrypted for any identity at hand"
#: The message of pyrage about keys; all others indicate damage.
NO_MATCH = "No matching keys"


class ProtectedKey(Struct, frozen=True, kw_only=True):
    """A new identity, protected by a passphrase."""

    recipient: str
    file: bytes  #: an identity file in the format of ``age --passphrase``


def recipient_problem(text: str) -> str:
    """Return the problem of a recipient's format, or an empty text; the recipient, which may be a secret, is not repeated."""
    if text.startswith("AGE-"):
        return "it is a secret key, which must be in a separate file; age-keygen -y prints its recipient"
    if not text.startswith(("age1", "ssh-ed25519 ", "ssh-rsa ")):
        return "a recipient begins with age1, ssh-ed25519 or ssh-rsa"
    return ""


def parse_recipient(text: str, source: str) -> Recipient:
    """Parse a recipient: ``age1…``, or a public SSH key; ``source`` is for messages.

    Raises:
        KeyInvalidError: the text is invalid.
        DriverMissingError: pyrage is not installed.
    """
    pyrage, problem = require_pyrage(), recipient_problem(text)
    if not problem:
        try:
            result: Recipient = (
                pyrage.x25519.Recipient.from_str(text)
                if text.startswith("age1")
                else pyrage.ssh.Recipient.from_str(text)
            )
        except pyrage.RecipientError:
            problem = "it is invalid, or of an unsupported kind"
        else:
            return result
    raise KeyInvalidError(place=source, reason=problem)


def parse_identities(content: bytes, source: str, passphrase: Callable[[str], Secret]) -> list[Identity]:
    """Parse an identity file: age identities line by line, an SSH key, or an age file protected by a passphrase.

    ``source``, the name of the file, is for messages; ``passphrase`` is called with it and returns the passphrase.

    Raises:
        KeyInvalidError: the file is invalid or unsupported.
        KeyWrongError: the passphrase is wrong.
        DriverMissingError: pyrage or cryptography is not installed.
    """
    if content.startswith(MAGIC):
        content = age_passphrase.decrypt(content, source, passphrase(source))
    pyrage = require_pyrage()
    if content.startswith(SSH_KEY_MAGIC):
        try:
            return [pyrage.ssh.Identity.from_buffer(content)]
        except pyrage.IdentityError as error:
            protected = "decrypted first" in str(error)
            reason = (
                "a passphrase protects this SSH key, and only the age command can prompt for it"
                if protected
                else "it is not an SSH key that age supports (ed25519, rsa)"
            )
            raise KeyInvalidError(place=source, reason=reason) from None
    result = list[Identity]()
    for line_number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            try:
                result.append(pyrage.x25519.Identity.from_str(text))
            except pyrage.IdentityError:
                raise KeyInvalidError(
                    place=f"{source}, line {line_number}", reason="not an identity"
                ) from None
    if not result:
        raise KeyInvalidError(place=source, reason="it contains no identity")
    return result


def generate_key(passphrase: Secret) -> ProtectedKey:
    """Generate a new identity and protect it with a passphrase.

    This deliberately takes about a second and 256 MB of memory.

    Raises:
        DriverMissingError: pyrage or cryptography is not installed.
    """
    pyrage = require_pyrage()
    identity = pyrage.x25519.Identity.generate()
    text = f"# public key: {identity.to_public()}\n{identity}\n"
    return ProtectedKey(
        recipient=str(identity.to_public()), file=age_passphrase.encrypt(text.encode(), passphrase)
    )


def encrypt(blocks: Iterable[bytes], write: Write, recipients: Sequence[Recipient]) -> None:
    """Encrypt blocks and write the result; exceptions of both are raised unchanged.

    Raises:
        DriverMissingError: pyrage is not installed.
    """
    pyrage, source, sink = require_pyrage(), _Stream(byte_reader(blocks)), _Stream(write)
    message = _run_pyrage(lambda: pyrage.encrypt_io(source, sink, list(recipients)), source, sink)
    if message:
        raise RuntimeError(message)


def decrypt(
    read: Callable[[int], bytes], write: Write, identities: Sequence[Identity], *, target: str, name: str
) -> None:
    """Decrypt a file and write its content in blocks, including those before a damaged one.

    ``read`` returns the next bytes, up to the given count; ``target`` (``app/database``) and ``name``, of the file, are for messages.

    Raises:
        KeyWrongError: no identity can decrypt the file.
        CorruptError: the file is truncated, changed, or not an age file.
        DriverMissingError: pyrage is not installed.
    """
    pyrage, source, sink = require_pyrage(), _Stream(read), _Stream(write)
    message = _run_pyrage(lambda: pyrage.decrypt_io(source, sink, list(identities)), source, sink)
    if message.startswith(NO_MATCH):
        raise KeyWrongError(file=name, reason=NOT_FOR_US)
    if message:
        raise CorruptError(target=target, reason=f"{name}: damaged ({message})")


def can_decrypt(identities: Sequence[Identity], recipients: Sequence[Recipient]) -> bool:
    pyrage = require_pyrage()
    try:
        pyrage.decrypt(pyrage.encrypt(b"", list(recipients)), list(identities))
    except pyrage.DecryptError:
        return False
    return True


def require_pyrage() -> Any:
    """Return the module pyrage; raises ``DriverMissingError``."""
    with require_driver("backups in the age format", driver="pyrage", extra="encryption"):
        import pyrage
    return pyrage


class _Stream:
    """The source or destination of pyrage, which stores the exception of ``call``."""

    def __init__(self, call: Callable[[Any], Any]) -> None:
        self._call, self.failure = call, list[BaseException]()

    def read(self, size: int) -> bytes:
        content: bytes = self._run(size)
        return content

    def write(self, block: bytes) -> int:
        written: int = self._run(block)
        return written

    def flush(self) -> None:
        """Do nothing: nothing is buffered."""

    def _run(self, argument: object) -> Any:
        if self.failure:
            raise OSError("a previous call failed")
        try:
            return self._call(argument)
        except BaseException as error:  # also a signal: pyrage would replace it with an error
            self.failure.append(error)
            raise


def _run_pyrage(call: Callable[[], object], source: _Stream, sink: _Stream) -> str:
    """Return the error message of pyrage, empty on success; raise the exception of a read or write."""
    pyrage, message = require_pyrage(), ""
    try:
        call()
    except (pyrage.EncryptError, pyrage.DecryptError, OSError) as error:
        message = " ".join(str(error).split())
    finally:
        for failure in (*source.failure, *sink.failure):
            raise failure
    return message


def byte_reader(blocks: Iterable[bytes]) -> Callable[[int], bytes]:
    """Return a function that reads the blocks in any sizes."""
    iterator, remaining = iter(blocks), memoryview(b"")

    def read(size: int) -> bytes:
        nonlocal remaining
        while not remaining:
            block = next(iterator, None)
            if block is None:
                return b""
            remaining = memoryview(block)
        block_part, remaining = remaining[:size], remaining[size:]
        return bytes(block_part)

    return read
