"""Samples of all types, tables and objects that PostgreSQL supports, and functions that compare two databases.

The kinds are read from the catalog of the server, so that a new version without samples for its new kinds fails the tests.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import closing

from dbctl.engines.sql.catalog import ident
from tests import servers

#: Literals of each type of ``pg_catalog`` that a column may have.
VALUES: Mapping[str, Sequence[str]] = {
    "aclitem": ["'=r/{owner}'"],
    "bit": ["B'1'"],
    "bool": ["true", "false"],
    "box": ["'(1.1,2.2),(0.1,-3)'"],
    "bpchar": ["'ab  '", "''"],
    "bytea": [r"'\x00ff5c0a'", "''"],
    "char": ["'x'", r"'\200'"],
    "cid": ["'4294967295'"],
    "cidr": ["'10.1.0.0/16'", "'2001:db8::/32'"],
    "circle": ["'<(0.1,0.2),0.3>'"],
    "date": ["'4713-01-01 BC'", "'5874897-12-31'", "'infinity'", "'-infinity'"],
    "datemultirange": ["'{[2020-01-01,2020-02-01),[2021-01-01,)}'", "'{}'"],
    "daterange": ["'[2020-01-01,infinity)'", "'empty'"],
    "float4": ["52.520008", "'NaN'", "'-Infinity'", "1e-45", "'-0'"],
    "float8": ["0.1::float8 + 0.2::float8", "'NaN'", "'Infinity'", "5e-324", "'-0'"],
    "inet": ["'10.1.2.3/8'", "'::1'"],
    "int2": ["-32768"],
    "int4": ["-2147483648"],
    "int4multirange": ["'{[1,3),[5,)}'"],
    "int4range": ["'(,5)'", "'empty'"],
    "int8": ["-9223372036854775808"],
    "int8multirange": ["'{(,1),[5,7)}'"],
    "int8range": ["'[1,10)'"],
    "interval": ["'-1 year 2 mons -3 days 04:05:06.789012'", "'0'", "'178000000 years'"],
    "json": ["""'{"b":1, "a" : 1e400,  "b":null}'""", "'null'"],
    "jsonb": [r"""'{"b":1,"a":[1.10,"\u00e9"]}'""", "'null'"],
    "jsonpath": ["'$.a[*] ? (@ > 1)'"],
    "line": ["'{1,-0.1,0.3}'"],
    "lseg": ["'[(0.1,0),(1,1e300)]'"],
    "macaddr": ["'08:00:2b:01:02:03'"],
    "macaddr8": ["'08:00:2b:01:02:03:04:05'"],
    "money": ["'-92233720368547758.08'::numeric::money", "0.01::numeric::money"],
    "name": ["'a''b'"],
    "numeric": [
        "'NaN'",
        "'Infinity'",
        "'-Infinity'",
        "1e-300",
        "12345678901234567890.12345678901234567890",
        "1.10",
    ],
    "nummultirange": ["'{[1.10,2),(3,)}'"],
    "numrange": ["'(1.1,2.20]'"],
    "oid": ["4294967295"],
    "path": ["'[(0,0),(0.1,1)]'", "'((0,0),(0.1,1))'"],
    "pg_lsn": ["'FFFFFFFF/FFFFFFFF'"],
    "pg_snapshot": ["'10:20:10,14,15'"],
    "point": ["'(0.1,-Infinity)'"],
    "polygon": ["'((0,0),(0.1,1),(1,0))'"],
    "refcursor": ["'cursor'"],
    "regclass": ["'plain_table'", "'pg_catalog.pg_class'", "0"],
    "regcollation": ["'\"C\"'"],
    "regconfig": ["'english'"],
    "regdictionary": ["'simple'"],
    "regnamespace": ["'public'"],
    "regoper": ["'pg_catalog.||/(none,float8)'::regoperator::oid", "0"],
    "regoperator": ["'pg_catalog.+(int4,int4)'"],
    "regproc": ["'doubled'", "0"],
    "regprocedure": ["'doubled(int)'"],
    "regrole": ["'{owner}'"],
    "regtype": ["'mood'", "'int4[]'"],
    "text": [r"E'tab\tbackslash\\ newline\n cr\r \\N \\. é 🎉'", "''", r"'\N'", r"'\.'"],
    "tid": ["'(4294967295,65535)'"],
    "time": ["'24:00:00'", "'00:00:00.000001'"],
    "timestamp": ["'4713-01-01 00:00:00 BC'", "'infinity'", "'294276-12-31 23:59:59.999999'"],
    "timestamptz": ["'2020-10-25 02:30:00.000001+01'", "'-infinity'"],
    "timetz": ["'24:00:00-15:59'"],
    "tsmultirange": ["'{[2020-01-01,2020-02-01)}'"],
    "tsquery": ["'''a b'':*A & !(c | d <2> e)'"],
    "tsrange": ["'[2020-01-01 00:00:00.5,)'"],
    "tstzmultirange": ["'{[2020-01-01 00:00+00,)}'"],
    "tstzrange": ["'(-infinity,2020-01-01 00:00+00]'"],
    "tsvector": ["'''it''''s'':1A,2B ''x y'''"],
    "txid_snapshot": ["'10:20:10,14,15'"],
    "uuid": ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"],
    "varbit": ["B''", "B'10100'"],
    "varchar": ["'é '"],
    "xid": ["'4294967295'"],
    "xid8": ["'18446744073709551615'"],
    "xml": ["'<a b=\"c\">é &amp; <!-- x --></a>'", "'no document'"],
}
#: Types whose input functions reject every value: a column of them can contain only NULL.
WITHOUT_VALUES: Mapping[str, str] = {
    "gtsvector": "used inside of indexes; it has no input function",
    "pg_brin_bloom_summary": "used inside of indexes; it has no input function",
    "pg_brin_minmax_multi_summary": "used inside of indexes; it has no input function",
    "pg_dependencies": "results of ANALYZE",
    "pg_mcv_list": "results of ANALYZE",
    "pg_ndistinct": "results of ANALYZE",
    "pg_node_tree": "an expression tree of the catalog",
}

#: Statements that create objects of every kind, by the version that introduced them.
OBJECTS: Sequence[tuple[int, str]] = [
    (
        0,
        """
