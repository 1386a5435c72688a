"""Formats of password hashes: the table of all, with PBKDF2, scrypt, and the hashes of Unix and of single apps.

The text of a hash begins with its prefix: the algorithm and its cost. The salt and the digest follow.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping

from dbctl.profiles.codecs import HashFormat
from dbctl.profiles.password_hash import (
    BCRYPT_BYTES,
    DIGESTS,
    LETTERS_64,
    LETTERS_AND_DIGITS,
    Cost,
    Parts,
    PasswordFormat,
    create_argon2,
    create_bcrypt,
    decode_unpadded,
    digest_django,
    digest_wordpress,
    encode_unpadded,
    is_unpadded,
    random_base64,
    random_hex,
    random_text,
    random_unpadded,
)

# PBKDF2 ---------------------------------------------------------------------------------------------------------------

#: Characters of a salt of old versions of Gitea; newer salts are hexadecimal digits.
OLD_GITEA_SALT = 10
_ROUNDS = r"(?P<rounds>[1-9]\d{0,9})"
#: Bytes of a key, 10 to 299: the patterns of the digests and ``MAX_LENGTH`` accept each of these lengths.
_LENGTH = r"(?P<length>[1-9]\d|[12]\d\d)"


def _cost_of_pbkdf2(parts: Parts, length: int = 0) -> Cost:
    """Return the cost of a key of ``length`` bytes, 0: of the length of the digest."""
    size, seconds = DIGESTS[parts.get("digest", "sha256")]
    return Cost(seconds * int(parts["rounds"]) * -(-(length or size) // size))


def _compute_pbkdf2(password: bytes, salt: bytes, parts: Parts, length: int | None = None) -> bytes:
    import hashlib

    return hashlib.pbkdf2_hmac(parts.get("digest", "sha256"), password, salt, int(parts["rounds"]), length)


def _decode_gitea_salt(salt: str) -> bytes:
    return salt.encode() if len(salt) == OLD_GITEA_SALT else bytes.fromhex(salt)


_DJANGO_PBKDF2 = PasswordFormat(
    prefix=rf"pbkdf2_(?P<digest>sha1|sha256)\${_ROUNDS}\$",
    rest=r"(?P<salt>[^$\s]{1,128})\$(?P<hash>[A-Za-z0-9+/]{27}=|[A-Za-z0-9+/]{43}=)",
    cost=_cost_of_pbkdf2,
    compute=lambda password, parts: b64encode(
        _compute_pbkdf2(password, parts["salt"].encode(), parts)
    ).decode(),
    new_salt=lambda: random_text(22, LETTERS_AND_DIGITS),
    is_valid=lambda parts: (
        "hash" not in parts or len(b64decode(parts["hash"])) == DIGESTS[parts["digest"]][0]
    ),
)
_WERKZEUG_PBKDF2 = PasswordFormat(
    prefix=rf"pbkdf2:(?P<digest>sha1|sha256|sha512):{_ROUNDS}\$",
    rest=r"(?P<salt>[^$\s]{1,128})\$(?P<hash>[0-9a-f]{40,128})",
    cost=_cost_of_pbkdf2,
    compute=lambda password, parts: _compute_pbkdf2(password, parts["salt"].encode(), parts).hex(),
    new_salt=lambda: random_text(16, LETTERS_AND_DIGITS),
    is_valid=lambda parts: "hash" not in parts or len(parts["hash"]) == 2 * DIGESTS[parts["digest"]][0],
)
_MEDIAWIKI_PBKDF2 = PasswordFormat(
    prefix=rf":pbkdf2:(?P<digest>sha1|sha256|sha512):{_ROUNDS}:{_LENGTH}:",
    rest=r"(?P<salt>[A-Za-z0-9+/]{4,128}={0,2}):(?P<hash>[A-Za-z0-9+/]{4,700}={0,2})",
    cost=lambda parts: _cost_of_pbkdf2(parts, int(parts["length"])),
    compute=lambda password, parts: b64encode(
        _compute_pbkdf2(password, b64decode(parts["salt"]), parts, int(parts["length"]))
    ).decode(),
    new_salt=random_base64,
    template="{salt}:{hash}",
    is_valid=lambda parts: "hash" not in parts or len(parts["hash"]) == -(-int(parts["length"]) // 3) * 4,
)
#: passlib writes base64 without padding, and ``.`` for ``+``.
_PASSLIB_PBKDF2 = PasswordFormat(
    prefix=rf"\$pbkdf2(?:-(?P<digest>sha256|sha512))?\${_ROUNDS}\$",
    rest=r"(?P<salt>[./A-Za-z0-9]{1,512})\$(?P<hash>[./A-Za-z0-9]{27,86})",
    cost=lambda parts: _cost_of_pbkdf2(_name_digest(parts)),
    compute=lambda password, parts: encode_unpadded(
        _compute_pbkdf2(password, decode_unpadded(parts["salt"].replace(".", "+")), _name_digest(parts))
    ).replace("+", "."),
    new_salt=lambda: random_unpadded().replace("+", "."),
    is_valid=lambda parts: (
        is_unpadded(parts.get("salt", ""))
        and (
            "hash" not in parts
            or len(parts["hash"]) == -(-DIGESTS[_name_digest(parts)["digest"]][0] * 4 // 3)
        )
    ),
)
#: PHC strings: the digest in the name of the algorithm, or, of Mattermost, as a parameter.
_PHC_PBKDF2 = PasswordFormat(
    prefix=(
        rf"\$pbkdf2(?:-(?P<named>sha1|sha256|sha512)\$i={_ROUNDS}"
        r"|\$f=(?P<function>SHA1|SHA256|SHA512),w=(?P<work>[1-9]\d{0,9}))"
        rf",l={_LENGTH}\$"
    ),
    rest=r"(?P<salt>[A-Za-z0-9+/]{4,128})\$(?P<hash>[A-Za-z0-9+/]{14,400})",
    cost=lambda parts: _cost_of_pbkdf2(_read_phc_pbkdf2(parts), int(parts["length"])),
    compute=lambda password, parts: encode_unpadded(
        _compute_pbkdf2(
            password, decode_unpadded(parts["salt"]), _read_phc_pbkdf2(parts), int(parts["length"])
        )
    ),
    new_salt=random_unpadded,
    is_valid=lambda parts: (
        is_unpadded(parts.get("salt", ""))
        and ("hash" not in parts or len(parts["hash"]) == -(-int(parts["length"]) * 4 // 3))
    ),
)


def _name_digest(parts: Parts) -> Parts:
    """Return the parts with the digest, which passlib does not write if it is SHA-1."""
    return {**parts, "digest": parts.get("digest") or "sha1"}


def _read_phc_pbkdf2(parts: Parts) -> Parts:
    digest = parts.get("named") or parts["function"].lower()
    return {**parts, "digest": digest, "rounds": parts.get("rounds") or parts["work"]}


_GITEA_PBKDF2 = PasswordFormat(
    prefix=rf"pbkdf2\${_ROUNDS}\${_LENGTH}\$",
    rest=r"(?P<salt>(?:[0-9a-f]{2}){16,64}|[^$\s]{10})\$(?P<hash>[0-9a-f]{2,1000})",
    cost=lambda parts: _cost_of_pbkdf2(parts, int(parts["length"])),
    compute=lambda password, parts: _compute_pbkdf2(
        password, _decode_gitea_salt(parts["salt"]), parts, int(parts["length"])
    ).hex(),
    new_salt=random_hex,
    is_valid=lambda parts: "hash" not in parts or len(parts["hash"]) == 2 * int(parts["length"]),
)

# scrypt ---------------------------------------------------------------------------------------------------------------


def _cost_of_scrypt(work: int, block: int, lanes: int) -> Cost:
    return Cost(3e-7 * work * block * lanes, 128 * work * block)


def _compute_scrypt(
    password: bytes, salt: bytes, work: int, block: int, lanes: int, length: int = 64
) -> bytes:
    import hashlib

    limit = 128 * block * (work + lanes + 4)
    return hashlib.scrypt(password, salt=salt, n=work, r=block, p=lanes, maxmem=limit, dklen=length)


def _is_power_of_two(text: str) -> bool:
    return int(text) > 1 and int(text).bit_count() == 1


_WERKZEUG_SCRYPT = PasswordFormat(
    prefix=r"scrypt:(?P<work>[1-9]\d{0,9}):(?P<block>[1-9]\d{0,2}):(?P<lanes>[1-9]\d{0,2})\$",
    rest=r"(?P<salt>[^$\s]{1,128})\$(?P<hash>[0-9a-f]{128})",
    cost=lambda parts: _cost_of_scrypt(int(parts["work"]), int(parts["block"]), int(parts["lanes"])),
    compute=lambda password, parts: _compute_scrypt(
        password, parts["salt"].encode(), int(parts["work"]), int(parts["block"]), int(parts["lanes"])
    ).hex(),
    new_salt=lambda: random_text(16, LETTERS_AND_DIGITS),
    # The algorithm requires a work factor below 2 ** (16 * block).
    is_valid=lambda parts: (
        _is_power_of_two(parts["work"]) and int(parts["work"]).bit_length() <= 16 * int(parts["block"])
    ),
)
#: Django writes the block size and the parallelism, which are constants, after the salt.
_DJANGO_SCRYPT = PasswordFormat(
    prefix=r"scrypt\$(?P<work>[1-9]\d{0,9})\$",
    rest=r"(?P<salt>[^$\s]{1,128})\$(?P<block>[1-9]\d{0,2})\$(?P<lanes>[1-9]\d{0,2})\$(?P<hash>[A-Za-z0-9+/]{86}==)",
    cost=lambda parts: _cost_of_scrypt(
        int(parts["work"]), int(parts.get("block", 8)), int(parts.get("lanes", 5))
    ),
    compute=lambda password, parts: b64encode(
        _compute_scrypt(
            password,
            parts["salt"].encode(),
            int(parts["work"]),
            int(parts.get("block", 8)),
            int(parts.get("lanes", 5)),
        )
    ).decode(),
    new_salt=lambda: random_text(22, LETTERS_AND_DIGITS),
    template="{salt}$8$5${hash}",
    is_valid=lambda parts: _is_power_of_two(parts["work"]),
)

_PHC_SCRYPT = PasswordFormat(
    prefix=r"\$scrypt\$ln=(?P<exponent>[1-9]|[12]\d|3[01]),r=(?P<block>[1-9]\d{0,2}),p=(?P<lanes>[1-9]\d{0,2})\$",
    rest=r"(?P<salt>[A-Za-z0-9+/]{4,128})\$(?P<hash>[A-Za-z0-9+/]{14,128})",
    cost=lambda parts: _cost_of_scrypt(2 ** int(parts["exponent"]), int(parts["block"]), int(parts["lanes"])),
    compute=lambda password, parts: encode_unpadded(
        _compute_scrypt(
            password,
            decode_unpadded(parts["salt"]),
            2 ** int(parts["exponent"]),
            int(parts["block"]),
            int(parts["lanes"]),
            len(decode_unpadded(parts["hash"])) if "hash" in parts else 32,
        )
    ),
    new_salt=random_unpadded,
    # The algorithm requires a work factor below 2 ** (16 * block).
    is_valid=lambda parts: (
        int(parts["exponent"]) < 16 * int(parts["block"])
        and is_unpadded(parts.get("salt", ""))
        and is_unpadded(parts.get("hash", ""))
    ),
)

# phpass, MD5-crypt and SHA-crypt -------------------------------------------------------------------------------------------------


def _encode_64(data: bytes) -> str:
    """Return bytes in groups of three, the least significant six bits first, as the functions of crypt encode them."""
    text = ""
    for start in range(0, len(data), 3):
        group = data[start : start + 3]
        bits = int.from_bytes(group, "little")
        text += "".join(LETTERS_64[bits >> 6 * place & 63] for place in range(len(group) + 1))
    return text


def _compute_phpass(password: bytes, parts: Parts) -> str:
    from hashlib import md5

    digest = md5(parts["salt"].encode() + password, usedforsecurity=False).digest()
    for _ in range(2 ** LETTERS_64.index(parts["rounds"])):
        digest = md5(digest + password, usedforsecurity=False).digest()
    return _encode_64(digest)


_PHPASS = PasswordFormat(
    prefix=r"\$[PH]\$(?P<rounds>[5-9A-S])",
    rest=r"(?P<salt>[./0-9A-Za-z]{8})(?P<hash>[./0-9A-Za-z]{22})",
    cost=lambda parts: Cost(1e-6 * 2 ** LETTERS_64.index(parts["rounds"])),
    compute=_compute_phpass,
    new_salt=lambda: random_text(8, LETTERS_64),
    template="{salt}{hash}",
)


def _compute_md5_crypt(password: bytes, parts: Parts) -> str:
    from hashlib import md5

    def digest(data: bytes) -> bytes:
        return md5(data, usedforsecurity=False).digest()

    salt, length = parts["salt"].encode(), len(password)
    alternate = digest(password + salt + password)
    text = password + f"${parts['variant']}$".encode() + salt + (alternate * (length // 16 + 1))[:length]
    bits = length
    while bits:
        text += b"\0" if bits & 1 else password[:1]
        bits >>= 1
    result = digest(text)
    for number in range(1000):
        text = password if number & 1 else result
        text += salt if number % 3 else b""
        text += password if number % 7 else b""
        result = digest(text + (result if number & 1 else password))
    order = [12, 6, 0, 13, 7, 1, 14, 8, 2, 15, 9, 3, 5, 10, 4, 11]
    return _encode_64(bytes(result[index] for index in order))


#: ``apr1`` is the variant of Apache.
_MD5_CRYPT = PasswordFormat(
    prefix=r"\$(?P<variant>1|apr1)\$",
    rest=r"(?P<salt>[./0-9A-Za-z]{1,8})\$(?P<hash>[./0-9A-Za-z]{22})",
    cost=lambda _parts: Cost(2e-3),
    compute=_compute_md5_crypt,
    new_salt=lambda: random_text(8, LETTERS_64),
)


def _compute_sha_crypt(password: bytes, parts: Parts) -> str:
    """Return the digest of SHA-crypt; its specification numbers these steps."""
    import hashlib

    new_hash = hashlib.sha256 if parts["variant"] == "5" else hashlib.sha512
    salt = parts["salt"].encode()
    size, length = new_hash().digest_size, len(password)

    def repeat(block: bytes, total: int) -> bytes:
        return (block * (total // len(block) + 1))[:total]

    alternate = new_hash(password + salt + password).digest()  # steps 4 to 8
    initial = new_hash(password + salt + repeat(alternate, length))  # 1 to 3, 9 and 10
    bits = length
    while bits:  # 11
        initial.update(alternate if bits & 1 else password)
        bits >>= 1
    digest = initial.digest()  # 12
    passwords = repeat(new_hash(password * length).digest(), length)  # 13 to 16
    salts = repeat(new_hash(salt * (16 + digest[0])).digest(), len(salt))  # 17 to 20
    for number in range(_count_sha_rounds(parts)):  # 21
        text = passwords if number & 1 else digest
        text += salts if number % 3 else b""
        text += passwords if number % 7 else b""
        digest = new_hash(text + (digest if number & 1 else passwords)).digest()
    # 22: the order of the bytes in groups of three; each group begins in another third of the digest.
    third, order = size // 3, list[int]()
    for number in range(third):
        triple = [number, number + third, number + 2 * third]
        turn = (number if parts["variant"] == "6" else 2 * number) % 3
        order += reversed(triple[turn:] + triple[:turn])
    order += range(3 * third, size)
    return _encode_64(bytes(digest[index] for index in order))


def _count_sha_rounds(parts: Parts) -> int:
    return int(parts["rounds"] or 5000)


_SHA_CRYPT = PasswordFormat(
    prefix=r"\$(?P<variant>[56])\$(?:rounds=(?P<rounds>[1-9]\d{3,8})\$)?",
    rest=r"(?P<salt>[./0-9A-Za-z]{1,16})\$(?P<hash>[./0-9A-Za-z]{43}|[./0-9A-Za-z]{86})",
    cost=lambda parts: Cost(2e-6 * _count_sha_rounds(parts)),
    compute=_compute_sha_crypt,
    new_salt=lambda: random_text(16, LETTERS_64),
    is_valid=lambda parts: (
        "hash" not in parts or len(parts["hash"]) == (43 if parts["variant"] == "5" else 86)
    ),
)


# Redmine --------------------------------------------------------------------------------------------------------------


def _compute_redmine(password: bytes, parts: Parts) -> str:
    from hashlib import sha1

    inner = sha1(password, usedforsecurity=False).hexdigest()
    return sha1((parts["salt"] + inner).encode(), usedforsecurity=False).hexdigest()


_REDMINE_SHA1 = PasswordFormat(
    prefix="",
    rest=r"(?P<salt>[0-9a-f]{32})\$(?P<hash>[0-9a-f]{40})",
    cost=lambda _parts: Cost(0),
    compute=_compute_redmine,
    new_salt=random_hex,
)

PASSWORD_FORMATS: Mapping[HashFormat, PasswordFormat] = {
    "bcrypt": create_bcrypt("", bytes, BCRYPT_BYTES),
    "wordpress-bcrypt": create_bcrypt(r"\$wp", digest_wordpress),
    "django-bcrypt": create_bcrypt(r"bcrypt_sha256\$", digest_django),
    "nextcloud-bcrypt": create_bcrypt(r"1\|", bytes, BCRYPT_BYTES),
    "argon2": create_argon2(""),
    "django-argon2": create_argon2("argon2"),
    "nextcloud-argon2": create_argon2(r"[23]\|"),
    "django-pbkdf2": _DJANGO_PBKDF2,
    "werkzeug-pbkdf2": _WERKZEUG_PBKDF2,
    "mediawiki-pbkdf2": _MEDIAWIKI_PBKDF2,
    "gitea-pbkdf2": _GITEA_PBKDF2,
    "passlib-pbkdf2": _PASSLIB_PBKDF2,
    "phc-pbkdf2": _PHC_PBKDF2,
    "werkzeug-scrypt": _WERKZEUG_SCRYPT,
    "django-scrypt": _DJANGO_SCRYPT,
    "phc-scrypt": _PHC_SCRYPT,
    "phpass": _PHPASS,
    "md5-crypt": _MD5_CRYPT,
    "sha-crypt": _SHA_CRYPT,
    "redmine-sha1": _REDMINE_SHA1,
}
