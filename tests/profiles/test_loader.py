"""Profiles are located, loaded and compiled to JSON caches and a schema."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import msgspec
import pytest
from jsonschema import Draft202012Validator

from dbctl.errors.connection import FileMissingError
from dbctl.errors.usage import ProfileInvalidError, ProfileMissingError
from dbctl.files import toml
from dbctl.profiles import loader
from tools import profiles as generate

SECTIONS = [
    (module, kind)
    for module in generate.MODULES
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
]


@pytest.mark.slow
@pytest.mark.needs_extension
def test_generated_files_are_current():
    outdated = [
        path.name
        for path, text in generate.generated_files().items()
        if path.read_text(encoding="utf-8") != text
    ]
    assert outdated == [], "python -m tools.profiles"


@pytest.mark.parametrize("name", loader.names())
def test_built_in_profile_is_equal_from_toml_and_cache(name):
    prepared = loader.load(name)
    assert prepared == loader.read(loader.path_of(name))
    assert prepared.name == name


def test_standard_value_of_each_setting_fits_its_own_schema():
    settings = [
        (name, key, setting)
        for name in loader.names()
        for section in loader.load(name).settings
        for variant in section.variant
        for key, setting in variant.standard.items()
        if setting.schema
    ]
    assert settings
    for name, key, setting in settings:
        problems = Draft202012Validator(json.loads(setting.schema)).iter_errors(setting.value)
        assert [problem.message for problem in problems] == [], (name, key)


def test_built_in_profile_loads_without_toml_parser():
    script = "import sys; from dbctl.profiles import loader; loader.load('flashpoint-web'); print('tomllib' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


@pytest.mark.parametrize("cache", ["", "[]", '{"source_crc32": 1, "profile": {}}', "missing"])
def test_edited_profile_is_used_immediately(tmp_path, monkeypatch, cache):
    folder = tmp_path / "builtin"
    shutil.copytree(loader.BUILTIN, folder)
    path = folder / "flashpoint-web.toml"
    path.write_text(
        path.read_text(encoding="utf-8").replace('title = "Flashpoint Web"', 'title = "Changed"'),
        encoding="utf-8",
    )
    if cache:
        path.with_suffix(".json").write_text(cache, encoding="utf-8")
    if cache == "missing":
        path.with_suffix(".json").unlink()
    monkeypatch.setattr(loader, "BUILTIN", folder)
    assert loader.load("flashpoint-web").title == "Changed"


@pytest.mark.slow
def test_schema_accepts_all_profiles_and_describes_keys():
    schema = json.loads(generate.SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    for name in loader.names():
        values = toml.loads(toml.read_text(loader.path_of(name)))
        assert not list(Draft202012Validator(schema).iter_errors(values))
    assert schema["$defs"]["Users"]["properties"]["admin"]["description"].startswith(
        "the role that at least one active"
    )
    assert [name for name, section in schema["$defs"].items() if not section["description"]] == []
    assert [
        f"{name}.{key}"
        for name, section in schema["$defs"].items()
        for key, described in section["properties"].items()
        if not described["description"]
    ] == []


def test_unknown_profile_error_lists_existing_profiles():
    with pytest.raises(ProfileMissingError) as caught:
        loader.load("nix")
    assert "flashpoint-web" in caught.value.hint
    with pytest.raises(FileMissingError):
        loader.load("./nix.toml")
    with pytest.raises(ProfileMissingError):
        loader.load("../builtin/flashpoint-web")


def test_profile_mistake_has_file_line_and_key(tmp_path):
    path = tmp_path / "p.toml"
    text = loader.path_of("flashpoint-web").read_text(encoding="utf-8")
    path.write_text(text.replace('table = "refresh_tokens"', 'tabel = "refresh_tokens"'), encoding="utf-8")
    with pytest.raises(ProfileInvalidError, match=r"p\.toml, line \d+, users\.signed_in\[0\]\.tab"):
        loader.load(str(path))


@pytest.mark.parametrize(
    "names",
    [
        '{ one = "../x_{time}" }',
        '{ one = "/etc/x_{time}" }',
        '{ one = "below/x_{time}" }',
        '{ one = ".x_{time}" }',
        '{ one = "x" }',
        '{ one = "manifest.json" }',
        '{ one = "" }',
        '{ one = "a\\n_{time}" }',
        '{ one = "a\\u0000_{time}" }',
        '{ one = "same_{time}", two = "same_{time}" }',
        '{ one = "two_{time}.db" }',
        '{ three = "three_{time}" }',
    ],
)
def test_backup_file_names_are_unique_and_without_path(tmp_path, names):
    text = 'schema = "dbctl.profile/1"\nname = "p"\ntitle = "P"\n'
    text += '[databases.one]\nengines = ["sqlite"]\n[databases.two]\nengines = ["sqlite"]\n'
    path = tmp_path / "p.toml"
    path.write_text(f"{text}[backup]\nnames = {names}\n", encoding="utf-8")
    with pytest.raises(ProfileInvalidError, match=r"names"):
        loader.load(str(path))


def test_database_name_is_valid_file_name(tmp_path):
    path = tmp_path / "p.toml"
    text = (
        'schema = "dbctl.profile/1"\nname = "p"\ntitle = "P"\n[databases."../evil"]\nengines = ["sqlite"]\n'
    )
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProfileInvalidError, match="databases"):
        loader.load(str(path))
