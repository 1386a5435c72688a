-- Chats and messages, as the document of the app prints them.

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

create index if not exists idx_messages_chat_id on messages (chat_id);
create index if not exists idx_messages_timestamp on messages (timestamp);
create index if not exists idx_messages_branch_id on messages (branch_id);
