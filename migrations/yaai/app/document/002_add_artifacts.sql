-- The register of artifacts: what chats and sessions of code have made, as files next to the databases.

-- Up
create table if not exists artifacts (
    id text primary key,
    name text not null,
    type text not null,
    description text,
    path text not null,
    size integer not null,
    chat_id text,
    session_id text,
    created_at text not null default (datetime('now')),
    updated_at text not null default (datetime('now'))
);

create index if not exists idx_artifacts_type on artifacts (type);
create index if not exists idx_artifacts_chat_id on artifacts (chat_id);
create index if not exists idx_artifacts_session_id on artifacts (session_id);
create index if not exists idx_artifacts_updated_at on artifacts (updated_at);

-- Down
drop table if exists artifacts;