create table plain_table (id int primary key, word text collate "C" not null default 'x', n numeric(6,2), gone int, late int default 7);
insert into plain_table values (1, 'one', 1.5), (2, 'two', null);
alter table plain_table drop column gone;
alter table plain_table add column added text default 'fast default';
alter table plain_table alter column word set statistics 500, alter column word set (n_distinct = 5), alter column word set storage external;
alter table plain_table alter column added set compression pglz;
alter table plain_table set (fillfactor = 70, autovacuum_enabled = off);
alter table plain_table cluster on plain_table_pkey;
alter table plain_table replica identity full;
comment on table plain_table is 'a table'; comment on column plain_table.word is 'it''s a column';
create unlogged table unlogged_table (id int primary key); insert into unlogged_table values (1), (2);
create table "Odd ""name"": {x}" (";" text, "select" int); insert into "Odd ""name"": {x}" values ('a;b', 1);
create table no_columns (); insert into no_columns default values; insert into no_columns default values;

create type mood as enum ('sad', 'ok', 'it''s'); alter type mood add value 'happy' before 'ok';
create type pair as (a int, b text, c int); alter type pair drop attribute c; comment on type pair is 'a pair';
create domain positive as int default 5 constraint above_zero check (value > 0);
create domain required as text not null collate "C"; create domain nested as positive check (value < 100);
alter domain positive add constraint small check (value < 1000) not valid;
create type float_range as range (subtype = float8, subtype_diff = float8mi);
create type base_type; create type shell_only;
create function base_in(cstring) returns base_type language internal immutable strict as 'int4in';
create function base_out(base_type) returns cstring language internal immutable strict as 'int4out';
create type base_type (input = base_in, output = base_out, internallength = 4, passedbyvalue, alignment = int4, category = 'N', preferred = false, delimiter = ';');
create type base_char; create function base_char_in(cstring) returns base_char language internal immutable strict as 'charin'; create function base_char_out(base_char) returns cstring language internal immutable strict as 'charout'; create type base_char (input = base_char_in, output = base_char_out, internallength = 1, passedbyvalue, alignment = char, preferred = true);
create type base_short; create function base_short_in(cstring) returns base_short language internal immutable strict as 'int2in'; create function base_short_out(base_short) returns cstring language internal immutable strict as 'int2out'; create type base_short (input = base_short_in, output = base_short_out, internallength = 2, passedbyvalue, alignment = int2);
create type base_external; create function base_external_in(cstring) returns base_external language internal immutable strict as 'textin'; create function base_external_out(base_external) returns cstring language internal immutable strict as 'textout'; create type base_external (input = base_external_in, output = base_external_out, storage = external, collatable = true);
create type base_extended; create function base_extended_in(cstring) returns base_extended language internal immutable strict as 'textin'; create function base_extended_out(base_extended) returns cstring language internal immutable strict as 'textout'; create type base_extended (input = base_extended_in, output = base_extended_out, storage = extended, alignment = double, default = 'x');
create type base_main; create function base_main_in(cstring) returns base_main language internal immutable strict as 'textin'; create function base_main_out(base_main) returns cstring language internal immutable strict as 'textout'; create type base_main (input = base_main_in, output = base_main_out, storage = main);
create table of_base_types (c base_char, s base_short, e base_external, x base_extended, m base_main); insert into of_base_types values ('c', '5', 'e', 'x', 'm');
create table of_own_types (m mood, p pair, d nested default 5, t required, r float_range, mr float_multirange, s base_type, ms mood[], ps pair[], ds positive[]);
insert into of_own_types values ('happy', '(1,"a ""b"", (c)")', 7, 'x', '[0.1,0.30000000000000004)', '{[1,2)}', '5', '{sad,"it''s"}', array[row(1,null)::pair], '{1,2}');

