-- Groups of answers that several models gave to the same message, and which answer the user selected.

-- Up
create table if not exists response_groups (
    id text primary key,
    chat_id text not null references chats (id) on delete cascade,
    user_message_id text not null references messages (id) on delete cascade,
    selected_response_id text references messages (id) on delete set null,
    created_at text not null default (datetime('now')),
    updated_at text not null default (datetime('now'))
);

create table if not exists response_group_members (
    response_group_id text not null references response_groups (id) on delete cascade,
    message_id text not null references messages (id) on delete cascade,
    position integer not null default 0,
    primary key (response_group_id, message_id)
);

alter table messages add column response_group_id text references response_groups (id) on delete set null;

create index if not exists idx_response_groups_chat_id on response_groups (chat_id);
create index if not exists idx_response_groups_user_msg on response_groups (user_message_id);
create index if not exists idx_response_groups_selected on response_groups (selected_response_id);
create index if not exists idx_response_groups_chat_updated on response_groups (chat_id, updated_at desc);
create index if not exists idx_rgm_group_position on response_group_members (response_group_id, position);
create index if not exists idx_rgm_message on response_group_members (message_id);
create index if not exists idx_messages_response_group on messages (response_group_id);

create trigger if not exists response_group_selection_updated
after update of selected_response_id on response_groups begin
    update response_groups set updated_at = datetime('now') where id = new.id;
end;
