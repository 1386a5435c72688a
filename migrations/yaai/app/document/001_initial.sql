-- Settings, and the keys of those who offer models.

-- Up
create table if not exists settings (
    key text primary key,
    value text not null,
    updated_at text not null default (datetime('now'))
);

create table if not exists credentials (
    id text primary key,
    api_key_encrypted text not null,
    base_url text,
    metadata text,
    created_at text not null default (datetime('now')),
    updated_at text not null default (datetime('now'))
);

-- Down
drop table if exists credentials;
drop table if exists settings;
