"""Deployments whose migrations have run."""

import pytest

from tests.services.migrations import deployments


@pytest.fixture(params=deployments.ENGINES)
def desk(request, tmp_path):
    with deployments.create_desk(request.param, tmp_path / "desk") as created:
        created.write(deployments.INITIAL_FILES)
        created.up()
        yield created


@pytest.fixture
def file(tmp_path):
    with deployments.create_desk("sqlite", tmp_path / "file") as created:
        created.write(deployments.INITIAL_FILES)
        created.up()
        yield created
