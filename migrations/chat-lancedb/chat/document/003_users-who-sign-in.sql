-- Users who sign in: from four columns to ten. SQLite adds no UNIQUE column, so that two unique indexes guard instead; both
-- take any number of users without a value. Existing users become anonymous, as with the default of the app.

-- Up
alter table users add column email text;
alter table users add column name text;
alter table users add column image text;
alter table users add column google_id text;
alter table users add column account_type text default 'anonymous' check (account_type in ('anonymous', 'google'));
alter table users add column migrated_from text;

create unique index if not exists users_email_unique on users (email);
create unique index if not exists users_google_id_unique on users (google_id);
create index if not exists idx_users_email on users (email);
create index if not exists idx_users_google_id on users (google_id);
create index if not exists idx_users_account_type on users (account_type);
create index if not exists idx_accounts_user_id on accounts (user_id);
create index if not exists idx_accounts_provider on accounts (provider, provider_account_id);

-- Down
drop index if exists idx_accounts_provider;
drop index if exists idx_accounts_user_id;
drop index if exists idx_users_account_type;
drop index if exists idx_users_google_id;
drop index if exists idx_users_email;
drop index if exists users_google_id_unique;
drop index if exists users_email_unique;
alter table users drop column migrated_from;
alter table users drop column account_type;
alter table users drop column google_id;
alter table users drop column image;
alter table users drop column name;
alter table users drop column email;
