"""The packages that dbctl installs: their licences, the extras, and known vulnerabilities."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests import servers
from tests.fault_proxy import Response
from tests.receivers import receive_http
from tools import audit

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: Words of the licences under which dbctl may be distributed with its dependencies: permissive ones, and those of libraries and single files.
ALLOWED = re.compile(
    r"\b(MIT(-0|-CMU)?|Apache|BSD|0BSD|ISC|PSF|Python Software Foundation|MPL|Mozilla|LGPL|Lesser|Zlib|CC0|CNRI|Unlicense|Public Domain)\b",
    re.IGNORECASE,
)
#: Packages of which some versions name no licence in their metadata, with the one in their file LICENSE.
UNNAMED = {"pyrage": "MIT"}


def read_licence(package: metadata.Distribution) -> str:
    """Return the licence of a package: its expression, its classifiers, otherwise the first line of the field."""
    fields = package.metadata
    classifiers = [text for text in fields.get_all("Classifier", []) if text.startswith("License ::")]
    lines = (fields.get("License") or "").splitlines()
    return fields.get("License-Expression") or "; ".join(classifiers) or "".join(lines[:1])


def test_licences_of_all_dependencies_are_permissive():
    licences = {package.name: read_licence(package) for package in audit.list_packages()}
    assert {"msgspec", "psycopg", "lancedb"} < licences.keys()
    assert {name for name, text in licences.items() if not text} <= UNNAMED.keys()
    # each part of "A AND B", as each classifier, is a condition
    parts = {name: re.split(r" AND |; ", text) for name, text in (licences | UNNAMED).items()}
    assert {name: text for name, text in parts.items() if not all(map(ALLOWED.search, text))} == {}


def test_all_is_every_extra_without_lancedb():
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    assert Requirement(everything).extras == extras.keys() - {"all", "lancedb"}
    for name in ("Dockerfile", "tools/build_deb.sh", "tools/check_image.sh"):
        assert "[all]" in (ROOT / name).read_text(encoding="utf-8")


def test_upper_bounds_have_a_reason():
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.urls]")[0].splitlines()
    bounded = [
        number
        for number, line in enumerate(lines)
        if re.search(r'^ +"[^"]*<', line) and "python_version" not in line
    ]
    assert bounded
    assert all(lines[number - 1].lstrip().startswith("#") for number in bounded)


@pytest.mark.parametrize(
    ("engine", "age"),
    [
        ("postgresql", "import psycopg; del psycopg.errors._WaitTimeout"),
        ("mysql", "import pymysql; pymysql.VERSION = (1, 2, 0, 'final')"),
    ],
)
def test_older_driver_is_refused(engine, age):
    words = ["schema", "show", "--url", f"main={engine}://localhost/none", "-o", "json"]
    code = f"{age}; from dbctl.cli.main import main; main({words})"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    error = json.loads(process.stdout)["error"]
    assert error["code"] == "driver-missing"
    assert f"pip install 'dbctl[{engine}]'" in error["hint"]


# Known vulnerabilities -------------------------------------------------------------------------------------------


def run_audit(url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.audit", url]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_known_vulnerability_fails_the_audit():
    names = sorted(package.name for package in audit.list_packages())
    results = [{"vulns": [{"id": "PYSEC-2026-1"}]} if name == "msgspec" else {} for name in names]
    with receive_http() as index:
        index.interfere = lambda _request: Response(body=json.dumps({"results": results}).encode())
        process = run_audit(f"{index.url}/v1/querybatch")
        (request,) = index.requests
    queries = json.loads(request.body)["queries"]
    assert [query["package"]["name"] for query in queries] == names
    assert process.returncode == 1
    assert process.stdout == f"msgspec {metadata.version('msgspec')}: PYSEC-2026-1\n"


def test_audit_states_that_the_index_does_not_answer():
    process = run_audit(f"http://127.0.0.1:{servers.free_port()}/v1/querybatch")
    assert process.returncode == 0
    assert process.stdout.startswith("not checked for vulnerabilities: ")


def test_only_lancedb_imports_numpy_and_no_package_imports_pip():
    code = """
import sys
import apprise, mcp.server, obstore.store, prometheus_client, psycopg, pymysql, pyrage
from dbctl.sqlite_library import Database
print({"numpy", "pip", "pyarrow", "setuptools"} & {name.partition(".")[0] for name in sys.modules})
"""
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "set()\n"
