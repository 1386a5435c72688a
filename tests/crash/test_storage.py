"""Storage whose every request may fail, or lose its response: nothing is lost or incomplete, and errors are reported."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from dbctl.errors.base import DbctlError
from dbctl.files.atomic import hash_blocks
from dbctl.stores.base import FolderState, folders_in_state
from dbctl.stores.objects import client
from dbctl.stores.registry import open_store
from tests import storage
from tests.fault_proxy import CUT, FaultProxy, Response, error_response

ROUNDS = 300 if os.environ.get("DBCTL_TORTURE") else 8


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    return storage.use_new_bucket(monkeypatch, tmp_path)


def fail_randomly(proxy, rng, share):
    """Let requests or responses fail at random, with the probability ``share[0]``."""

    def fail(_request):
        if rng.random() < share[0]:
            return rng.choice(
                [error_response(403, "AccessDenied"), error_response(500, "InternalError"), CUT]
            )
        return None

    def lose(_request, response):
        if rng.random() < share[0]:
            return rng.choice([CUT, Response(body=response.body, headers=response.headers, sent=3)])
        return response

    proxy.interfere, proxy.change = fail, lose


def back_up_and_remove(address, name, content, to_remove):
    """Create a backup and remove others; return whether everything succeeded."""
    store = open_store(address, "app", folder=Path())
    try:
        with store.lock("backup create", timeout=1):
            with store.create_folder(name) as writer:
                writer.local_path("a").write_bytes(content)
                writer.store("a")
                writer.write_manifest(name)
            for backup_name in to_remove:
                store.remove_folder(backup_name)
    except DbctlError:  # no other exception is expected
        return False
    return True


@pytest.mark.parametrize("seed", [1, 2])
def test_failing_requests_leave_complete_backups_only(bucket, monkeypatch, seed):
    rng, share = random.Random(seed), [0.0]  # noqa: S311 - random faults, not secrets
    monkeypatch.setattr(client, "MAX_ATTEMPTS", 2)
    address, direct_store = f"s3://{bucket.name}", open_store(f"s3://{bucket.name}", "app", folder=Path())
    contents, results = dict[str, bytes](), list[bool]()
    with FaultProxy(storage.port()).running() as proxy:
        fail_randomly(proxy, rng, share)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        for number in range(ROUNDS):
            name, content = f"20260101_{number:06}", rng.randbytes(rng.choice([0, 100, 6 << 20]))
            share[0] = rng.choice([0.02, 0.1, 0.3])
            results.append(
                back_up_and_remove(
                    address, name, content, [backup_name for backup_name in contents if rng.random() < 0.3]
                )
            )
            share[0] = 0.0
            states = direct_store.list_folders()
            assert FolderState.FOREIGN not in states.values()
            contents = {
                backup_name: contents.get(backup_name, content)
                for backup_name in folders_in_state(states, FolderState.COMPLETE)
            }
            for backup_name, expected in contents.items():
                assert hash_blocks(direct_store.read(backup_name, "a")) == hash_blocks([expected])
                assert direct_store.read_manifest(backup_name) == backup_name.encode()
            with direct_store.lock("backup prune", timeout=0):  # a failed command holds no lock
                for incomplete in folders_in_state(states, FolderState.INCOMPLETE):
                    direct_store.remove_folder(incomplete)
    assert set(results) == {True, False}