create table typed_table of pair (a with options primary key); insert into typed_table values (1, 'a');
create table parent (id int primary key, v text check (v <> '') no inherit); insert into parent values (1, 'p');
create table child (extra int) inherits (parent); insert into child values (2, 'c', 9);
create table grandchild () inherits (child); insert into grandchild values (3, 'g', 10);
create table second_parent (id int, w text); create table of_two () inherits (parent, second_parent); insert into of_two values (4, 'd', 'w');

create table by_range (id int, at date, primary key (id, at)) partition by range (at);
create table range_2020 partition of by_range for values from ('2020-01-01') to ('2021-01-01');
create table range_rest partition of by_range default;
create table range_sub (at date not null, id int not null) partition by list (id);
alter table by_range attach partition range_sub for values from ('2021-01-01') to ('2022-01-01');
create table range_sub_1 partition of range_sub for values in (1, 2);
create table range_sub_none partition of range_sub for values in (3);
insert into by_range values (9, '2020-05-05'), (1, '2021-05-05'), (7, '1999-01-01');
create table by_hash (id int) partition by hash (id);
create table hash_0 partition of by_hash for values with (modulus 2, remainder 0);
create unlogged table hash_1 partition of by_hash for values with (modulus 2, remainder 1);
insert into by_hash select generate_series(1, 9);
create table by_expression (id int, v text) partition by list (lower(v)); create table expression_a partition of by_expression for values in ('a', null);
insert into by_expression values (1, 'A'); create table no_partitions (id int) partition by range (id);
create index on by_range (at); create index lonely on only by_range (id);
create index half_attached on only by_hash (id); create index hash_0_id on hash_0 (id); alter index half_attached attach partition hash_0_id;

create table identities (a int generated always as identity (start 5 increment 5), b int generated by default as identity (minvalue -9 maxvalue 9 start 3 cycle), s serial, v text);
insert into identities (v) values ('a'), ('b'), ('c');
create table generated (a int, b int generated always as (a * 2) stored, c text generated always as (case when a > 1 then 'x' end) stored);
insert into generated (a) values (1), (2), (null);
create sequence counter as smallint increment -3 minvalue -32768 maxvalue 30 start 20 cache 5 cycle; select nextval('counter'), nextval('counter');
create sequence unused owned by plain_table.id; create unlogged table with_sequence (id serial); insert into with_sequence default values;

create table referenced (a int, b int, primary key (a, b)); insert into referenced values (1, 2), (3, 4);
create table referring (x int, y int, z int,
  foreign key (x, y) references referenced match full on delete cascade on update set null deferrable initially deferred,
  foreign key (z) references plain_table on delete set default on update restrict,
  constraint positive_x check (x > 0), constraint unique_z unique (z) deferrable, exclude using btree (y with =) where (z > 5));
insert into referring values (1, 2, 1);
create table unchecked (x int, a int); insert into unchecked values (-1, 99);
alter table unchecked add constraint not_checked check (x > 0) not valid, add constraint nothing_there foreign key (a) references plain_table not valid;
create table acting (a int references plain_table on delete restrict on update cascade, b int default 1 references plain_table on update set default on delete set null); insert into acting values (1, 2);
create table circle_a (id int primary key, b int); create table circle_b (id int primary key, a int references circle_a);
alter table circle_a add foreign key (b) references circle_b; insert into circle_a values (1, null); insert into circle_b values (1, 1); update circle_a set b = 1;
create table self_referring (id int primary key, up int references self_referring); insert into self_referring values (1, 1), (2, 1);
create table into_partitions (id int, at date, foreign key (id, at) references by_range); insert into into_partitions values (9, '2020-05-05');
create index partial_index on plain_table (lower(word) desc nulls last, id) include (n) where id > 1;
create unique index unique_index on plain_table (word text_pattern_ops); create index hash_index on plain_table using hash (word) with (fillfactor = 50);
alter table unlogged_table replica identity using index unlogged_table_pkey; comment on index partial_index is 'an index';
alter index partial_index alter column 1 set statistics 50;

create table indexed (p point, w text, n int, j jsonb); insert into indexed values ('(1,2)', 'w', 3, '{"a": 1}');
create index on indexed using gist (p) with (buffering = on); create index on indexed using spgist (w); create index on indexed using brin (n int4_minmax_multi_ops) with (pages_per_range = 4); create index on indexed using gin (j jsonb_path_ops) with (fastupdate = off);

create view plain_view with (security_barrier) as select id, word from plain_table where id < 100 with local check option;
create view checked_view as select id, word from plain_view where id > 0 with cascaded check option; comment on view plain_view is 'a view';
create recursive view recursive_view (n) as values (1) union all select n + 1 from recursive_view where n < 5;
create view circular_a as select 1 as x; create view circular_b as select * from circular_a;
create materialized view filled as select count(*) as n from parent; create unique index on filled (n);
create materialized view over_view with (fillfactor = 50) as select * from plain_view;
create materialized view unfilled as select word from plain_table with no data;
alter view plain_view alter column word set default 'by the view';

