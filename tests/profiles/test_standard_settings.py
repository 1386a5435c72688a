"""Settings and permissions that the built-in profiles say an app comes with: each is one that the app itself would take."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from fnmatch import fnmatchcase

import pytest

from dbctl.profiles import loader
from dbctl.services.settings.values import SettingTypes, against_schema
from tests.shapes.flashpoint_web import deployed_user_db, document_user_db


@pytest.mark.parametrize("name", loader.names())
def test_a_standard_setting_is_of_its_type_and_meets_its_schema(name):
    for settings in loader.load(name).settings:
        for shape in settings.shape:
            for key, standard in shape.standard.items():
                kind = shape.types[standard.type]
                assert SettingTypes(settings, shape).takes(standard.value, kind), key
                if standard.schema:
                    assert not against_schema(standard.value, json.loads(standard.schema)), key


@pytest.mark.parametrize("shape", [0, 1])
def test_the_profile_of_flashpoint_web_has_what_its_migrations_make(tmp_path, shape):
    path = (deployed_user_db, document_user_db)[shape](tmp_path / "user.db")
    told = next(one for one in loader.load("flashpoint-web").settings if one.scope == "system").shape[shape]
    key = told.key if isinstance(told.key, str) else " || '.' || ".join(told.key)
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(f"select {key}, {told.type}, validation_schema from system_settings")
        assert {one: (kind, schema or "") for one, kind, schema in rows} == {
            one: (standard.type, standard.schema) for one, standard in told.standard.items()
        }
        pairs = connection.execute(
            "select role_id, name from role_permissions r join permissions p on p.id = r.permission_id"
        ).fetchall()
    granted = loader.load("flashpoint-web").roles.built_in.permissions
    for role, permission in pairs:
        assert any(fnmatchcase(permission, item.removesuffix("?")) for item in granted[str(role)])
