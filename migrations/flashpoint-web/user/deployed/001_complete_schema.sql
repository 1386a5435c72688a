-- Purpose: all that the deployed app keeps of its users: accounts, roles, sessions, settings, plays, playlists, jobs and
-- domains, with the default roles, permissions and settings.
--
-- It may run on a database that has some of this: what is there stays as it is.

create table if not exists roles (
    id integer primary key autoincrement,
    name text not null collate nocase unique,
    description text,
    created_at text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    updated_at text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

create table if not exists permissions (
    id integer primary key autoincrement,
    name text not null unique,
    description text,
    resource text not null,
    action text not null,
    created_at text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
create index if not exists idx_permissions_resource_action on permissions (resource, action);

create table if not exists role_permissions (
    id integer primary key autoincrement,
    role_id integer not null references roles (id) on delete cascade,
    permission_id integer not null references permissions (id) on delete cascade,
    created_at text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
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
    created_at text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    updated_at text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    last_login_at text
);
create index if not exists idx_users_email on users (email collate NOCASE);
create index if not exists idx_users_is_active on users (is_active);
create index if not exists idx_users_role_id on users (role_id);
create index if not exists idx_users_username on users (username collate NOCASE);

create table if not exists refresh_tokens (
    id integer primary key autoincrement,
    user_id integer not null references users (id) on delete cascade,
    token text not null unique,
    expires_at text not null,
    created_at text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    revoked_at text
);
create index if not exists idx_refresh_tokens_cleanup on refresh_tokens (expires_at, revoked_at) where revoked_at is null;
create index if not exists idx_refresh_tokens_expires_at on refresh_tokens (expires_at);
create index if not exists idx_refresh_tokens_token on refresh_tokens (token);
create index if not exists idx_refresh_tokens_user_id on refresh_tokens (user_id);

create table if not exists login_attempts (
    id integer primary key autoincrement,
    username text not null,
    ip_address text not null,
    success boolean default 0,
    attempted_at text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
create index if not exists idx_login_attempts_attempted_at on login_attempts (attempted_at);
create index if not exists idx_login_attempts_ip on login_attempts (ip_address);
create index if not exists idx_login_attempts_success_time on login_attempts (success, attempted_at);
create index if not exists idx_login_attempts_username on login_attempts (username);

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
    created_at text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
create index if not exists idx_activity_logs_action on activity_logs (action);
create index if not exists idx_activity_logs_created_at on activity_logs (created_at);
create index if not exists idx_activity_logs_resource on activity_logs (resource);
create index if not exists idx_activity_logs_user_id on activity_logs (user_id);
create index if not exists idx_activity_logs_user_time on activity_logs (user_id, created_at desc);

create table if not exists system_settings (
    id integer primary key autoincrement,
    key text not null unique,
    value text not null,
    data_type text not null,
    category text not null,
    description text,
    is_public boolean default 0,
    default_value text,
    validation_schema text,
    updated_at text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    updated_by integer references users (id) on delete set null,
    check (data_type in ('boolean', 'integer', 'string', 'json', 'float'))
);
create index if not exists idx_system_settings_category on system_settings (category);
create index if not exists idx_system_settings_is_public on system_settings (is_public);
create index if not exists idx_system_settings_key on system_settings (key);

create table if not exists user_settings (
    id integer primary key autoincrement,
    user_id integer not null references users (id) on delete cascade,
    setting_key text not null,
    setting_value text not null,
    created_at text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    updated_at text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    unique (user_id, setting_key)
);
create index if not exists idx_user_settings_key on user_settings (setting_key);
create index if not exists idx_user_settings_user_id on user_settings (user_id);
create index if not exists idx_user_settings_user_key on user_settings (user_id, setting_key);

create table if not exists user_game_plays (
    id integer primary key autoincrement,
    user_id integer not null references users (id) on delete cascade,
    game_id text not null,
    game_title text,
    started_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    ended_at text,
    duration_seconds integer,
    session_id text not null unique
);
create index if not exists idx_user_game_plays_active on user_game_plays (ended_at, started_at) where ended_at is null;
create index if not exists idx_user_game_plays_game_id on user_game_plays (game_id);
create index if not exists idx_user_game_plays_session_id on user_game_plays (session_id);
create index if not exists idx_user_game_plays_started_at on user_game_plays (started_at);
create index if not exists idx_user_game_plays_user_id on user_game_plays (user_id);
create index if not exists idx_user_game_plays_user_time on user_game_plays (user_id, started_at desc);

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
create index if not exists idx_user_game_stats_plays on user_game_stats (user_id, total_plays desc);
create index if not exists idx_user_game_stats_playtime on user_game_stats (user_id, total_playtime_seconds desc);
create index if not exists idx_user_game_stats_recent on user_game_stats (user_id, last_played_at desc);
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
    updated_at text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
create index if not exists idx_user_stats_total_playtime on user_stats (total_playtime_seconds);

create table if not exists user_playlists (
    id integer primary key autoincrement,
    user_id integer not null references users (id) on delete cascade,
    title text not null,
    description text,
    icon text,
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    updated_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    is_public boolean not null default 0,
    game_count integer not null default 0,
    share_token text,
    share_expires_at text,
    show_owner boolean not null default 0,
    check (length(title) > 0 and length(title) <= 255)
);
create index if not exists idx_user_playlists_created_at on user_playlists (created_at desc);
create index if not exists idx_user_playlists_public on user_playlists (is_public) where is_public = 1;
create index if not exists idx_user_playlists_share_expires on user_playlists (share_expires_at) where share_expires_at is not null;
create unique index if not exists idx_user_playlists_share_token on user_playlists (share_token) where share_token is not null;
create index if not exists idx_user_playlists_title on user_playlists (title);
create index if not exists idx_user_playlists_updated_at on user_playlists (updated_at desc);
create index if not exists idx_user_playlists_user_id on user_playlists (user_id);

create table if not exists user_playlist_games (
    id integer primary key autoincrement,
    playlist_id integer not null references user_playlists (id) on delete cascade,
    game_id text not null,
    order_index integer not null default 0,
    notes text,
    added_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    unique (playlist_id, game_id)
);
create index if not exists idx_user_playlist_games_added_at on user_playlist_games (added_at desc);
create index if not exists idx_user_playlist_games_game_id on user_playlist_games (game_id);
create index if not exists idx_user_playlist_games_order on user_playlist_games (playlist_id, order_index);
create index if not exists idx_user_playlist_games_playlist_id on user_playlist_games (playlist_id);

create table if not exists user_favorites (
    id integer primary key autoincrement,
    user_id integer not null references users (id) on delete cascade,
    game_id text not null,
    added_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    unique (user_id, game_id)
);
create index if not exists idx_user_favorites_added_at on user_favorites (added_at desc);
create index if not exists idx_user_favorites_game_id on user_favorites (game_id);
create index if not exists idx_user_favorites_user_id on user_favorites (user_id);

create table if not exists job_execution_logs (
    id integer primary key autoincrement,
    job_id text not null,
    job_name text not null,
    status text not null,
    started_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    completed_at text,
    duration_seconds integer,
    message text,
    error_details text,
    triggered_by text,
    check (status in ('running', 'success', 'failed'))
);
create index if not exists idx_job_logs_job_id on job_execution_logs (job_id);
create index if not exists idx_job_logs_started_at on job_execution_logs (started_at);
create index if not exists idx_job_logs_status on job_execution_logs (status);

create table if not exists domains (
    id integer primary key autoincrement,
    hostname text not null collate nocase unique,
    is_default boolean not null default 0,
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    created_by integer references users (id) on delete set null
);
create unique index if not exists idx_domains_single_default on domains (is_default) where is_default = 1;

create trigger if not exists trg_playlist_games_insert after insert on user_playlist_games
begin
    update user_playlists set game_count = game_count + 1 where id = new.playlist_id;
end;

create trigger if not exists trg_playlist_games_delete after delete on user_playlist_games
begin
    update user_playlists set game_count = game_count - 1 where id = old.playlist_id;
end;

-- Defaults ---------------------------------------------------------------------------------------------------------

insert or ignore into roles (id, name, description) values
  (1, 'admin', 'Full system access'),
  (2, 'user', 'Standard user access'),
  (3, 'guest', 'Read-only access');

insert or ignore into permissions (name, resource, action, description) values
  ('games.read', 'games', 'read', 'View and browse games'),
  ('games.play', 'games', 'play', 'Play games in browser'),
  ('games.download', 'games', 'download', 'Download game files'),
  ('playlists.read', 'playlists', 'read', 'View playlists'),
  ('playlists.create', 'playlists', 'create', 'Create new playlists'),
  ('playlists.update', 'playlists', 'update', 'Update existing playlists'),
  ('playlists.delete', 'playlists', 'delete', 'Delete playlists'),
  ('users.read', 'users', 'read', 'View user accounts'),
  ('users.create', 'users', 'create', 'Create new user accounts'),
  ('users.update', 'users', 'update', 'Update user accounts'),
  ('users.delete', 'users', 'delete', 'Delete user accounts'),
  ('roles.read', 'roles', 'read', 'View roles and permissions'),
  ('roles.create', 'roles', 'create', 'Create new roles'),
  ('roles.update', 'roles', 'update', 'Update roles and permissions'),
  ('roles.delete', 'roles', 'delete', 'Delete roles'),
  ('settings.read', 'settings', 'read', 'View system settings'),
  ('settings.update', 'settings', 'update', 'Update system settings'),
  ('activities.read', 'activities', 'read', 'View activity logs');

insert or ignore into role_permissions (role_id, permission_id) select 1, id from permissions order by id;
insert or ignore into role_permissions (role_id, permission_id)
select 2, id from permissions where resource in ('games', 'playlists') order by id;
insert or ignore into role_permissions (role_id, permission_id)
select 3, id from permissions where name in ('games.read', 'games.play', 'playlists.read') order by id;

insert or ignore into system_settings (key, value, data_type, category, is_public, default_value, validation_schema, description)
values
  ('auth.guest_access_enabled', '1', 'boolean', 'auth', 1, '1', '{"type":"boolean"}', 'Allow guest browsing'),
  ('auth.user_registration_enabled', '1', 'boolean', 'auth', 1, '1', '{"type":"boolean"}', 'Allow new user registration'),
  ('auth.require_email_verification', '0', 'boolean', 'auth', 0, '0', '{"type":"boolean"}', 'Ask for a confirmed e-mail'),
  ('auth.session_timeout_minutes', '60', 'integer', 'auth', 0, '60', '{"type":"integer","minimum":5,"maximum":1440}', 'Minutes a session lasts'),
  ('auth.max_login_attempts', '5', 'integer', 'auth', 0, '5', '{"type":"integer","minimum":1,"maximum":100}', 'Failed attempts before a lockout'),
  ('auth.lockout_duration_minutes', '15', 'integer', 'auth', 0, '15', '{"type":"integer","minimum":1,"maximum":1440}', 'Minutes of a lockout'),
  ('app.site_name', 'Flashpoint Web', 'string', 'app', 1, 'Flashpoint Web', '{"type":"string","minLength":1,"maxLength":100}', 'Name of the site'),
  ('app.maintenance_mode', '0', 'boolean', 'app', 1, '0', '{"type":"boolean"}', 'Closed to everybody but admins'),
  ('app.default_theme', 'dark', 'string', 'app', 1, 'dark', '{"type":"string","enum":["light","dark","system"]}', 'Theme of new visitors'),
  ('app.default_primary_color', 'blue', 'string', 'app', 1, 'blue', '{"type":"string","enum":["slate","gray","zinc","neutral","stone","red","orange","amber","yellow","lime","green","emerald","teal","cyan","sky","blue","indigo","violet","purple","fuchsia","pink","rose"]}', 'Color of new visitors'),
  ('app.date_format', 'MM/dd/yyyy', 'string', 'app', 1, 'MM/dd/yyyy', '{"type":"string","enum":["MM/dd/yyyy","dd/MM/yyyy","yyyy-MM-dd","MMM dd, yyyy","dd MMM yyyy","MMMM dd, yyyy","dd.MM.yyyy"]}', 'How dates are shown'),
  ('app.time_format', 'hh:mm a', 'string', 'app', 1, 'hh:mm a', '{"type":"string","enum":["hh:mm a","HH:mm","hh:mm:ss a","HH:mm:ss"]}', 'How times are shown'),
  ('metadata.auto_sync_enabled', '0', 'boolean', 'metadata', 0, '0', '{"type":"boolean"}', 'Sync at start-up'),
  ('metadata.sync_interval_minutes', '60', 'integer', 'metadata', 0, '60', '{"type":"integer","minimum":1,"maximum":1440}', 'Minutes between syncs'),
  ('metadata.sync_tags', '1', 'boolean', 'metadata', 0, '1', '{"type":"boolean"}', 'Sync tags'),
  ('metadata.sync_platforms', '1', 'boolean', 'metadata', 0, '1', '{"type":"boolean"}', 'Sync platforms'),
  ('features.enable_playlists', '1', 'boolean', 'features', 1, '1', '{"type":"boolean"}', 'Playlists'),
  ('features.enable_favorites', '1', 'boolean', 'features', 1, '1', '{"type":"boolean"}', 'Favorites'),
  ('features.enable_statistics', '1', 'boolean', 'features', 1, '1', '{"type":"boolean"}', 'Statistics'),
  ('storage.cache_size_mb', '500', 'integer', 'storage', 0, '500', '{"type":"integer","minimum":100,"maximum":10000}', 'Size of the cache'),
  ('storage.log_retention_days', '30', 'integer', 'storage', 0, '30', '{"type":"integer","minimum":1,"maximum":365}', 'Days that logs are kept'),
  ('storage.temp_file_retention_days', '7', 'integer', 'storage', 0, '7', '{"type":"integer","minimum":1,"maximum":30}', 'Days that temporary files are kept'),
  ('rate_limit.api_requests_per_minute', '100', 'integer', 'rate_limit', 0, '100', '{"type":"integer","minimum":10,"maximum":10000}', 'Requests per minute'),
  ('rate_limit.enable_rate_limiting', '1', 'boolean', 'rate_limit', 0, '1', '{"type":"boolean"}', 'Limit requests'),
  ('jobs.metadata_sync_enabled', '0', 'boolean', 'jobs', 0, '0', null, 'Run the metadata sync'),
  ('jobs.metadata_sync_schedule', '0 * * * *', 'string', 'jobs', 0, '0 * * * *', null, 'When the metadata sync runs'),
  ('jobs.ruffle_update_enabled', '0', 'boolean', 'jobs', 0, '0', null, 'Run the Ruffle update'),
  ('jobs.ruffle_update_schedule', '0 0 * * *', 'string', 'jobs', 0, '0 0 * * *', null, 'When the Ruffle update runs');