create function doubled(int) returns int language sql immutable strict parallel safe leakproof cost 5 as 'select $1 * 2';
create function of_sql(a int default 3, variadic rest int[] default '{}') returns table (x int, y text) language sql stable rows 7 as $$ select a, 'it''s $1' $$;
create function plpgsql_one(inout a int, out b text) language plpgsql security definer set search_path = public, pg_temp set work_mem = '5MB' as $f$ begin b := $q$x$q$; end $f$;
create procedure of_procedure(a int, b text default 'x') language plpgsql as 'begin commit; end'; comment on procedure of_procedure is 'a procedure';
create function body_one(a int) returns int begin atomic select a + (select count(*) from plain_table)::int; end;
create function set_returning() returns setof plain_table language sql as 'select * from public.plain_table'; create function restricted() returns int language sql parallel restricted as 'select 1';
create function triggering() returns trigger language plpgsql as 'begin return new; end';
create function trigger_of_events() returns event_trigger language plpgsql as 'begin end';
create function windowed() returns int8 language internal window immutable strict as 'window_row_number';
create function supported(int) returns int language internal immutable support generate_series_int4_support as 'int4abs';
create aggregate total (int) (sfunc = int4pl, stype = int, initcond = '0', combinefunc = int4pl, parallel = safe,
  msfunc = int4pl, minvfunc = int4mi, mstype = int, minitcond = '0', mfinalfunc = doubled, mfinalfunc_modify = shareable, finalfunc = doubled, finalfunc_modify = read_write);
