"""Standard settings and permissions of the built-in profiles are valid in their apps."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from fnmatch import fnmatchcase

import pytest

from dbctl.profiles import loader
from dbctl.services.settings.values import SettingTypes, find_schema_violation
from tests.shapes.flashpoint_web import deployed_user_db, document_user_db


@pytest.mark.parametrize("name", loader.names())
def test_standard_settings_match_type_and_schema(name):
    for settings in loader.load(name).settings:
        for variant in settings.variant:
            for key, standard in variant.standard.items():
                kind = variant.types[standard.type]
                assert SettingTypes(settings, variant).accepts(standard.value, kind), key
                if standard.schema:
                    assert not find_schema_violation(standard.value, json.loads(standard.schema)), key


@pytest.mark.parametrize("variant", [0, 1])
def test_flashpoint_web_standard_settings_match_migrations(tmp_path, variant):
    path = (deployed_user_db, document_user_db)[variant](tmp_path / "user.db")
    variant = next(name for name in loader.load("flashpoint-web").settings if name.scope == "system").variant[
        variant
    ]
    key = variant.key if isinstance(variant.key, str) else " || '.' || ".join(variant.key)
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(f"select {key}, {variant.type}, validation_schema from system_settings")
        assert {name: (kind, schema or "") for name, kind, schema in rows} == {
            name: (standard.type, standard.schema) for name, standard in variant.standard.items()
        }
        pairs = connection.execute(
            "select role_id, name from role_permissions r join permissions p on p.id = r.permission_id"
        ).fetchall()
    permissions = loader.load("flashpoint-web").roles.built_in.permissions
    for role, permission in pairs:
        assert any(fnmatchcase(permission, item.removesuffix("?")) for item in permissions[str(role)])
