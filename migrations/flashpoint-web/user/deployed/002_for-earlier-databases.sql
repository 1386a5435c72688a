-- Purpose: what databases lack that were made by an earlier text of the first migration: the domains, the index of public
-- settings, and the index by which one domain alone is the default.
--
-- It may run on a database that has all of this: nothing changes there.

create table if not exists domains (
    id integer primary key autoincrement,
    hostname text not null collate nocase unique,
    is_default boolean not null default 0,
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    created_by integer references users (id) on delete set null
);
create unique index if not exists idx_domains_single_default on domains (is_default) where is_default = 1;

drop index if exists idx_domains_hostname;
create index if not exists idx_system_settings_is_public on system_settings (is_public);
