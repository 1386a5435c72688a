"""Reports, findings and refusals print no value that depends on a secret column, and print what only counts such values."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import sqlglot
from sqlglot import exp

from dbctl.engines.parsing import lineage
from dbctl.profiles import loader
from tests.databases import empty_database

PROFILES = sorted(Path(loader.__file__).with_name("builtin").glob("*.toml"))

PROFILE = """\
schema = "dbctl.profile/1"
name = "club"
title = "Club"
[databases.main]
engines = ["sqlite", "postgresql", "mysql"]
secret = ["sign-ins.badge"]
[databases.other]
engines = ["sqlite", "postgresql", "mysql"]
[users]
table = "people"
id = { column = "id" }
login = ["login"]
admin = false
fields = { login = "login" }

[[report]]
name = "badges"
title = "Badges"
columns = ["login", "badge", "start", "total", "present", "all", "length"]
parameters = { login = "ida" }
[[report.variant]]
needs = ["people", "sign-ins"]
sql = '''
select p.login, max(s.badge), substr(max(s.badge), 1, 4), count(s.badge), max(s.badge) is not null, count(*), max(length(s.badge))
from people p join QsQ s on s.person = p.id where p.login = :login
group by p.login order by 1 limit :limit offset :offset'''

[[invariant]]
name = "badges of nobody"
guards_deletion = true
[[invariant.variant]]
needs = ["people", "sign-ins"]
sql = 'select s.badge from QsQ s where s.person not in (select id from people)'

[[recount]]
name = "badges"
sql = 'select s.badge, 1, 2 from QsQ s'

[[link]]
name = "badges"
table = "sign-ins"
column = "badge"
to = "other"
targets = ["badges.badge"]
"""
BADGE = "b4dge-of-ida"
TABLES = (
    "create table people (id integer primary key, login varchar(40))",
    "create table QsQ (id integer primary key, person integer, badge varchar(40))",
    "create view QshownQ as select id, badge from QsQ",
    "insert into people values (1, 'ida'), (2, 'bo')",
    f"insert into QsQ values (1, 1, '{BADGE}'), (2, 2, '{BADGE}-2')",
)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_secrets_in_queries_of_the_profile_are_masked(answer, tmp_path, engine):
    quote = "`" if engine == "mysql" else '"'

    def write(text):
        return text.replace("QsQ", f"{quote}sign-ins{quote}").replace("QshownQ", f"{quote}shown-ins{quote}")

    (tmp_path / "club.toml").write_text(write(PROFILE))
    with empty_database(engine, tmp_path / "a") as main, empty_database(engine, tmp_path / "b") as other:
        main.run(*map(write, TABLES))
        other.run("create table badges (badge varchar(40))")
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={main.url}")
        options += ("--url", f"other={other.url}")

        (row,) = answer("stats", "run", "badges", *options)["data"]["items"]
        assert (row["login"], row["badge"], row["start"]) == ("ida", "***", "***")
        assert (row["total"], bool(row["present"]), row["all"], row["length"]) == (1, True, 1, len(BADGE))

        findings = answer("integrity", "cross-check", *options, status=None)["data"]["findings"]
        assert {finding["code"] for finding in findings} >= {"recount", "missing-reference"}
        assert BADGE not in json.dumps(findings)
        assert "***" in json.dumps(findings)

        error = answer("users", "delete", "ida", "--yes", *options, status=6)["error"]
        assert error["code"] == "invariant-violated"
        assert error["message"].endswith("badges of nobody: ***")

        refusal = answer("data", "query", write("select badge from QshownQ"), *options, status=6)["error"]
        assert refusal["code"] == "secret-column"
        assert answer("data", "query", write("select id from QshownQ"), *options)["data"]["total"] == 2


#: Queries of one column, which shows the secret.
READERS = (
    "select row_to_json(s)::text from QsQ s",
    "select (s).badge from QsQ s",
    "select r from (select row_to_json(s.*)::text as r from QsQ s) x",
    "select x from QsQ s, unnest(string_to_array(s.badge, ',')) x",
    "select z.badge from people p, lateral (select badge from QsQ where person = p.id) z",
)


@pytest.mark.parametrize("query", READERS)
def test_rows_and_columns_of_functions_are_masked(answer, tmp_path, query):
    start, end = PROFILE.index("sql = '''"), PROFILE.index("[[invariant]]")
    reports = f"sql = \"select '', ({query} limit 1), 1, 1, 1, 1, 1 limit :limit offset :offset\"\n\n"
    (tmp_path / "club.toml").write_text(
        (PROFILE[:start] + reports + PROFILE[end:]).replace("QsQ", "sign_ins").replace("sign-ins", "sign_ins")
    )
    with empty_database("postgresql", tmp_path / "a") as main:
        main.run(*(text.replace("QsQ", "sign_ins") for text in TABLES if "view" not in text))
        options = ("--profile", str(tmp_path / "club.toml"), "--url", f"main={main.url}")
        (row,) = answer("stats", "run", "badges", *options)["data"]["items"]
    assert row["badge"] == "***"


#: Its columns are those of a function, which may return any value of its argument.
UNKNOWN = {"attachments in the list of a message that have no row"}
DIALECTS = {"sqlite": "sqlite", "postgresql": "postgres", "mysql": "mysql"}


def list_queries(profile):
    """Yield the name, the database and the SQL of each query of a profile."""
    for entry in [item for kind in ("report", "invariant", "recount") for item in profile.get(kind, ())]:
        for variant in entry.get("variant", [entry]):
            if "sql" in variant:
                yield entry["name"], entry.get("database", next(iter(profile["databases"]))), variant["sql"]


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_lineage_of_queries_of_dbctl_is_known(path):
    """Otherwise all their columns would be masked; each table of the query has all columns that it names."""
    profile = tomllib.loads(path.read_text())
    for name, database, sql in list_queries(profile):
        for dialect in {DIALECTS[engine] for engine in profile["databases"][database]["engines"]}:
            query = sqlglot.parse_one(sql.replace('"', "`") if dialect == "mysql" else sql, dialect=dialect)
            columns = {column.name for column in query.find_all(exp.Column)} or {"id"}
            tables = {table.name: columns for table in query.find_all(exp.Table)}
            results = [str(position) for position in range(len(query.selects))]
            sources = lineage.trace_sources({"": sql}, {**tables, "": results}, dialect)[""]
            assert list(sources) == results
            assert name in UNKNOWN or None not in sources.values(), (name, dialect)
