-- Users, the accounts by which they sign in, chats, messages and their attachments, as the app itself makes them.

-- Up
create table if not exists users (
    id text primary key,
    email text unique,
    name text,
    image text,
    google_id text unique,
    account_type text default 'anonymous',
    migrated_from text,
    created_at datetime default current_timestamp,
    last_active datetime default current_timestamp,
    preferences text default '{}',
    check (account_type in ('anonymous', 'google'))
);
create index if not exists idx_users_account_type on users (account_type);
create index if not exists idx_users_email on users (email);
create index if not exists idx_users_google_id on users (google_id);

create table if not exists accounts (
    id text primary key,
    user_id text not null references users (id) on delete cascade,
    type text not null,
    provider text not null,
    provider_account_id text not null,
    refresh_token text,
    access_token text,
    expires_at integer,
    token_type text,
    scope text,
    id_token text,
    session_state text,
    created_at datetime default current_timestamp,
    unique (provider, provider_account_id)
);
create index if not exists idx_accounts_provider on accounts (provider, provider_account_id);
create index if not exists idx_accounts_user_id on accounts (user_id);

create table if not exists chats (
    id text primary key,
    user_id text not null references users (id) on delete cascade,
    title text not null,
    created_at datetime default current_timestamp,
    updated_at datetime default current_timestamp,
    is_active boolean default 0
);
create index if not exists idx_chats_user_id on chats (user_id);

create table if not exists messages (
    id text primary key,
    chat_id text not null references chats (id) on delete cascade,
    user_id text not null references users (id) on delete cascade,
    content text not null,
    role text not null,
    timestamp datetime default current_timestamp,
    attachments text default '[]',
    metadata text default '{}',
    check (role in ('user', 'assistant'))
);
create index if not exists idx_messages_chat_id on messages (chat_id);
create index if not exists idx_messages_timestamp on messages (timestamp);
create index if not exists idx_messages_user_id on messages (user_id);

create table if not exists attachments (
    id text primary key,
    message_id text not null references messages (id) on delete cascade,
    name text not null,
    type text not null,
    size integer,
    url text,
    data text,
    created_at datetime default current_timestamp
);
create index if not exists idx_attachments_message_id on attachments (message_id);

-- Down
drop table if exists attachments;
drop table if exists messages;
drop table if exists chats;
drop table if exists accounts;
drop table if exists users;
