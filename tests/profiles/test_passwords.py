"""Password hashes: those of real applications, those of dbctl in the libraries of applications, and malformed ones."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from typing import get_args

import pytest
from django.contrib.auth import hashers
from hypothesis import given
from hypothesis import strategies as st
from werkzeug import security

from dbctl.errors.usage import ValueInvalidError
from dbctl.errors.users import HashExpensiveError
from dbctl.model import Secret
from dbctl.profiles import codecs, passwords
from dbctl.profiles.password_formats import PASSWORD_FORMATS
from dbctl.profiles.password_hash import MAX_MEMORY, MAX_SECONDS
from dbctl.profiles.passwords import (
    estimate_cost,
    find_hash_problem,
    find_prefix_problem,
    hash_password,
    identify_format,
    match_format,
    read_prefix,
    verify_password,
)
from tests.profiles.apps.hashes import configure_django

#: Hashes that the applications themselves created.
REAL = [
    # Ghost, Immich, n8n; then Miniflux (Go), Laravel (PHP), Synapse (with its pepper after the password)
    ("bcrypt", "correct horse 42", "$2b$10$gRTtShqfka1qJ.Lzj4Jqsuo4oA4X67g.agULC4Q2oa3JkokAdxM46"),
    ("bcrypt", "correct horse 42", "$2a$10$AaQP3WyqEcKhJlxKykAO..OjRL5.JnCW3ndVZsZAhUaszlleqtEnG"),
    ("bcrypt", "admin-pw-1", "$2y$10$aESyR.T6y4taG/cGy3CagudItZ3u32KXHYK4hQtTOZBJ4tmk2It0y"),
    ("bcrypt", "admin-pw-1fixture-pepper", "$2b$06$Fw8hitM/P/CBm/4I65fzGuSrN9Ju1dG46.75oQFk4BKh9edP6DYz6"),
    # passlib
    ("passlib-pbkdf2", "correct horse 42", "$pbkdf2$9$4hwDQCil1Nrbm3NuzZlTyg$kchMEXYIvIy7ltB0lFN.2Znqa30"),
    (
        "passlib-pbkdf2",
        "correct horse 42",
        "$pbkdf2-sha256$9$TUkJgdCa0xrDuLcWAsCY8w$O9z.W8cv6/dcUg.YuRMwuO/9Q4vxuRdYeTP/xad575s",
    ),
    (
        "passlib-pbkdf2",
        "correct horse 42",
        "$pbkdf2-sha512$25000$C.F8D.GcM8aYM0YIgRDC2A$EIcNv9SSrIOEWpzFR/Fpv7d0U/2NqUljvhbXnFywE59gTOk.mDvy9Odckqq0q7zffjYxuDipZAp6wtYTWQzt7g",
    ),
    (
        "phc-scrypt",
        "correct horse 42",
        "$scrypt$ln=4,r=8,p=1$YQxBCCHEGAOAUCqlNMb4fw$9VG8JC7hBM0rK5RDp6QlNt+UGENQv4OOVU3bAABhhQ0",
    ),
    ("md5-crypt", "correct horse 42", "$1$QTnGUd5T$9w6ikVZzbiwulsXx1B8vP0"),
    ("md5-crypt", "correct horse 42", "$apr1$EvjLkg/V$azDX8XlFwZepqdGBAuUg7."),
    (
        "phc-pbkdf2",
        "correct horse 42",
        "$pbkdf2$f=SHA256,w=600000,l=32$MDEyMzQ1Njc4OWFiY2RlZg$nrJ/iinhk4QMsVPadAoDzsVm/IgM/GA8JUp+lUsDcok",
    ),
    (
        "phc-pbkdf2",
        "correct horse 42",
        "$pbkdf2-sha512$i=1000,l=64$MDEyMzQ1Njc4OWFiY2RlZg$J309K6oDv5NWXXNPSueJr5quUOHxQbNLzZruakc8bZhpWcFrawQuAJRfcORTRcrs72coK3y14ZLNnIfBXqlDJw",
    ),
    (
        "argon2",  # Directus
        "correct horse 42",
        "$argon2id$v=19$m=65536,t=3,p=4$iKHP/5j1Su+mFZGgITGN6w$K19aeLVDDylk0o4aexo3zOcyVhzSLLnJcW5f72Gn0x0",
    ),
    (
        "nextcloud-argon2",
        "correct horse 42",
        "3|$argon2id$v=19$m=65536,t=4,p=1$RFNPLkIzQUV2Ulg5UXh2dw$bIh80TbXaIyKSLBI883SkaxteBTpPEx0Exe6wnYz0+A",
    ),
    (
        "django-pbkdf2",
        "admin-pw-1",
        "pbkdf2_sha256$1000000$vy1Oa8eAImT8drKbq26jUP$OEB76mwQ8RGicn0y6ryknO00WFtWo13qXQ4LwnG7RKU=",
    ),
    (
        "mediawiki-pbkdf2",
        "admin-pw-12345",
        (
            ":pbkdf2:sha512:30000:64:721M71QYXrEBZFhfM6wqVQ==:"
            "fyh3FPeY1dCFLnqusa4qvg4TZPGNEwqlkNQNK3iD5DomiPoMvTYbsUivLbNGgOh8G6+klEEtDV+kRsKxABdn6w=="
        ),
    ),
    (
        "werkzeug-scrypt",  # Superset
        "admin-pw-1",
        (
            "scrypt:32768:8:1$XDnveXAUQoMAmDq2$39cf1fc11a88dc657f9b06d792f82aac7fb4f4f18517b464532af443b5fdc600"
            "df75428fa84d2d263d759d9cfcc6e9ac2b1ea89e2409fbfc50587f0c96db84c2"
        ),
    ),
    ("phpass", "correct horse 42", "$P$BGHR2eF0FJayiZ7exgYlpQHY6Tezsu0"),  # WordPress
    ("phpass", "correct horse 42", "$H$BGHR2eF0FJayiZ7exgYlpQHY6Tezsu0"),
    (
        "redmine-sha1",
        "admin-pw-1",
        "4571430df544de5d10033f0788162d26$bf0c63f9ca0cf510ce2d66482a43d19f3869bb08",
    ),
]
#: A prefix of each format that dbctl writes, with the lowest cost.
PREFIXES = [
    "$2a$04$",
    "$2b$04$",
    "$2y$04$",
    "$wp$2y$04$",
    "bcrypt_sha256$$2b$04$",
    "1|$2y$04$",
    "$argon2id$v=19$m=64,t=1,p=2$",
    "$argon2i$v=19$m=64,p=1,t=1$",
    "argon2$argon2id$v=19$m=64,t=1,p=1$",
    "3|$argon2id$v=19$m=64,t=1,p=1$",
    "pbkdf2_sha256$9$",
    "pbkdf2_sha1$9$",
    "pbkdf2:sha256:9$",
    "pbkdf2:sha512:9$",
    ":pbkdf2:sha512:9:64:",
    ":pbkdf2:sha256:9:70:",
    "pbkdf2$9$50$",
    "$pbkdf2$9$",
    "$pbkdf2-sha512$9$",
    "$pbkdf2-sha256$i=9,l=32$",
    "$pbkdf2$f=SHA512,w=9,l=70$",
    "$scrypt$ln=4,r=8,p=1$",
    "$1$",
    "$apr1$",
    "scrypt:16:8:1$",
    "scrypt$16$",
    "$P$5",
    "$H$6",
    "$5$rounds=1000$",
    "$6$rounds=1001$",
    "redmine-sha1",
]
ALL_FORMATS = get_args(codecs.HashFormat)
#: Text around the parts of hashes, for malformed ones.
PIECES = st.sampled_from(
    [
        *PREFIXES,
        *(stored for _, _, stored in REAL),
        "$",
        ":",
        ",",
        "=",
        "m=4294967295",
        "2147483648",
        "$2b$31$",
        "rounds=999999999$",
        "a" * 53,
        "é",
        "\x00",
        "�",
        "!",
        "0",
    ]
) | st.text(max_size=20)


@pytest.fixture(scope="module", autouse=True)
def _django_settings():
    configure_django()


def matches(password: str, stored: str) -> bool:
    return verify_password(Secret(password), stored, ALL_FORMATS)


def test_each_name_has_an_implementation():
    assert tuple(PASSWORD_FORMATS) == ALL_FORMATS
    assert {match_format(prefix, is_prefix=True)[0] for prefix in PREFIXES} == {*ALL_FORMATS}


@pytest.mark.parametrize(("name", "password", "stored"), REAL)
def test_hash_of_application_is_verified(name, password, stored):
    assert identify_format(stored) == name
    assert find_hash_problem(stored, [name]) == ""
    assert matches(password, stored)
    assert not matches(password + "x", stored)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_created_hash_matches_only_its_password(prefix):
    assert find_prefix_problem(prefix) == ""
    stored, other = (hash_password(Secret("pässword"), prefix) for _ in range(2))
    assert stored.startswith(
        prefix if PASSWORD_FORMATS[match_format(prefix, is_prefix=True)[0]].prefix else ""
    )
    assert stored != other
    assert read_prefix(stored) == prefix
    assert identify_format(stored) == match_format(prefix, is_prefix=True)[0]
    assert matches("pässword", stored)
    assert not matches("passw\xf6rd", stored)


def test_only_accepted_formats_are_verified():
    stored = hash_password(Secret("x"), "pbkdf2_sha256$9$")
    assert not verify_password(Secret("x"), stored, ["bcrypt"])
    assert find_hash_problem(stored, ["bcrypt", "phpass"]) == "it is not a bcrypt or phpass hash"


# Libraries of applications ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix",
    [
        "pbkdf2_sha256$9$",
        "pbkdf2_sha1$9$",
        "argon2$argon2id$v=19$m=64,t=1,p=1$",
        "bcrypt_sha256$$2b$04$",
        "scrypt$16$",
    ],
)
def test_django_verifies_created_hashes(prefix):
    stored = hash_password(Secret("pässword"), prefix)
    assert hashers.check_password("pässword", stored)
    assert not hashers.check_password("password", stored)


@pytest.mark.parametrize(
    ("hasher", "cost", "low", "text"),
    [
        (hashers.PBKDF2PasswordHasher, "iterations", 9, "${}$"),
        (hashers.PBKDF2SHA1PasswordHasher, "iterations", 9, "${}$"),
        (hashers.Argon2PasswordHasher, "memory_cost", 64, "m={},"),
        (hashers.BCryptSHA256PasswordHasher, "rounds", 4, "${:02}$"),
        (hashers.ScryptPasswordHasher, "work_factor", 16, "${}$"),
    ],
)
def test_hashes_of_django_are_verified(monkeypatch, hasher, cost, low, text):
    default = getattr(hasher, cost)
    monkeypatch.setattr(hasher, cost, low)
    stored = hashers.make_password("pässword", hasher=hasher.algorithm)
    assert matches("pässword", stored)
    assert not matches("password", stored)
    usual = stored.replace(text.format(low), text.format(default), 1)
    assert estimate_cost(stored).seconds < estimate_cost(usual).seconds <= MAX_SECONDS / 2


@pytest.mark.parametrize(
    "method", ["scrypt", "scrypt:16:4:2", "pbkdf2", "pbkdf2:sha1:9", "pbkdf2:sha256:9", "pbkdf2:sha512:9"]
)
def test_werkzeug_and_dbctl_verify_hashes_of_each_other(monkeypatch, method):
    default = security.DEFAULT_PBKDF2_ITERATIONS
    assert estimate_cost(f"pbkdf2:sha256:{default}$salt${'a' * 64}").is_accepted
    monkeypatch.setattr(security, "DEFAULT_PBKDF2_ITERATIONS", 9)
    stored = security.generate_password_hash("pässword", method)
    assert matches("pässword", stored)
    assert not matches("password", stored)
    prefix = stored[: stored.index("$") + 1]
    created = hash_password(Secret("pässword"), prefix)
    assert security.check_password_hash(created, "pässword")
    assert not security.check_password_hash(created, "password")


@pytest.mark.skipif(not shutil.which("perl"), reason="no perl")
@pytest.mark.parametrize("length", [0, 1, 15, 16, 32, 33, 64, 65, 130])
@pytest.mark.parametrize("prefix", ["$5$", "$6$", "$5$rounds=1000$", "$6$rounds=1777$"])
def test_crypt_of_the_system_returns_the_same_hashes(prefix, length):
    stored = hash_password(Secret("é" * length), prefix)
    assert run_program("perl", "-e", "print crypt($ARGV[0], $ARGV[1])", "é" * length, stored) == stored


def test_gitea_hash_is_pbkdf2_of_the_decoded_salt():
    stored = hash_password(Secret("pässword"), "pbkdf2$9$50$")
    *_, salt, digest = stored.split("$")
    assert digest == hashlib.pbkdf2_hmac("sha256", "pässword".encode(), bytes.fromhex(salt), 9, 50).hex()
    old = hashlib.pbkdf2_hmac("sha256", b"x", b"ZogKvWdyEx", 9, 50).hex()
    assert matches("x", f"pbkdf2$9$50$ZogKvWdyEx${old}")


def run_program(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


# Refused passwords, prefixes and hashes ----------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "is_accepted"), [(72, True), (73, False)])
@pytest.mark.parametrize("prefix", ["$2b$04$", "1|$2y$04$"])
def test_password_over_72_bytes_is_refused(prefix, length, is_accepted):
    secret = Secret("é" + "x" * (length - 2))
    if is_accepted:
        assert matches(secret.reveal() + "ignored", hash_password(secret, prefix))
    else:
        with pytest.raises(ValueInvalidError, match="72 bytes"):
            hash_password(secret, prefix)


@pytest.mark.parametrize("prefix", ["$wp$2y$04$", "bcrypt_sha256$$2b$04$", "pbkdf2_sha256$9$"])
def test_all_bytes_of_long_passwords_count_in_other_formats(prefix):
    stored = hash_password(Secret("x" * 100), prefix)
    assert matches("x" * 100, stored)
    assert not matches("x" * 99 + "y", stored)


def test_password_with_nul_character_is_refused():
    with pytest.raises(ValueInvalidError, match="NUL") as caught:
        hash_password(Secret("hunter2\0x"), "$2b$04$")
    assert "hunter2" not in str(caught.value)


def test_very_long_password_is_refused_and_matches_nothing():
    with pytest.raises(ValueInvalidError, match="4096"):
        hash_password(Secret("x" * 4097), "$6$")
    assert not matches("x" * 4097, hash_password(Secret("x" * 4096), "$6$"))


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "$2b$10",
        "$2b$10$x",
        "2b$10$",
        "bcrypt",
        "$2b$03$",
        "$argon2id$",
        "scrypt:15:8:1$",
        "pbkdf2_md5$9$",
        "$argon2id$v=19$m=8,t=1,p=2$",
        "$6$rounds=10$",
        "4571430df544de5d10033f0788162d26$",
    ],
)
def test_prefix_that_is_unknown_or_incomplete_is_refused(prefix):
    assert find_prefix_problem(prefix)


EXPENSIVE = [
    "$2b$31$" + "a" * 53,
    "$wp$2y$31$" + "a" * 53,
    "$argon2id$v=19$m=4194304,t=1,p=1$YWFhYWFhYWFhYWE$YWFhYWFhYWFhYWFhYWFhYQ",
    "$argon2id$v=19$m=65536,t=2147483647,p=1$YWFhYWFhYWFhYWE$YWFhYWFhYWFhYWFhYWFhYQ",
    "pbkdf2_sha256$2147483648$salt$" + "a" * 43 + "=",
    "pbkdf2:sha256:2147483648$salt$" + "a" * 64,
    ":pbkdf2:sha512:2147483648:64:YWFhYQ==:" + "a" * 86 + "==",
    "pbkdf2$10000000$200$" + "a" * 32 + "$" + "a" * 400,
    "scrypt:8388608:8:1$salt$" + "a" * 128,
    "scrypt:32768:8:999$salt$" + "a" * 128,
    "scrypt$8388608$salt$8$5$" + "a" * 86 + "==",
    "$P$S" + "a" * 30,
    "$6$rounds=999999999$salt$" + "a" * 86,
]


@pytest.mark.parametrize("stored", EXPENSIVE)
def test_expensive_hash_is_refused_and_not_computed(stored):
    name = identify_format(stored)
    assert name
    assert find_hash_problem(stored, [name]) == "its cost is too high"
    with pytest.raises(HashExpensiveError):
        matches("x", stored)


@pytest.mark.parametrize(
    "prefix", ["$2b$31$", "$argon2id$v=19$m=4194304,t=1,p=1$", "pbkdf2_sha256$2147483648$", "$P$S"]
)
def test_expensive_prefix_is_refused(prefix):
    assert find_prefix_problem(prefix) == "its cost is too high"


@pytest.mark.parametrize(
    "stored",
    [
        *("", "plain", "!", "$2b$04$short", "$2b$99$" + "a" * 53, "$argon2id$v=19$x", "\udcff"),
        *("pbkdf2_sha1$9$salt$" + "a" * 43 + "=", "pbkdf2:sha1:9$salt$" + "a" * 64, "$5$salt$" + "a" * 86),
        *(":pbkdf2:sha256:9:64:YWFhYQ==:YWFhYQ==", "pbkdf2$9$50$" + "a" * 32 + "$aa", "x" * 2000),
        "$argon2id$v=19$m=8,t=1,p=1$" + "a" * 21 + "$" + "a" * 22,
    ],
)
def test_malformed_hash_has_no_format_and_matches_nothing(stored):
    assert identify_format(stored) is None
    assert not matches("x", stored)


def test_valid_pattern_with_invalid_encoding_matches_nothing():
    assert not matches("x", ":pbkdf2:sha256:9:32:aaaaa:" + "a" * 43 + "=")
    assert not matches("x", "pbkdf2_sha256$9$\udcff$" + "a" * 43 + "=")


@given(st.lists(PIECES, max_size=6).map("".join), st.text(max_size=5))
def test_any_text_is_refused_or_has_bounded_cost(stored, password):
    name = identify_format(stored)
    cost = estimate_cost(stored)
    assert find_prefix_problem(stored) is not None
    if name is None:
        assert not matches(password, stored)
    elif cost.is_accepted:
        assert cost.seconds <= MAX_SECONDS
        assert cost.memory <= MAX_MEMORY
        if cost.seconds < 1e-3:
            assert matches(password, stored) in (False, True)
    else:
        with pytest.raises(HashExpensiveError):
            matches(password, stored)


def test_generated_password_has_no_ambiguous_characters():
    password = passwords.new_password().reveal()
    assert len(password) == 20
    assert not set(password) & set("0O1lIio")
    assert password != passwords.new_password().reveal()


@pytest.mark.parametrize(
    "prefix", ["scrypt:65536:1:1$", ":pbkdf2:sha512:9:1:", ":pbkdf2:sha512:9:999:", "pbkdf2$9$600$"]
)
def test_prefix_of_hashes_that_cannot_be_computed_or_verified_is_refused(prefix):
    assert find_prefix_problem(prefix)


@pytest.mark.parametrize(
    "prefix", ["scrypt:32768:1:1$", ":pbkdf2:sha512:9:10:", ":pbkdf2:sha512:9:299:", "pbkdf2$9$299$"]
)
def test_hash_of_an_extreme_prefix_is_verified(prefix):
    stored, formats = (
        hash_password(Secret("a long passphrase"), prefix),
        [match_format(prefix, is_prefix=True)[0]],
    )
    assert verify_password(Secret("a long passphrase"), stored, formats)
