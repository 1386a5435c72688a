"""An app whose action writes the differences to another state: ``python apply_state.py DATABASE OTHER``, both on PostgreSQL."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import closing

import psycopg

TABLES = "select oid::regclass::text from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1"
COLUMNS = """select quote_ident(attname), format_type(atttypid, atttypmod), coalesce(attnum = any(indkey), false)
from pg_attribute left join pg_index on indrelid = attrelid and indisprimary
where attrelid = %s::regclass and attnum > 0 and not attisdropped and attgenerated = '' order by attnum"""


def apply_table(db, other, table):
    columns = db.execute(COLUMNS, [table]).fetchall()
    names = [name for name, _, _ in columns]
    values = [f"%s::{type_name}" for _, type_name, _ in columns]
    texts = ", ".join(f"{name}::text" for name in names)
    added = Counter(other.execute(f"select {texts} from {table}").fetchall())
    removed = []
    for place, *row in db.execute(f"select ctid::text, {texts} from {table}").fetchall():
        if added[tuple(row)]:
            added[tuple(row)] -= 1
        else:
            removed.append((place, tuple(row)))

    def read_key(row):
        return tuple(value for value, (_, _, is_key) in zip(row, columns, strict=True) if is_key)

    new = list(added.elements())
    new_by_key = {key: row for row in new if (key := read_key(row))}
    for place, row in removed:
        if changed := new_by_key.get(read_key(row)):
            new.remove(changed)
            sets = ", ".join(f"{name} = {value}" for name, value in zip(names, values, strict=True))
            db.execute(f"update {table} set {sets} where ctid = %s::tid", [*changed, place])
        else:
            db.execute(f"delete from {table} where ctid = %s::tid", [place])
    for row in new:
        db.execute(
            f"insert into {table} ({', '.join(names)}) overriding system value values ({', '.join(values)})",
            row,
        )


def main(address, other_address):
    with closing(psycopg.connect(address)) as db, closing(psycopg.connect(other_address)) as other:
        db.execute("set session_replication_role = replica")  # without checks of foreign keys
        for (table,) in other.execute(TABLES).fetchall():
            apply_table(db, other, table)
        db.commit()


if __name__ == "__main__":
    main(*sys.argv[1:])