create function first_of(int, anyelement) returns int language sql immutable as 'select $1'; create aggregate sharing (int) (sfunc = int4pl, stype = int, finalfunc = doubled, finalfunc_modify = shareable);
create function final_of(int, anyelement) returns int language sql as 'select $1';
create aggregate final_extra (anyelement) (sfunc = first_of, stype = int, initcond = '0', finalfunc = final_of, finalfunc_extra, msfunc = first_of, minvfunc = first_of, mstype = int, mfinalfunc = final_of, mfinalfunc_extra);
create aggregate ordered (float8 order by float8) (sfunc = ordered_set_transition, stype = internal, finalfunc = percentile_cont_float8_final);
create aggregate hypothetical (variadic "any" order by variadic "any") (sfunc = ordered_set_transition_multi, stype = internal, finalfunc = rank_final, finalfunc_extra, hypothetical);
create operator === (leftarg = int, rightarg = int, function = int4eq, commutator = ===, negator = !==, restrict = eqsel, join = eqjoinsel, hashes, merges);
create operator !== (leftarg = int, rightarg = int, function = int4ne, negator = ===, commutator = !==);
create operator ~~~ (rightarg = int, function = doubled); comment on operator ~~~ (none, int) is 'a prefix operator';
create operator family own_family using btree;
create operator class own_ops for type int using btree family own_family as operator 1 <, operator 2 <=, operator 3 =, operator 4 >=, operator 5 >, function 1 btint4cmp(int, int);
create operator class shell_ops default for type base_type using hash as operator 1 = (int4, int4), function 1 hashint4(int4), storage base_type;
alter operator family own_family using btree add operator 1 < (int, int8), function 1 (int, int8) btint48cmp(int, int8);
create operator class point_ops2 for type point using gist as operator 15 <-> (point, point) for order by float_ops, operator 1 << (point, point), function 1 gist_point_consistent(internal, point, int2, oid, internal), function 2 gist_box_union(internal, internal), function 3 gist_point_compress(internal), function 5 gist_box_penalty(internal, internal, internal), function 6 gist_box_picksplit(internal, internal), function 7 gist_box_same(box, box, internal), function 8 gist_point_distance(internal, point, int2, oid, internal), storage box;
create function from_mood(internal) returns internal language internal immutable strict as 'prsd_headline'; create transform for mood language sql (from sql with function from_mood(internal));
create function mood_int(mood) returns int language sql immutable as 'select length($1::text)';
create cast (mood as int) with function mood_int(mood) as assignment; create cast (int as mood) with inout; create cast (base_type as int) without function as implicit;
create conversion own_conversion for 'LATIN1' to 'UTF8' from iso8859_1_to_utf8; create default conversion default_conversion for 'UTF8' to 'LATIN1' from utf8_to_iso8859_1;
create collation own_collation (locale = 'C'); create collation exact_icu (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create table collated (a text collate own_collation, b text collate exact_icu primary key); insert into collated values ('a', 'B');
create text search configuration own_config (copy = simple); create text search dictionary own_dictionary (template = simple, accept = false);
create text search parser own_parser (start = prsd_start, gettoken = prsd_nexttoken, end = prsd_end, lextypes = prsd_lextype);
create text search template own_template (lexize = dsimple_lexize, init = dsimple_init);
alter text search configuration own_config alter mapping for asciiword with own_dictionary, simple;
create function own_handler() returns language_handler language c as '$libdir/plpgsql', 'plpgsql_call_handler'; create function own_inline(internal) returns void language c strict as '$libdir/plpgsql', 'plpgsql_inline_handler';
create function own_validator(oid) returns void language c strict as '$libdir/plpgsql', 'plpgsql_validator';
create language own_language handler own_handler inline own_inline validator own_validator; create trusted language trusted_language handler own_handler; comment on language own_language is 'a language';
create access method own_heap type table handler heap_tableam_handler; create access method own_btree type index handler bthandler;
create table in_own_heap (id int) using own_heap; insert into in_own_heap values (5);
create statistics own_statistics (ndistinct, dependencies, mcv) on id, word from plain_table; create statistics of_expression on (id + 1) from plain_table;
alter statistics own_statistics set statistics 200; comment on statistics own_statistics is 'statistics';

create trigger plain_trigger before insert or update of word on plain_table for each row when (new.id > 0) execute function triggering('a', 'it''s');
create trigger disabled_trigger after delete on plain_table for each statement execute function triggering(); alter table plain_table disable trigger disabled_trigger;
create trigger always_trigger after truncate on plain_table for each statement execute function triggering(); alter table plain_table enable always trigger always_trigger;
create trigger replica_trigger after insert on plain_table referencing new table as fresh for each statement execute function triggering(); alter table plain_table enable replica trigger replica_trigger;
create constraint trigger constraint_trigger after insert on plain_table from referenced deferrable initially deferred for each row execute function triggering();
create trigger of_view instead of insert on checked_view for each row execute function triggering(); create trigger of_partitions after insert on by_range for each row execute function triggering();
create event trigger {prefix}_event on ddl_command_end when tag in ('CREATE TABLE', 'DROP TABLE') execute function trigger_of_events(); alter event trigger {prefix}_event disable;
create event trigger {prefix}_event_replica on sql_drop execute function trigger_of_events(); alter event trigger {prefix}_event_replica enable replica;
create event trigger {prefix}_event_always on ddl_command_start execute function trigger_of_events(); alter event trigger {prefix}_event_always enable always;
create event trigger {prefix}_event_usual on table_rewrite execute function trigger_of_events();
create rule own_rule as on update to plain_view where old.id > 5 do instead nothing; create rule also_rule as on insert to child do also select 1; alter table child disable rule also_rule;
create rule rule_of_delete as on delete to plain_view do instead delete from plain_table where id = old.id; create rule always_rule as on update to child do also nothing; alter table child enable always rule always_rule;
create rule replica_rule as on delete to child do also nothing; alter table child enable replica rule replica_rule;
create table guarded (id int, who text); insert into guarded values (1, 'a'), (2, 'b'); alter table guarded enable row level security; alter table guarded force row level security;
create policy reading on guarded for select to {role} using (who = current_user); create policy adding on guarded as restrictive for insert with check (id > 0);
create policy changing on guarded for update using (true) with check (id < 100); create policy removing on guarded for delete using (id > 5); create policy everything on guarded using (true);

create foreign data wrapper own_wrapper validator postgresql_fdw_validator; create foreign data wrapper bare_wrapper options (a 'b');
create server own_server type 't' version '1' foreign data wrapper bare_wrapper options (host 'h'); create user mapping for {role} server own_server options ("user" 'u'); create user mapping for public server own_server;
create foreign table foreign_table (id int options (x 'y'), v text) server own_server options (t 't'); comment on foreign table foreign_table is 'elsewhere';

grant select (id, word), update (word) on plain_table to {role} with grant option; grant insert on plain_table to public; grant usage on sequence counter to {role}; revoke execute on function doubled(int) from public;
grant usage on schema public to {role}; create schema own_schema authorization {role}; grant create on schema own_schema to public; comment on schema own_schema is 'a schema';
grant usage on type mood to {role}; revoke usage on domain positive from public; grant usage on foreign server own_server to {role}; grant usage on foreign data wrapper own_wrapper to {role}; grant usage on language trusted_language to {role};
revoke execute on function pg_catalog.pg_sleep(float8) from public; grant select (rolname) on pg_catalog.pg_authid to {role};
create table own_schema.plain_table (id int); insert into own_schema.plain_table values (77); alter table own_schema.plain_table owner to {role};
create materialized view own_schema.of_functions as select * from set_returning();
alter default privileges for role {role} in schema own_schema grant select on tables to public; alter default privileges grant usage on sequences to {role}; alter default privileges revoke execute on functions from public;
alter default privileges revoke usage on types from public; alter default privileges grant usage on schemas to {role};
create publication {prefix}_some for table plain_table, only parent with (publish = 'insert, delete'); create publication {prefix}_all for all tables with (publish = 'update, truncate', publish_via_partition_root);
comment on publication {prefix}_all is 'all';
select lo_from_bytea(90001, '\\x00ff'), lo_create(90002); grant select on large object 90001 to {role}; comment on large object 90001 is 'large'; alter large object 90002 owner to {role};
create extension citext schema own_schema; create extension pg_trgm; create table with_extension (a own_schema.citext); insert into with_extension values ('CaSe'); create index on with_extension using gin ((a::text) gin_trgm_ops);
""",
    ),
    (
        15,
        """
create view as_invoker with (security_invoker) as select id from plain_table;
create unique index no_two_nulls on plain_table (n) nulls not distinct;
create publication {prefix}_schema for tables in schema own_schema; create publication {prefix}_rows for table plain_table (id, word) where (id > 1);
create table partly_nulled (a int, b int, foreign key (a, b) references referenced on delete set null (b)); insert into partly_nulled values (1, 2);
""",
    ),
    (16, """create table with_storage (a text storage main); insert into with_storage values ('x');"""),
    (
        17,
        """
create table partitioned_identity (id int generated always as identity, at int) partition by range (at); create table partitioned_identity_1 partition of partitioned_identity for values from (0) to (9);
insert into partitioned_identity (at) values (1), (2); create collation own_builtin (provider = builtin, locale = 'C.UTF-8');
""",
    ),
    (
        18,
        """
create table computed (a int, b int generated always as (a * 2) virtual); insert into computed values (1), (null);
create table unenforced (a int constraint not_enforced check (a > 0) not enforced, constraint parent_not_enforced foreign key (a) references plain_table not enforced); insert into unenforced values (-5);
create table late_not_null (a int); insert into late_not_null values (null); alter table late_not_null add constraint a_required not null a not valid;
create table over_time (id int4range, during int4range, constraint over_time_key primary key (id, during without overlaps)); insert into over_time values ('[1,2)', '[1,5)'), ('[1,2)', '[5,9)');
create table within_time (id int4range, during int4range, foreign key (id, period during) references over_time (id, period during)); insert into within_time values ('[1,2)', '[2,8)');
create publication {prefix}_generated for table generated with (publish_generated_columns = stored);
alter default privileges grant select on large objects to {role};
""",
    ),
]


#: Catalogs in which the samples create no rows.
NO_ROWS: Mapping[str, str] = {
    "pg_depend": "dependencies of objects, which follow from the other catalogs",
    "pg_init_privs": "privileges that an extension script granted; no extension of PostgreSQL does that",
    "pg_parameter_acl": "belongs to the server, not to a database",
    "pg_replication_origin": "belongs to the server, not to a database",
    "pg_seclabel": "requires a label provider, which PostgreSQL does not include",
    "pg_statistic": "results of ANALYZE, which a restore runs again",
    "pg_statistic_ext_data": "results of ANALYZE, which a restore runs again",
    "pg_subscription": "has a separate test",
    "pg_subscription_rel": "has a separate test",
    "pg_largeobject": "the content of large objects, which is compared separately",
}
#: SQL for the key of a row in catalogs without an ``oid``; empty: the rows are not compared.
KEYS: Mapping[str, str] = {
    "pg_aggregate": "aggfnoid::regprocedure::text",
    "pg_attribute": "attrelid::regclass::text || '.' || attname",
    "pg_auth_members": "",
    "pg_db_role_setting": "",
    "pg_depend": "",
    "pg_description": "pg_describe_object(classoid, objoid, objsubid)",
    "pg_enum": "enumtypid::regtype || ' ' || enumlabel",
    "pg_foreign_table": "ftrelid::regclass::text",
    "pg_index": "indexrelid::regclass::text",
    "pg_inherits": "inhrelid::regclass::text || ' of ' || inhparent::regclass",
    "pg_init_privs": "pg_describe_object(classoid, objoid, objsubid)",
    "pg_largeobject": "",
    "pg_largeobject_metadata": "oid::text",
    "pg_partitioned_table": "partrelid::regclass::text",
    "pg_range": "rngtypid::regtype::text",
    "pg_replication_origin": "",
    "pg_seclabel": "",
    "pg_sequence": "seqrelid::regclass::text",
    "pg_shdepend": "",
    "pg_shdescription": "",
    "pg_shseclabel": "",
    "pg_statistic": "",
    "pg_statistic_ext_data": "",
    "pg_subscription_rel": "",
    "pg_ts_config_map": "mapcfg::regconfig || ' ' || maptokentype || ' ' || mapseqno",
}
#: The column with the object of a row, for catalogs without an ``oid``.
OWNERS: Mapping[str, str] = {
    "pg_aggregate": "aggfnoid::oid",
    "pg_attribute": "attrelid",
    "pg_description": "objoid",
    "pg_enum": "enumtypid",
    "pg_foreign_table": "ftrelid",
    "pg_index": "indexrelid",
    "pg_inherits": "inhrelid",
    "pg_init_privs": "objoid",
    "pg_partitioned_table": "partrelid",
    "pg_range": "rngtypid",
    "pg_sequence": "seqrelid",
    "pg_ts_config_map": "mapcfg",
}
#: The letters that a column may contain according to the documentation of PostgreSQL.
LETTERS: Mapping[str, str] = {
    "pg_aggregate.aggfinalmodify": "rsw",
    "pg_aggregate.aggkind": "nho",
    "pg_aggregate.aggmfinalmodify": "rsw",
    "pg_am.amtype": "ti",
    "pg_amop.amoppurpose": "so",
    "pg_attribute.attalign": "csid",
    "pg_attribute.attcompression": "-pl",
    "pg_attribute.attgenerated": "-sv",
    "pg_attribute.attidentity": "-ad",
    "pg_attribute.attstorage": "pemx",
    "pg_cast.castcontext": "eai",
    "pg_cast.castmethod": "fib",
    "pg_class.relkind": "rivmSctfpI",
    "pg_class.relpersistence": "pu",
    "pg_class.relreplident": "dnfi",
    "pg_collation.collprovider": "cib",
    "pg_constraint.confdeltype": " arcnd",
    "pg_constraint.confmatchtype": " fs",
    "pg_constraint.confupdtype": " arcnd",
    "pg_constraint.contype": "cfputxn",
    "pg_default_acl.defaclobjtype": "rSfTnL",
    "pg_event_trigger.evtenabled": "ODRA",
    "pg_operator.oprkind": "bl",
    "pg_partitioned_table.partstrat": "hlr",
    "pg_policy.polcmd": "rawd*",
    "pg_proc.prokind": "fpaw",
    "pg_proc.proparallel": "sru",
    "pg_proc.provolatile": "isv",
    "pg_publication.pubgencols": "ns",
    "pg_rewrite.ev_enabled": "ODRA",
    "pg_rewrite.ev_type": "1234",
    "pg_trigger.tgenabled": "ODRA",
    "pg_type.typalign": "csid",
    "pg_type.typcategory": "ABCDEGINPRSTUVXZ",
    "pg_type.typdelim": ",;",
    "pg_type.typstorage": "pemx",
    "pg_type.typtype": "bcderpm",
    "pg_init_privs.privtype": "ie",
}
#: The version that introduced a letter.
INTRODUCED_IN: Mapping[tuple[str, str], int] = {
    ("pg_attribute.attgenerated", "v"): 18,
    ("pg_collation.collprovider", "b"): 17,
    ("pg_constraint.contype", "n"): 17,
    ("pg_default_acl.defaclobjtype", "L"): 18,
}
#: Values that no sample has.
UNSAMPLED: Mapping[str, set[object]] = {
    "pg_attribute.attcompression": {"l"},  # requires a server built with lz4
    "pg_attribute.attisdropped": {True},  # dumps contain no dropped columns
    "pg_class.relisshared": {True},  # belongs to the server
    "pg_class.relkind": {"t"},  # TOAST tables are created with their table
    "pg_extension.extrelocatable": {False},  # defined by the extension
    "pg_index.indislive": {False},  # while an index is dropped concurrently
    "pg_index.indisready": {False},  # while an index is built concurrently
    "pg_inherits.inhdetachpending": {True},  # while a partition is detached concurrently
    "pg_language.lanispl": {False},  # only built-in languages
    "pg_trigger.tgisinternal": {True},  # created by a foreign key
    "pg_type.typcategory": set("BDGITVXZ"),  # CREATE TYPE stores any letter
}

#: Columns that may differ after a restore: results of VACUUM and ANALYZE, and internal numbers.
VOLATILE = {
    "pg_attribute.attnum",
    "pg_attribute.atthasmissing",
    "pg_attribute.attislocal",
    "pg_constraint.connoinherit",
    "pg_enum.enumsortorder",
    "pg_class.relnatts",
    "pg_class.relallfrozen",
    "pg_class.relallvisible",
    "pg_class.relhasindex",
    "pg_class.relhasrules",
    "pg_class.relhassubclass",
    "pg_class.relhastriggers",
    "pg_class.relpages",
    "pg_class.reltuples",
    "pg_index.indcheckxmin",
}
COMPARED = {"bool", "char", "text", "_text", "name", "int2", "int4", "int8", "float4", "_aclitem"}


def list_types(connection):
    """Return the types of the server that a column may have."""
    rows = connection.execute(
        "select typname from pg_type where typnamespace = 'pg_catalog'::regnamespace"
        " and typtype in ('b', 'r', 'm') and typcategory <> 'A' order by 1"
    )
    return [name for (name,) in rows.fetchall()]


def create_samples(connection, *, role, split):
    """Create a sample of every kind of object in an empty database."""
    version, user = connection.info.server_version // 10000, connection.info.user
    for min_version, text in OBJECTS:
        if version >= min_version:
            statements = text.replace("{role}", role).replace("{prefix}", role)
            for _, statement in split(statements):
                connection.execute(statement)
    for name in list_types(connection):
        type_name, table = f"pg_catalog.{ident(name)}", ident(f"type_{name}")
        ((array,),) = connection.execute(
            "select typarray <> 0 from pg_type where oid = %s::regtype", [type_name]
        ).fetchall()
        connection.execute(
            f"create table {table} (v {type_name}" + (f", every {type_name}[])" if array else ")")
        )
        for value in () if name in WITHOUT_VALUES else VALUES.get(name, ()):
            cast = f"({value.replace('{owner}', user)})::{type_name}"
            connection.execute(
                f"insert into {table} values ({cast}" + (f", array[{cast}, null])" if array else ")")
            )


def list_catalogs(connection):
    """Return the catalogs with the objects of a database."""
    rows = connection.execute(
        "select relname from pg_class where relnamespace = 'pg_catalog'::regnamespace"
        " and relkind = 'r' and not relisshared order by 1"
    )
    return [name for (name,) in rows.fetchall()]


def list_columns(connection, catalog):
    """Return the columns of a catalog that are comparable across databases, with their types."""
    rows = connection.execute(
        "select a.attname, t.typname from pg_attribute a join pg_type t on t.oid = a.atttypid"
        " where a.attrelid = %s::regclass and a.attnum > 0",
        [f"pg_catalog.{catalog}"],
    )
    return {name: kind for name, kind in rows.fetchall() if f"{catalog}.{name}" not in VOLATILE}


def read_rows(connection, catalog):
    """Return the rows of a catalog for user-created objects, by key."""
    column_types = list_columns(connection, catalog)
    if catalog in KEYS and not KEYS[catalog]:
        return {}
    key = KEYS.get(catalog, "(pg_identify_object(c.tableoid, c.oid, 0)).identity")
    owner = OWNERS.get(catalog, "oid")
    condition = " and not tgisinternal" if catalog == "pg_trigger" else ""
    names = [name for name, kind in column_types.items() if kind in COMPARED]
    values = "".join(f", {ident(name)}{'::text' * (column_types[name] == '_aclitem')}" for name in names)
    result = connection.execute(
        f"select {key}{values} from pg_catalog.{catalog} c where {owner} >= 16384{condition}"
    ).fetchall()
    return {
        row[0]: dict(zip(names, map(_remove_server_options, row[1:]), strict=True))
        for row in result
        if "pg_toast" not in str(row) and "........pg.dropped" not in str(row)
    }


def _remove_server_options(value):
    """Return a value without the options that the server sets itself."""
    return (
        [option for option in value if not str(option).startswith("pg_att")] or None
        if isinstance(value, list)
        else value
    )


def find_unsampled(connection):
    """Return the boolean and letter columns of catalogs with the values that no sample has."""
    version, missing = connection.info.server_version // 10000, {}
    for catalog in list_catalogs(connection):
        for name, kind in list_columns(connection, catalog).items():
            full = f"{catalog}.{name}"
            if kind in ("bool", "char") and catalog not in NO_ROWS:
                values = {row[name] for row in read_rows(connection, catalog).values()}
                expected = {True, False} if kind == "bool" else list_letters(full, version)
                if unseen := values ^ expected - UNSAMPLED.get(full, frozenset()):
                    missing[full] = unseen
    return missing


def list_letters(column, version):
    """Return the letters that a column may have in a version; empty if they are unknown."""
    newer_letters = {
        letter for (name, letter), since in INTRODUCED_IN.items() if name == column and since > version
    }
    return {"" if letter == "-" else letter for letter in LETTERS.get(column, "")} - newer_letters


def describe(url):
    """Return the schema, catalog rows and table rows of a database, read with ``pg_dump`` and ``psql``."""
    objects = {"schema": _schema(url)}
    with closing(servers.connection(url)) as connection:
        for catalog in list_catalogs(connection):
            if catalog != "pg_attrdef":  # pg_dump writes its content
                objects |= {f"{catalog} {key}": row for key, row in read_rows(connection, catalog).items()}
        relations = connection.execute(
            "select c.oid::regclass::text, relkind from pg_class c where oid >= 16384 and relkind in ('r', 'm', 'S')"
            " and relispopulated and relnamespace <> 'pg_toast'::regnamespace order by 1"
        ).fetchall()
    script = []
    for name, kind in relations:
        select = (
            "select last_value, is_called from"
            if kind == "S"
            else "select * from only"
            if kind == "r"
            else "select * from"
        )
        script += [f"\\echo ROWS {name}", f"copy ({select} {name}) to stdout;"]
    script += [
        "\\echo ROWS large objects",
        "copy (select oid, lo_get(oid) from pg_largeobject_metadata) to stdout;",
    ]
    output = _run(url, "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", input="\n".join(script))
    for section in output.split("ROWS ")[1:]:
        name, *lines = section.splitlines()
        objects[f"rows of {name}"] = sorted(lines)
    return objects


def _schema(url):
    text = _run(url, "pg_dump", "-s")
    return [line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


def _run(url, program, *arguments, **options):
    argv = [servers.client(program), *arguments, "-d", servers.text(url)]
    return subprocess.run(argv, check=True, capture_output=True, text=True, **options).stdout
