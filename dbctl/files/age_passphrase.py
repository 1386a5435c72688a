"""Small files that are encrypted with a passphrase, in the format of ``age --passphrase`` (https://age-encryption.org/v1).

pyrage, which encrypts all other files, measures how fast the machine is at this moment to choose the work of the passphrase, and again
to limit it. A slower or a busy machine then refuses a key, or lacks the memory for it. Here, as in ``age``, no machine decides the work.
"""

from __future__ import annotations

import hmac
import os
import re
from base64 import b64decode, b64encode
from binascii import Error as InvalidBase64Error
from collections.abc import Callable

from dbctl.errors.backup import KeyInvalidError, KeyWrongError
from dbctl.errors.usage import require_driver
from dbctl.model import Secret

#: The binary logarithm of the work: about a second, and 256 MB of memory. It is the default of ``age``.
WORK_FACTOR = 18
#: The largest that ``age`` accepts, too: 4 GB.
MAX_WORK_FACTOR = 22
CHUNK_BYTES, TAG_BYTES, NONCE_BYTES = 1 << 16, 16, 16

_VERSION = b"age-encryption.org/v1"
_ARMOR = re.compile(
    rb"-----BEGIN AGE ENCRYPTED FILE-----\s([A-Za-z0-9+/=\s]+)-----END AGE ENCRYPTED FILE-----\s*"
)
_HEADER = re.compile(
    rb"(%b\n-> scrypt ([A-Za-z0-9+/]{22}) ([1-9][0-9]?)\n([A-Za-z0-9+/]{43})\n---) ([A-Za-z0-9+/]{43})\n"
    % re.escape(_VERSION)
)


def encrypt(content: bytes, passphrase: Secret) -> bytes:
    """Encrypt content, which is held in memory, with a passphrase.

    Raises:
        KeyInvalidError: this machine lacks the memory for the work.
        DriverMissingError: cryptography is not installed.
    """
    with require_driver("passphrases of backups", driver="cryptography", extra="encryption"):
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    file_key, salt, nonce = os.urandom(16), os.urandom(16), os.urandom(NONCE_BYTES)
    key = _stretch(passphrase, salt, WORK_FACTOR, "a new key")
    wrapped = ChaCha20Poly1305(key).encrypt(bytes(12), file_key, None)
    stanza = b"-> scrypt %b %d\n%b" % (_encode(salt), WORK_FACTOR, _encode(wrapped))
    header = b"%b\n%b\n---" % (_VERSION, stanza)
    payload = _process(ChaCha20Poly1305(_expand(file_key, nonce, b"payload")).encrypt, content, CHUNK_BYTES)
    return b"%b %b\n%b%b" % (header, _encode(_authenticate(file_key, header)), nonce, payload)


def decrypt(content: bytes, source: str, passphrase: Secret) -> bytes:
    """Decrypt a file, also in the text format; ``source``, its name, is for messages.

    Raises:
        KeyInvalidError: it is damaged, encrypted for recipients, or requires too much work or memory.
        KeyWrongError: the passphrase is wrong.
        DriverMissingError: cryptography is not installed.
    """
    with require_driver("passphrases of backups", driver="cryptography", extra="encryption"):
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    damage = KeyInvalidError(place=source, reason="it is damaged")
    if armored := _ARMOR.fullmatch(content):
        try:
            content = b64decode(b"".join(armored[1].split()), validate=True)
        except InvalidBase64Error:
            raise damage from None
    match = _HEADER.match(content)
    if match is None:
        if content.startswith(b"%b\n-> " % _VERSION) and not content.startswith(b"%b\n-> scrypt" % _VERSION):
            reason = "it is encrypted for recipients, not with a passphrase"
            raise KeyInvalidError(place=source, reason=reason)
        raise damage
    header, salt, work, wrapped, code = match.groups()
    if int(work) > MAX_WORK_FACTOR:
        reason = "its decryption requires more work than any legitimate file"
        raise KeyInvalidError(place=source, reason=reason)
    key = _stretch(passphrase, _decode(salt), int(work), source)
    try:
        file_key = ChaCha20Poly1305(key).decrypt(bytes(12), _decode(wrapped), None)
    except InvalidTag:
        raise KeyWrongError(file=source, reason="the passphrase is wrong") from None
    if not hmac.compare_digest(_encode(_authenticate(file_key, header)), code):
        raise damage
    nonce, payload = content[match.end() :][:NONCE_BYTES], content[match.end() + NONCE_BYTES :]
    cipher = ChaCha20Poly1305(_expand(file_key, nonce, b"payload"))
    try:
        return _process(cipher.decrypt, payload, CHUNK_BYTES + TAG_BYTES)
    except InvalidTag:
        raise damage from None


def _stretch(passphrase: Secret, salt: bytes, work: int, source: str) -> bytes:
    """Return the key of a passphrase, which takes time and memory, so that passphrases cannot be tried quickly."""
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    scrypt = Scrypt(salt=b"%b/scrypt%b" % (_VERSION, salt), length=32, n=1 << work, r=8, p=1)
    try:
        return scrypt.derive(passphrase.reveal().encode())
    except MemoryError:
        reason = (
            f"its passphrase requires {1 << work >> 10:,} MB of memory, which this machine does not have free"
        )
        raise KeyInvalidError(place=source, reason=reason) from None


def _expand(file_key: bytes, salt: bytes, purpose: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=32, salt=salt or None, info=purpose).derive(file_key)


def _authenticate(file_key: bytes, header: bytes) -> bytes:
    return hmac.digest(_expand(file_key, b"", b"header"), header, "sha256")


def _process(process: Callable[[bytes, bytes, None], bytes], data: bytes, size: int) -> bytes:
    """Encrypt or decrypt data in chunks, each with its number, and the last one with a mark, so that none can be removed."""
    chunks = [data[start : start + size] for start in range(0, len(data), size)] or [b""]
    return b"".join(
        process(number.to_bytes(11, "big") + bytes([number == len(chunks) - 1]), chunk, None)
        for number, chunk in enumerate(chunks)
    )


def _encode(content: bytes) -> bytes:
    return b64encode(content).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    return b64decode(text + b"=" * (-len(text) % 4))
