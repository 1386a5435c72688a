"""How much of a database belongs to the app: all of it, or the schema that its URL names."""

from __future__ import annotations

from typing import Any

import psycopg

from dbctl.engines.postgresql.session import Session

PUBLIC = "public"
#: Schemas of somebody's own, beside the one that is asked about.
OTHERS = b"""select exists (select from pg_catalog.pg_namespace n where n.nspname not in ('information_schema', $1)
  and n.nspname !~ '^pg_' and not exists (select from pg_catalog.pg_depend e
    where e.classid = 'pg_catalog.pg_namespace'::regclass and e.objid = n.oid and e.deptype = 'e')
  and (n.nspname <> 'public' or exists (select from pg_catalog.pg_class c where c.relnamespace = n.oid)))"""


def scope_of(session: Session) -> str:
    """Return the schema that alone is the app's; empty means the whole database."""
    return scope(session, session.asked_schema)


def scope(session: psycopg.Connection[Any], schema: str) -> str:
    """Return the same of the schema that a URL names.

    ``schema=public`` is what Prisma writes everywhere, and means all there is, unless somebody else is there, too.
    """
    if schema in ("", PUBLIC):
        ((others,),) = session.execute(OTHERS, [schema]).fetchall() if schema else [(False,)]
        return schema if others else ""
    return schema
