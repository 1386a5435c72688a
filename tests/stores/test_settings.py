"""Addresses and settings of object storage, before any request."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbctl.config.storage import PROVIDERS
from dbctl.errors.backup import StorageKeysMissingError, StorageSettingInvalidError
from dbctl.errors.base import Exit
from dbctl.stores.registry import open_store

AZURE = {"AZURE_STORAGE_ACCOUNT_NAME": "name", "AZURE_STORAGE_ACCOUNT_KEY": "c2VjcmV0"}
GOOGLE = {"GOOGLE_BEARER_TOKEN": "secret"}


@pytest.fixture(autouse=True)
def _without_settings(monkeypatch, tmp_path):
    for provider in PROVIDERS.values():
        for name in provider.variables:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def open_address(address, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return open_store(address, "app", folder=Path(), timeout=1)


@pytest.mark.parametrize(
    ("address", "variables"), [("az://container/deep/er", AZURE), ("gs://bucket_with.dots", GOOGLE)]
)
def test_address_is_accepted(monkeypatch, address, variables):
    assert open_address(address, monkeypatch, variables).location == f"{address}/app"


@pytest.mark.parametrize(
    "address",
    [
        *("az://", "az://Container", "az://a--b", "az://a", "az://a.b.c", "az://name@container/x"),
        *("az://key:secret@container", "az://container/../x", "gs://", "gs://UPPER", "gs://a..b"),
        *("gs://127.0.0.1", "gs://bucket/a b", "gs://bucket/\x1b[31m", "gs://user@bucket"),
    ],
)
def test_invalid_address_is_refused(monkeypatch, address):
    with pytest.raises(StorageSettingInvalidError) as caught:
        open_address(address, monkeypatch, AZURE | GOOGLE)
    assert caught.value.exit_status == Exit.USAGE
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "variables", "name"),
    [
        ("az://container", {}, "AZURE_STORAGE_ACCOUNT_NAME"),
        ("az://container", {"AZURE_STORAGE_ACCOUNT_NAME": "name"}, "AZURE_STORAGE_ACCOUNT_KEY"),
        ("gs://bucket", {}, "GOOGLE_APPLICATION_CREDENTIALS"),
        ("gs://bucket", {"GOOGLE_BEARER_TOKEN": ""}, "GOOGLE_APPLICATION_CREDENTIALS"),
    ],
)
def test_missing_keys_are_refused(monkeypatch, address, variables, name):
    with pytest.raises(StorageKeysMissingError, match=name) as caught:
        open_address(address, monkeypatch, variables)
    assert caught.value.exit_status == Exit.USAGE
    assert name in caught.value.hint


def test_user_without_home_directory_has_no_files_of_keys(monkeypatch, without_home):
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    for address in ("s3://bucket", "gs://bucket"):
        with pytest.raises(StorageKeysMissingError):
            open_address(address, monkeypatch, {})
    assert open_address("s3://bucket", monkeypatch, keys).location == "s3://bucket/app"


@pytest.mark.parametrize(
    ("address", "variables"),
    [
        ("az://container", AZURE | {"AZURE_STORAGE_ACCOUNT_KEY": "secret, no base64"}),
        ("az://container", AZURE | {"AZURE_STORAGE_ENDPOINT": "secret"}),
        ("gs://bucket", {"GOOGLE_SERVICE_ACCOUNT_KEY": "{secret"}),
        ("gs://bucket", {"GOOGLE_SERVICE_ACCOUNT": "/nonexistent/secret"}),
        ("gs://bucket", GOOGLE | {"GOOGLE_BASE_URL": "ftp://secret"}),
    ],
)
def test_invalid_setting_is_refused_and_not_printed(monkeypatch, address, variables):
    with pytest.raises(StorageSettingInvalidError) as caught:
        open_address(address, monkeypatch, variables).list_folders()
    assert caught.value.exit_status == Exit.USAGE
    assert "secret" not in f"{caught.value} {caught.value.hint} {caught.value.context}"


def test_key_can_be_read_from_file(monkeypatch, tmp_path):
    (tmp_path / "key").write_text(AZURE["AZURE_STORAGE_ACCOUNT_KEY"] + "\n")
    variables = {
        "AZURE_STORAGE_ACCOUNT_NAME": "name",
        "AZURE_STORAGE_ACCOUNT_KEY_FILE": str(tmp_path / "key"),
    }
    assert open_address("az://container", monkeypatch, variables)


def test_default_file_of_google_is_accepted(monkeypatch, tmp_path):
    file = tmp_path / ".config/gcloud/application_default_credentials.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    assert open_address("gs://bucket", monkeypatch, {})
