"""Incremental backups: members as differences from a base, on each engine, and everything that reads or deletes them."""

from __future__ import annotations

import pytest

from tests.services import larder_app

#: Rows that make a change small.
ROWS = 3000


@pytest.fixture(
    params=["sqlite", *(pytest.param(engine, marks=pytest.mark.slow) for engine in ("postgresql", "mysql"))]
)
def pantry(request, tmp_path, monkeypatch):
    with larder_app.open_pantry(request.param, tmp_path / "app") as app:
        app.run("create table much (id int primary key, text varchar(200))")
        values = ", ".join(f"({number}, '{number * 7919:0150}')" for number in range(ROWS))
        app.run(f"insert into much values {values}")
        make_incremental(app.folder, monkeypatch)
        yield app


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Provide the app on SQLite."""
    with larder_app.open_pantry("sqlite", tmp_path / "app") as app:
        app.run("create table much (id int primary key, text varchar(200))")
        values = ", ".join(f"({number}, '{number * 7919:0150}')" for number in range(ROWS))
        app.run(f"insert into much values {values}")
        make_incremental(app.folder, monkeypatch)
        yield app


def make_incremental(folder, monkeypatch, *lines):
    configure(folder, "incremental = true", *lines)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DBCTL_STATE", str(folder / "state"))


def configure(folder, *lines):
    with (folder / "dbctl.toml").open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def change(app, number=1):
    app.run(f"update much set text = 'changed {number}' where id = {number}")


def create(answer, *options, status=0):
    return answer("backup", "create", *options, status=status)["data"]


def read_delta(backup):
    return backup["members"][0]["delta"]


def test_small_change_is_stored_as_difference_and_restored(answer, pantry):
    base = create(answer)
    assert read_delta(base) is None
    contents = {base["id"]: pantry.content()}
    for number in (1, 2):
        change(pantry, number)
        backup = create(answer)
        contents[backup["id"]] = pantry.content()
        assert read_delta(backup)["backup"] == base["id"]
        assert read_delta(backup)["applied"]
        assert backup["bytes"] < base["bytes"] / 4
    answer("backup", "verify", "--deep")
    answer("backup", "drill", backup["id"])
    for name, content in contents.items():
        answer("restore", "apply", name, "--yes")
        assert pantry.content() == content


@pytest.mark.parametrize("compress", ["none", "gzip"])
@pytest.mark.slow
def test_plain_dump_is_stored_as_difference_and_restored(answer, tmp_path, monkeypatch, compress):
    with larder_app.open_pantry("postgresql", tmp_path / "app") as app:
        app.run("create table much (id int primary key, text varchar(200))")
        values = ", ".join(f"({number}, '{number * 7919:0150}')" for number in range(ROWS))
        app.run(f"insert into much values {values}")
        make_incremental(app.folder, monkeypatch, 'format = "plain"', f'compress = "{compress}"')
        base = create(answer)
        change(app)
        content, backup = app.content(), create(answer)
        assert ".sql" in base["members"][0]["file"]
        assert ".sql.delta" in backup["members"][0]["file"]
        assert (read_delta(backup)["backup"], read_delta(backup)["applied"]) == (base["id"], True)
        assert backup["bytes"] < base["bytes"] / 4
        change(app, 2)
        answer("backup", "verify", "--deep")
        answer("backup", "drill", backup["id"])
        answer("restore", "apply", backup["id"], "--yes")
        assert app.content() == content


def test_backup_with_a_damaged_base_is_full(answer, small):
    base = create(answer)
    (path,) = (small.folder / "backups").rglob("*.gz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    change(small)
    result = answer("backup", "create")
    assert read_delta(result["data"]) is None
    assert any(f"difference from {base['id']} cannot be used" in warning for warning in result["warnings"])
    answer("backup", "verify", "--deep", result["data"]["id"])


def test_growth_compares_backups_of_the_same_kind(answer, small):
    create(answer)
    change(small)
    create(answer)
    assert read_growth(answer) is None
    change(small, 2)
    create(answer)
    assert abs(read_growth(answer)) < 1000


def read_growth(answer):
    (database,) = answer("backup", "status")["data"]["databases"]
    return database["growth_bytes"]


def test_doctor_names_the_missing_program_and_the_missing_directory(answer, small, monkeypatch, tmp_path):
    assert "increments-unavailable" not in list_codes(answer)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "increments-unavailable" in list_codes(answer)
    assert read_delta(create(answer)) is None
    monkeypatch.undo()
    monkeypatch.chdir(small.folder)
    monkeypatch.setenv("DBCTL_STATE", "off")
    assert "increments-unavailable" in list_codes(answer)


def list_codes(answer):
    return [finding["code"] for finding in answer("doctor", status=None)["data"]["findings"]]
