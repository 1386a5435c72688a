"""Password hashes in the libraries of PHP and Node.js: each verifies the hashes of dbctl, and dbctl verifies theirs."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dbctl.model import Secret
from dbctl.profiles import loader
from dbctl.profiles.passwords import hash_password, match_format, read_prefix, verify_password
from tests import external_tools
from tests.servers import skip_or_fail

pytestmark = pytest.mark.slow  # starting PHP and Node.js takes seconds

FOLDER = Path(__file__).parent
PASSWORD, OTHER = " pässword ", " password "
#: Prefixes of hashes by PHP, as applications use them.
PHP_PREFIXES = [
    "$2y$04$",
    "1|$2y$04$",
    "$wp$2y$04$",
    "$5$rounds=1000$",
    "$6$rounds=1000$",
    "$6$",
    "$P$5",
    ":pbkdf2:sha512:9:64:",
]
#: Prefixes that only PHP with Argon2 has; the npm package uses the same library.
ARGON2_PREFIXES = ["$argon2id$v=19$m=64,t=1,p=1$", "3|$argon2id$v=19$m=64,t=1,p=1$"]
#: By npm package, the prefix of the hashes.
NODE_PREFIXES = {
    "bcryptjs": "$2b$04$",
    "bcryptjs-2": "$2a$04$",
    "bcrypt": "$2b$04$",
    "argon2": "$argon2id$v=19$m=64,t=1,p=1$",
}
#: By profile, the npm package that the application uses with its default cost.
PACKAGES = {
    "directus": "argon2",
    "ghost": "bcryptjs",
    "immich": "bcrypt",
    "n8n": "bcryptjs-2",
    "umami": "bcryptjs",
    "uptime-kuma": "bcryptjs-2",
}
CREATED = {
    prefix: hash_password(Secret(PASSWORD), prefix)
    for prefix in {*PHP_PREFIXES, *ARGON2_PREFIXES, *NODE_PREFIXES.values()}
}
INPUT = json.dumps({"password": PASSWORD, "other": OTHER, "created": CREATED})


@pytest.fixture(scope="module")
def php() -> dict[str, Any]:
    """The results of one process of PHP."""
    program = external_tools.php()
    if program is None:
        skip_or_fail("no php, and npm cannot install it")
    encoded = base64.b64encode(INPUT.encode()).decode()
    script = f"<?php $input = json_decode(base64_decode('{encoded}'), true);\n"
    return run_script(program, script + (FOLDER / "hashes.php").read_text())


@pytest.fixture(scope="module")
def node() -> dict[str, Any]:
    """The results of one process of Node.js."""
    folder = external_tools.node_hashers()
    if folder is None:
        skip_or_fail("npm cannot install the packages for password hashes")
    program = external_tools.Script(["node", "-e", (FOLDER / "hashes.js").read_text()], folder)
    return run_script(program, INPUT)


def run_script(program: external_tools.Script, text: str) -> dict[str, Any]:
    output = subprocess.run(
        program.command, cwd=program.folder, input=text, check=True, capture_output=True, text=True
    ).stdout
    results: dict[str, Any] = json.loads(output)
    return results


def assert_agreement(result: dict[str, Any], prefix: str) -> None:
    """Assert that a library and dbctl accept the hashes of each other, and only with the password."""
    assert (result["accepts"], result["accepts_other"]) == (True, False)
    assert match_format(read_prefix(result["hash"]), is_prefix=True) == match_format(prefix, is_prefix=True)
    assert verify_password(Secret(PASSWORD), result["hash"], [match_format(prefix, is_prefix=True)[0]])
    assert not verify_password(Secret(OTHER), result["hash"], [match_format(prefix, is_prefix=True)[0]])


@pytest.mark.parametrize("prefix", PHP_PREFIXES)
def test_php_and_dbctl_verify_hashes_of_each_other(php: dict[str, Any], prefix: str) -> None:
    assert_agreement(php["formats"][prefix], prefix)


@pytest.mark.parametrize("prefix", ARGON2_PREFIXES)
def test_argon2_of_php_and_dbctl_verify_hashes_of_each_other(
    php: dict[str, Any], node: dict[str, Any], prefix: str
) -> None:
    leading, _, standard = prefix.rpartition("|")
    result = php["formats"].get(prefix) or node["formats"]["argon2"]  # WebAssembly has no Argon2
    if prefix not in php["formats"]:
        result = {**result, "hash": f"{leading}|{result['hash']}" if leading else result["hash"]}
        assert CREATED[prefix].removeprefix(f"{leading}|").startswith(standard)
    assert_agreement(result, prefix)


def test_prefix_of_profile_is_that_of_php(php: dict[str, Any]) -> None:
    assert {name: find_written_prefix(name) for name in php["prefixes"]} == php["prefixes"]


@pytest.mark.parametrize("package", NODE_PREFIXES)
def test_node_and_dbctl_verify_hashes_of_each_other(node: dict[str, Any], package: str) -> None:
    assert_agreement(node["formats"][package], NODE_PREFIXES[package])


def test_prefix_of_profile_is_that_of_package_with_default_cost(node: dict[str, Any]) -> None:
    for name, package in PACKAGES.items():
        assert match_format(node["prefixes"][package], is_prefix=True) == match_format(
            find_written_prefix(name), is_prefix=True
        ), name


def find_written_prefix(name: str) -> str:
    users = loader.load(name).users
    assert users is not None
    assert users.password is not None
    return users.password.writes
