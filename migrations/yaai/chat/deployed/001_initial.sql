-- Chats, messages, attachments, tool calls and branches, with the search index of the app.
--
-- The triggers of this index refuse a change or a deletion of a message, as in every database that the app makes:
-- dbctl search index repair replaces them.

-- Up
create table if not exists chats (
    id text primary key,
    title text not null,
    prompt_id text,
    default_model text,
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
    parent_id text references messages (id) on delete set null,
    is_liked integer default 0,
    metadata text
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

create table if not exists branches (
    id text primary key,
    chat_id text not null references chats (id) on delete cascade,
    parent_branch_id text references branches (id) on delete set null,
    fork_message_id text not null references messages (id) on delete cascade,
    name text,
    created_at text not null default (datetime('now'))
);

create index if not exists idx_chats_created_at on chats (created_at desc);
create index if not exists idx_chats_updated_at on chats (updated_at desc);
create index if not exists idx_messages_chat_id on messages (chat_id);
create index if not exists idx_messages_timestamp on messages (timestamp);
create index if not exists idx_messages_branch_id on messages (branch_id);
create index if not exists idx_messages_chat_timestamp on messages (chat_id, timestamp);
create index if not exists idx_attachments_message_id on attachments (message_id);
create index if not exists idx_tool_calls_message_id on tool_calls (message_id);
create index if not exists idx_branches_chat_id on branches (chat_id);

create virtual table if not exists messages_fts
using fts5(content, chat_id unindexed, message_id unindexed, tokenize='porter unicode61');

create trigger if not exists messages_fts_insert after insert on messages begin
    insert into messages_fts (content, chat_id, message_id) values (new.content, new.chat_id, new.id);
end;

create trigger if not exists messages_fts_delete after delete on messages begin
    insert into messages_fts (messages_fts, rowid, content, chat_id, message_id)
    values ('delete', old.rowid, old.content, old.chat_id, old.id);
end;

create trigger if not exists messages_fts_update after update of content on messages begin
    insert into messages_fts (messages_fts, rowid, content, chat_id, message_id)
    values ('delete', old.rowid, old.content, old.chat_id, old.id);
    insert into messages_fts (content, chat_id, message_id) values (new.content, new.chat_id, new.id);
end;

create trigger if not exists chat_updated_on_message after insert on messages begin
    update chats set updated_at = datetime('now') where id = new.chat_id;
end;
