-- Accounts elsewhere by which users sign in. An app that is newer than its database makes this table by itself, and then
-- fails for want of the columns that the next file adds: so it may be there.

-- Up
create table if not exists accounts (
    id text primary key,
    user_id text not null,
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
    foreign key (user_id) references users (id) on delete cascade,
    unique (provider, provider_account_id)
);

-- Down
drop table if exists accounts;
