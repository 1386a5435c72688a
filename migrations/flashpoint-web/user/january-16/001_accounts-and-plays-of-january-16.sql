-- Purpose: what the app made in the middle of January 2026, before it kept a ledger: one row of settings for signing in, and
-- two columns of a user for colors.

create table if not exists roles (
    id integer primary key autoincrement,
    name text not null collate nocase unique,
    description text,
    priority integer default 0,
    created_at text default (datetime('now')),
    updated_at text default (datetime('now'))
);

create table if not exists permissions (
    id integer primary key autoincrement,
    name text not null unique,
    description text,
    resource text not null,
    action text not null,
    created_at text default (datetime('now'))
);
create index if not exists idx_permissions_resource_action on permissions (resource, action);

create table if not exists role_permissions (
    id integer primary key autoincrement,
    role_id integer not null references roles (id) on delete cascade,
    permission_id integer not null references permissions (id) on delete cascade,
    created_at text default (datetime('now')),
    unique (role_id, permission_id)
);
create index if not exists idx_role_permissions_permission on role_permissions (permission_id);
create index if not exists idx_role_permissions_role on role_permissions (role_id);

create table if not exists users (
    id integer primary key autoincrement,
    username text not null collate nocase unique,
    email text not null collate nocase unique,
    password_hash text not null,
    role_id integer not null references roles (id) on delete restrict,
    is_active boolean default 1,
    created_at text default (datetime('now')),
    updated_at text default (datetime('now')),
    last_login_at text,
    theme_color text default 'blue-500',
    surface_color text default 'slate-700'
);
create index if not exists idx_users_email on users (email collate NOCASE);
create index if not exists idx_users_is_active on users (is_active);
create index if not exists idx_users_role_id on users (role_id);
create index if not exists idx_users_theme_color on users (theme_color);
create index if not exists idx_users_username on users (username collate NOCASE);

create table if not exists auth_settings (
    id integer primary key,
    guest_access_enabled boolean default 1,
    user_registration_enabled boolean default 1,
    require_email_verification boolean default 0,
    session_timeout_minutes integer default 60,
    max_login_attempts integer default 5,
    lockout_duration_minutes integer default 15,
    updated_at text default (datetime('now')),
    updated_by integer references users (id) on delete set null,
    check (id = 1)
);

create table if not exists activity_logs (
    id integer primary key autoincrement,
    user_id integer references users (id) on delete set null,
    username text,
    action text not null,
    resource text,
    resource_id text,
    details text,
    ip_address text,
    user_agent text,
    created_at text default (datetime('now'))
);
create index if not exists idx_activity_logs_action on activity_logs (action);
create index if not exists idx_activity_logs_created_at on activity_logs (created_at);
create index if not exists idx_activity_logs_resource on activity_logs (resource);
create index if not exists idx_activity_logs_user_id on activity_logs (user_id);

create table if not exists login_attempts (
    id integer primary key autoincrement,
    username text not null,
    ip_address text not null,
    success boolean default 0,
    attempted_at text default (datetime('now'))
);
create index if not exists idx_login_attempts_attempted_at on login_attempts (attempted_at);
create index if not exists idx_login_attempts_ip on login_attempts (ip_address);
create index if not exists idx_login_attempts_username on login_attempts (username);

create table if not exists refresh_tokens (
    id integer primary key autoincrement,
    user_id integer not null references users (id) on delete cascade,
    token text not null unique,
    expires_at text not null,
    created_at text default (datetime('now')),
    revoked_at text
);
create index if not exists idx_refresh_tokens_expires_at on refresh_tokens (expires_at);
create index if not exists idx_refresh_tokens_token on refresh_tokens (token);
create index if not exists idx_refresh_tokens_user_id on refresh_tokens (user_id);

create table if not exists user_game_plays (
    id integer primary key autoincrement,
    user_id integer not null references users (id) on delete cascade,
    game_id text not null,
    game_title text,
    started_at text not null default (datetime('now')),
    ended_at text,
    duration_seconds integer,
    session_id text not null unique
);
create index if not exists idx_user_game_plays_game_id on user_game_plays (game_id);
create index if not exists idx_user_game_plays_session_id on user_game_plays (session_id);
create index if not exists idx_user_game_plays_started_at on user_game_plays (started_at);
create index if not exists idx_user_game_plays_user_id on user_game_plays (user_id);

create table if not exists user_game_stats (
    id integer primary key autoincrement,
    user_id integer not null references users (id) on delete cascade,
    game_id text not null,
    game_title text,
    total_plays integer default 0,
    total_playtime_seconds integer default 0,
    first_played_at text,
    last_played_at text,
    unique (user_id, game_id)
);
create index if not exists idx_user_game_stats_game_id on user_game_stats (game_id);
create index if not exists idx_user_game_stats_total_plays on user_game_stats (total_plays);
create index if not exists idx_user_game_stats_total_playtime on user_game_stats (total_playtime_seconds);
create index if not exists idx_user_game_stats_user_id on user_game_stats (user_id);

create table if not exists user_stats (
    user_id integer primary key references users (id) on delete cascade,
    total_games_played integer default 0,
    total_playtime_seconds integer default 0,
    total_sessions integer default 0,
    first_play_at text,
    last_play_at text,
    updated_at text default (datetime('now'))
);
create index if not exists idx_user_stats_total_playtime on user_stats (total_playtime_seconds);
