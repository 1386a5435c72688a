-- Snapshots: files of a session as they were at one of its entries; their content is stored next to the database.

-- Up
create table if not exists snapshots (
    id text primary key,
    session_id text not null references sessions (id) on delete cascade,
    entry_id text references transcript_entries (id) on delete set null,
    file_path text not null,
    content_hash text not null,
    size integer not null,
    created_at text not null default (datetime('now'))
);

create index if not exists idx_snapshots_session_id on snapshots (session_id);
create index if not exists idx_snapshots_entry_id on snapshots (entry_id);
create index if not exists idx_snapshots_content_hash on snapshots (content_hash);

-- Down
drop table if exists snapshots;
