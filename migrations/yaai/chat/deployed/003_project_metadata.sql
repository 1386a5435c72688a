-- Chats that are pinned or archived, and when a chat was last used.

-- Up
alter table chats add column last_interacted_at text;
alter table chats add column is_pinned integer not null default 0;
alter table chats add column is_archived integer not null default 0;

create index if not exists idx_chats_last_interacted_at on chats (last_interacted_at desc);
create index if not exists idx_chats_is_pinned on chats (is_pinned);
create index if not exists idx_chats_is_archived on chats (is_archived);

update chats set last_interacted_at = updated_at where last_interacted_at is null;

drop trigger if exists chat_updated_on_message;
create trigger chat_updated_on_message after insert on messages begin
    update chats set updated_at = datetime('now'), last_interacted_at = datetime('now') where id = new.chat_id;
end;
