-- Sessions of work on code, and the messages of each.

-- Up
create table if not exists sessions (
    id text primary key,
    title text not null,
    project_path text not null,
    chat_id text,
    model text,
    status text not null default 'idle' check (status in ('idle', 'running', 'completed', 'failed')),
    created_at text not null default (datetime('now')),
    updated_at text not null default (datetime('now')),
    ended_at text
);

create table if not exists transcript_entries (
    id text primary key,
    session_id text not null references sessions (id) on delete cascade,
    position integer not null,
    role text not null check (role in ('user', 'assistant', 'system', 'tool')),
    content text not null,
    token_count integer,
    timestamp text not null default (datetime('now')),
    unique (session_id, position)
);

create index if not exists idx_sessions_updated_at on sessions (updated_at);
create index if not exists idx_sessions_project_path on sessions (project_path);
create index if not exists idx_transcript_entries_timestamp on transcript_entries (timestamp);

-- Down
drop table if exists transcript_entries;
drop table if exists sessions;
