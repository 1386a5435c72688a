-- The tables and indexes that the document of the app names and does not print, and a search index that follows every
-- change in place of the one that it prints. Rows, and further tables and indexes, stay as they are.

-- dbctl: allow-data-loss
-- Up
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

create index if not exists idx_messages_chat_timestamp on messages (chat_id, timestamp);
create index if not exists idx_chats_updated_at on chats (updated_at);
create index if not exists idx_chats_updated_covering on chats (updated_at, id, title);
create index if not exists idx_attachments_message_id on attachments (message_id);
create index if not exists idx_tool_calls_message_id on tool_calls (message_id);
create index if not exists idx_branches_chat_id on branches (chat_id);
create index if not exists idx_branches_parent_branch_id on branches (parent_branch_id);
create index if not exists idx_branches_fork_message_id on branches (fork_message_id);

drop trigger if exists messages_ad;
drop trigger if exists messages_au;
drop trigger if exists messages_ai;
drop table if exists messages_fts;

create virtual table if not exists messages_fts
using fts5("content", "chat_id" unindexed, "message_id" unindexed, tokenize = 'porter unicode61');

create index if not exists messages_fts_message_id on messages_fts_content (c2);

insert into messages_fts (content, chat_id, message_id)
select case when json_valid(s.content) then case json_type(s.content) when 'array' then coalesce((
        select group_concat(case b.type when 'object' then json_extract(b.value, '$.text') when 'text' then b.value end, ' ')
        from json_each(s.content) b
    ), s.content) else s.content end else s.content end, s.chat_id, s.id from messages s;

create trigger if not exists messages_ai after insert on messages begin
    insert into messages_fts (content, chat_id, message_id)
    select case when json_valid(s.content) then case json_type(s.content) when 'array' then coalesce((
        select group_concat(case b.type when 'object' then json_extract(b.value, '$.text') when 'text' then b.value end, ' ')
        from json_each(s.content) b
    ), s.content) else s.content end else s.content end, s.chat_id, s.id from messages s where s.id = new.id;
end;

create trigger if not exists messages_au after update on messages begin
    delete from messages_fts where rowid in (select id from messages_fts_content where c2 = old.id);
    insert into messages_fts (content, chat_id, message_id)
    select case when json_valid(s.content) then case json_type(s.content) when 'array' then coalesce((
        select group_concat(case b.type when 'object' then json_extract(b.value, '$.text') when 'text' then b.value end, ' ')
        from json_each(s.content) b
    ), s.content) else s.content end else s.content end, s.chat_id, s.id from messages s where s.id = new.id;
end;

create trigger if not exists messages_ad after delete on messages begin
    delete from messages_fts where rowid in (select id from messages_fts_content where c2 = old.id);
end;
