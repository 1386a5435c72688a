"""Versions of dbctl, its interpreter, its libraries and drivers, and the client programs of servers."""

from __future__ import annotations

import platform
import re
import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Literal, TypeAlias

from dbctl import __version__
from dbctl.extensions import registry
from dbctl.files import subprocesses
from dbctl.model import Struct

#: Programs that dbctl runs.
PROGRAMS = ("pg_dump", "pg_restore", "psql", "mariadb-dump", "mariadb", "mysqldump", "mysql")

Kind: TypeAlias = Literal["dbctl", "extension", "runtime", "library", "program"]

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)(?:.*extra == ['\"](?P<extra>[\w-]+)['\"])?", re.DOTALL)


class Component(Struct, frozen=True, kw_only=True):
    """One part of an installation."""

    name: str
    kind: Kind
    version: str | None  #: None: it is not installed
    path: str | None = None  #: of a program
    extra: str | None = None  #: the extra of dbctl that installs a library


def list_components() -> list[Component]:
    """Return the components of this installation, with the versions of its programs, which takes longer."""
    return [
        Component(name="dbctl", kind="dbctl", version=__version__),
        *(
            Component(name=other.distribution, kind="extension", version=other.version)
            for other in registry.list_third_party()
        ),
        Component(name=platform.python_implementation(), kind="runtime", version=platform.python_version()),
        Component(
            name=platform.system(), kind="runtime", version=f"{platform.release()} {platform.machine()}"
        ),
        Component(name="SQLite", kind="runtime", version=sqlite3.sqlite_version),
        *_list_libraries(),
        *_list_programs(),
    ]


def _list_libraries() -> Iterator[Component]:
    try:
        requirements = metadata.requires("dbctl") or []
    except metadata.PackageNotFoundError:  # run from a checkout
        requirements = []
    names = dict[str, str | None]()
    for requirement in requirements:
        if (match := _REQUIREMENT.match(requirement)) and match["extra"] != "all":
            names.setdefault(match["name"], match["extra"])
    for name, extra in names.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = None
        if version or extra:  # other libraries are required on other machines or versions of Python
            yield Component(name=name, kind="library", version=version, extra=extra)


def _list_programs() -> list[Component]:
    patterns = [pattern.lstrip("/") for pattern in subprocesses.POSTGRESQL_FOLDERS]
    folders = sorted((folder for pattern in patterns for folder in Path("/").glob(pattern)), reverse=True)
    paths = dict[str, tuple[str, Path]]()
    for name in PROGRAMS:
        candidates = [shutil.which(name), *(shutil.which(name, path=folder) for folder in folders)]
        for path in filter(None, candidates):
            paths.setdefault(str(Path(path).resolve()) + name, (name, Path(path)))
    with ThreadPoolExecutor(8) as threads:
        outputs = threads.map(subprocesses.read_version, [path for _, path in paths.values()])
    components = [
        Component(name=name, kind="program", version=_parse_version(output), path=str(path))
        for (name, path), output in zip(paths.values(), outputs, strict=True)
    ]
    installed = {component.name for component in components}
    missing = [
        Component(name=name, kind="program", version=None) for name in PROGRAMS if name not in installed
    ]
    return components + missing


def _parse_version(output: str) -> str | None:
    """Return the version in the output of ``--version``; the client of MariaDB prints that of the client library first."""
    match = re.search(r"(?:Distrib|from|\(PostgreSQL\)) (\d[\w.+~-]*)", output) or re.search(
        r"(\d+(?:\.\d+)+[\w.+~-]*)", output
    )
    return match[1] if match else None
