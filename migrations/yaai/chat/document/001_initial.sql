-- Chats and their messages, what is attached to a message, and what it made tools do.

-- Up
create table if not exists chats (
    id text primary key,
    title text not null,
    prompt_id text,
    created_at text not null default (datetime('now')),
    updated_at text not null default (datetime('now'))
);

create table if not exists messages (
    id text primary key,
    chat_id text not null references chats (id) on delete cascade,
    role text not null check (role in ('user', 'assistant', 'system')),
    content text not null,
    model text,
    token_count integer,
    generation_time integer,
    timestamp text not null default (datetime('now')),
    branch_id text,
    parent_id text,
    is_liked integer default 0
);

create table if not exists attachments (
    id text primary key,
    message_id text not null references messages (id) on delete cascade,
    name text not null,
    mime_type text not null,
    size integer not null,
    storage_path text,
    url text,
    metadata text
);

create table if not exists tool_calls (
    id text primary key,
    message_id text not null references messages (id) on delete cascade,
    name text not null,
    input text not null,
    output text,
    status text not null default 'pending' check (status in ('pending', 'running', 'success', 'error')),
    error text,
    started_at text,
    completed_at text
);

create index if not exists idx_messages_chat_id on messages (chat_id);
create index if not exists idx_messages_timestamp on messages (timestamp);
create index if not exists idx_messages_branch_id on messages (branch_id);
create index if not exists idx_messages_chat_timestamp on messages (chat_id, timestamp);
create index if not exists idx_chats_updated_at on chats (updated_at);
-- All that a list of chats shows, so that it reads no row
create index if not exists idx_chats_updated_covering on chats (updated_at, id, title);
create index if not exists idx_attachments_message_id on attachments (message_id);
create index if not exists idx_tool_calls_message_id on tool_calls (message_id);

-- Down
drop table if exists tool_calls;
drop table if exists attachments;
drop table if exists messages;
drop table if exists chats;
