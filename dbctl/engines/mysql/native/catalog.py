"""Queries about the tables, accounts and counters of a database that a copy contains."""

from __future__ import annotations

from dbctl.engines.contract.database import WRITE_LOCK

#: Columns whose values are stored. The times of versions are generated, but belong to the history.
COLUMNS = """select table_name as "table", column_name as name, column_type as type, coalesce(character_set_name, '') as charset,
  coalesce(generation_expression, '') in ('ROW START', 'ROW END') as is_version
from information_schema.columns where table_schema = database()
  and (coalesce(generation_expression, '') in ('', 'ROW START', 'ROW END') or lower(extra) like '%default_generated%')
order by table_name, ordinal_position"""
KEYS = """select table_name, column_name from information_schema.key_column_usage
where table_schema = database() and constraint_name = 'PRIMARY' order by table_name, ordinal_position"""
TABLES = """select table_name as name, table_type as type, coalesce(engine, '') as engine from information_schema.tables
where table_schema = database() and table_type in ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE') order by 1"""
#: Without those that make tables refuse writes.
TRIGGERS = f"""select trigger_name from information_schema.triggers where trigger_schema = database()
  and left(trigger_name, {len(WRITE_LOCK)}) <> '{WRITE_LOCK}'
order by event_object_table, action_timing, event_manipulation, action_order"""
#: Packages of MariaDB come before their bodies.
ROUTINES = """select lower(routine_type), routine_name from information_schema.routines where routine_schema = database()
order by routine_type, routine_name"""
VIEWS = "select table_name from information_schema.views where table_schema = database() order by 1"
EVENTS = "select event_name, status = 'ENABLED' from information_schema.events where event_schema = database() order by 1"
LIBRARIES = (
    "select library_name from information_schema.libraries where library_schema = database() order by 1"
)
SEQUENCES = """select table_name from information_schema.tables
where table_schema = database() and table_type = 'SEQUENCE' order by 1"""
COUNTERS = """select table_name, auto_increment from information_schema.tables
where table_schema = database() and auto_increment is not null and table_name <> :state"""
DEFINERS = f"""select distinct definer from (
  select definer from information_schema.triggers where trigger_schema = database()
    and left(trigger_name, {len(WRITE_LOCK)}) <> '{WRITE_LOCK}'
  union all select definer from information_schema.views where table_schema = database()
  union all select definer from information_schema.events where event_schema = database()
  union all select definer from information_schema.routines where routine_schema = database()) named order by 1"""
#: Roles have no host.
ACCOUNTS = "select concat(user, '@', host) from mysql.user"
CURRENT_ACCOUNT = "select current_user()"
COLLATION = "select default_collation_name from information_schema.schemata where schema_name = database()"
