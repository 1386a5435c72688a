-- Users, chats, messages and their attachments, as the app's document has them.

-- Up
create table if not exists users (
    id text primary key,
    created_at datetime default current_timestamp,
    last_active datetime default current_timestamp,
    preferences text default '{}'
);

create table if not exists chats (
    id text primary key,
    user_id text not null,
    title text not null,
    created_at datetime default current_timestamp,
    updated_at datetime default current_timestamp,
    is_active boolean default 0,
    foreign key (user_id) references users (id) on delete cascade
);

create table if not exists messages (
    id text primary key,
    chat_id text not null,
    user_id text not null,
    content text not null,
    role text not null check (role in ('user', 'assistant')),
    timestamp datetime default current_timestamp,
    attachments text default '[]',
    metadata text default '{}',
    foreign key (chat_id) references chats (id) on delete cascade,
    foreign key (user_id) references users (id) on delete cascade
);

create table if not exists attachments (
    id text primary key,
    message_id text not null,
    name text not null,
    type text not null,
    size integer,
    url text,
    data text,
    created_at datetime default current_timestamp,
    foreign key (message_id) references messages (id) on delete cascade
);

create index if not exists idx_chats_user_id on chats (user_id);
create index if not exists idx_messages_chat_id on messages (chat_id);
create index if not exists idx_messages_user_id on messages (user_id);
create index if not exists idx_messages_timestamp on messages (timestamp);
create index if not exists idx_attachments_message_id on attachments (message_id);

-- Down
drop table if exists attachments;
drop table if exists messages;
drop table if exists chats;
drop table if exists users;
