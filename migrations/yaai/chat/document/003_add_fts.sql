-- Searching messages by their words.
--
-- The index keeps its own text and finds an entry by the id of its message: a message has no number that stays, for a
-- VACUUM may give it another one. A message is plain text or a JSON array of blocks, of which the texts alone count.

-- Up
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

-- Down
drop trigger if exists messages_ad;
drop trigger if exists messages_au;
drop trigger if exists messages_ai;
drop table if exists messages_fts;
