-- The search index, as the document of the app prints it. It reads its text from columns that messages does not have, so
-- every query of it fails: the next migration replaces it, and dbctl search index repair does so, too.

-- Up
create virtual table if not exists messages_fts using fts5(
    content, chat_id unindexed, message_id unindexed,
    content='messages', content_rowid='rowid', tokenize='porter unicode61'
);

create trigger if not exists messages_ai after insert on messages begin
    insert into messages_fts (rowid, content, chat_id, message_id)
    values (new.rowid, new.content, new.chat_id, new.id);
end;

create trigger if not exists messages_ad after delete on messages begin
    insert into messages_fts (messages_fts, rowid, content, chat_id, message_id)
    values ('delete', old.rowid, old.content, old.chat_id, old.id);
end;

create trigger if not exists messages_au after update on messages begin
    insert into messages_fts (messages_fts, rowid, content, chat_id, message_id)
    values ('delete', old.rowid, old.content, old.chat_id, old.id);
    insert into messages_fts (rowid, content, chat_id, message_id)
    values (new.rowid, new.content, new.chat_id, new.id);
end;
