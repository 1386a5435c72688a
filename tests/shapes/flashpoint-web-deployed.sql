-- user.db as deployed databases of Flashpoint Web hold it: 17 tables of the app and its ledger, 60 named indexes,
-- 2 triggers, 28 settings, 3 roles, 18 permissions. Where a name was not known, it follows the app's own pattern.

CREATE TABLE migrations (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,
  applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  checksum TEXT,
  execution_time_ms INTEGER,
  description TEXT
);
CREATE INDEX idx_migrations_name ON migrations (name);
CREATE INDEX idx_migrations_applied_at ON migrations (applied_at);

CREATE TABLE roles (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE COLLATE NOCASE,
  description TEXT,
  created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  updated_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
CREATE INDEX idx_roles_name ON roles (name);

CREATE TABLE permissions (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,
  description TEXT,
  resource TEXT NOT NULL,
  action TEXT NOT NULL,
  created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
CREATE INDEX idx_permissions_name ON permissions (name);
CREATE INDEX idx_permissions_resource_action ON permissions (resource, action);

CREATE TABLE role_permissions (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  role_id INTEGER NOT NULL,
  permission_id INTEGER NOT NULL,
  created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  UNIQUE (role_id, permission_id),
  FOREIGN KEY (role_id) REFERENCES roles (id) ON DELETE CASCADE,
  FOREIGN KEY (permission_id) REFERENCES permissions (id) ON DELETE CASCADE
);
CREATE INDEX idx_role_permissions_role ON role_permissions (role_id);
CREATE INDEX idx_role_permissions_permission ON role_permissions (permission_id);

CREATE TABLE users (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  username TEXT NOT NULL UNIQUE COLLATE NOCASE,
  email TEXT NOT NULL UNIQUE COLLATE NOCASE,
  password_hash TEXT NOT NULL,
  role_id INTEGER NOT NULL,
  is_active BOOLEAN DEFAULT 1,
  created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  updated_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  last_login_at TEXT,
  FOREIGN KEY (role_id) REFERENCES roles (id) ON DELETE RESTRICT
);
CREATE INDEX idx_users_username ON users (username);
CREATE INDEX idx_users_email ON users (email);
CREATE INDEX idx_users_role ON users (role_id);
CREATE INDEX idx_users_active ON users (is_active);

CREATE TABLE refresh_tokens (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id INTEGER NOT NULL,
  token TEXT NOT NULL UNIQUE,
  expires_at TEXT NOT NULL,
  created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  revoked_at TEXT,
  FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX idx_refresh_tokens_token ON refresh_tokens (token);
CREATE INDEX idx_refresh_tokens_user ON refresh_tokens (user_id);
CREATE INDEX idx_refresh_tokens_expires ON refresh_tokens (expires_at);
CREATE INDEX idx_refresh_tokens_cleanup ON refresh_tokens (expires_at, revoked_at) WHERE revoked_at IS NOT NULL;

CREATE TABLE activity_logs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id INTEGER,
  username TEXT,
  action TEXT NOT NULL,
  resource TEXT,
  resource_id TEXT,
  details TEXT,
  ip_address TEXT,
  user_agent TEXT,
  created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE SET NULL
);
CREATE INDEX idx_activity_logs_user ON activity_logs (user_id);
CREATE INDEX idx_activity_logs_action ON activity_logs (action);
CREATE INDEX idx_activity_logs_resource ON activity_logs (resource);
CREATE INDEX idx_activity_logs_created ON activity_logs (created_at);
CREATE INDEX idx_activity_logs_user_time ON activity_logs (user_id, created_at);

CREATE TABLE login_attempts (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  username TEXT NOT NULL,
  ip_address TEXT NOT NULL,
  success BOOLEAN DEFAULT 0,
  attempted_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
CREATE INDEX idx_login_attempts_username ON login_attempts (username);
CREATE INDEX idx_login_attempts_ip ON login_attempts (ip_address);
CREATE INDEX idx_login_attempts_time ON login_attempts (attempted_at);
CREATE INDEX idx_login_attempts_success_time ON login_attempts (success, attempted_at);

CREATE TABLE user_game_plays (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id INTEGER NOT NULL,
  game_id TEXT NOT NULL,
  game_title TEXT,
  started_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  ended_at TEXT,
  duration_seconds INTEGER,
  session_id TEXT NOT NULL UNIQUE,
  FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX idx_user_game_plays_user ON user_game_plays (user_id);
CREATE INDEX idx_user_game_plays_game ON user_game_plays (game_id);
CREATE INDEX idx_user_game_plays_started ON user_game_plays (started_at);
CREATE INDEX idx_user_game_plays_session ON user_game_plays (session_id);
CREATE INDEX idx_user_game_plays_user_time ON user_game_plays (user_id, started_at);
CREATE INDEX idx_user_game_plays_active ON user_game_plays (ended_at, started_at) WHERE ended_at IS NULL;

CREATE TABLE user_game_stats (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id INTEGER NOT NULL,
  game_id TEXT NOT NULL,
  game_title TEXT,
  total_plays INTEGER DEFAULT 0,
  total_playtime_seconds INTEGER DEFAULT 0,
  first_played_at TEXT,
  last_played_at TEXT,
  UNIQUE (user_id, game_id),
  FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX idx_user_game_stats_user ON user_game_stats (user_id);
CREATE INDEX idx_user_game_stats_game ON user_game_stats (game_id);
CREATE INDEX idx_user_game_stats_plays ON user_game_stats (total_plays DESC);
CREATE INDEX idx_user_game_stats_playtime ON user_game_stats (total_playtime_seconds DESC);
CREATE INDEX idx_user_game_stats_recent ON user_game_stats (user_id, last_played_at DESC);

CREATE TABLE user_stats (
  user_id INTEGER PRIMARY KEY,
  total_games_played INTEGER DEFAULT 0,
  total_playtime_seconds INTEGER DEFAULT 0,
  total_sessions INTEGER DEFAULT 0,
  first_play_at TEXT,
  last_play_at TEXT,
  updated_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX idx_user_stats_playtime ON user_stats (total_playtime_seconds DESC);

CREATE TABLE user_settings (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id INTEGER NOT NULL,
  setting_key TEXT NOT NULL,
  setting_value TEXT NOT NULL,
  created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  updated_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  UNIQUE (user_id, setting_key),
  FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX idx_user_settings_user ON user_settings (user_id);
CREATE INDEX idx_user_settings_key ON user_settings (setting_key);

CREATE TABLE system_settings (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT NOT NULL UNIQUE,
  value TEXT NOT NULL,
  data_type TEXT NOT NULL CHECK (data_type IN ('boolean', 'integer', 'string', 'json', 'float')),
  category TEXT NOT NULL,
  description TEXT,
  is_public BOOLEAN DEFAULT 0,
  default_value TEXT,
  validation_schema TEXT,
  updated_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  updated_by INTEGER,
  FOREIGN KEY (updated_by) REFERENCES users (id) ON DELETE SET NULL
);
CREATE INDEX idx_system_settings_key ON system_settings (key);
CREATE INDEX idx_system_settings_category ON system_settings (category);
CREATE INDEX idx_system_settings_is_public ON system_settings (is_public);

CREATE TABLE user_playlists (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id INTEGER NOT NULL,
  title TEXT NOT NULL,
  description TEXT,
  icon TEXT,
  created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  is_public BOOLEAN NOT NULL DEFAULT 0,
  game_count INTEGER NOT NULL DEFAULT 0,
  share_token TEXT,
  share_expires_at TEXT,
  show_owner BOOLEAN NOT NULL DEFAULT 0,
  FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
  CHECK (length(title) > 0 AND length(title) <= 255)
);
CREATE INDEX idx_user_playlists_user ON user_playlists (user_id);
CREATE INDEX idx_user_playlists_title ON user_playlists (title);
CREATE INDEX idx_user_playlists_created ON user_playlists (created_at);
CREATE INDEX idx_user_playlists_updated ON user_playlists (updated_at);
CREATE INDEX idx_user_playlists_public ON user_playlists (is_public);
CREATE UNIQUE INDEX idx_user_playlists_share_token ON user_playlists (share_token) WHERE share_token IS NOT NULL;

CREATE TABLE user_playlist_games (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  playlist_id INTEGER NOT NULL,
  game_id TEXT NOT NULL,
  order_index INTEGER NOT NULL DEFAULT 0,
  notes TEXT,
  added_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  UNIQUE (playlist_id, game_id),
  FOREIGN KEY (playlist_id) REFERENCES user_playlists (id) ON DELETE CASCADE
);
CREATE INDEX idx_user_playlist_games_playlist ON user_playlist_games (playlist_id);
CREATE INDEX idx_user_playlist_games_game ON user_playlist_games (game_id);
CREATE INDEX idx_user_playlist_games_order ON user_playlist_games (playlist_id, order_index);

CREATE TRIGGER trg_playlist_games_insert AFTER INSERT ON user_playlist_games
BEGIN
  UPDATE user_playlists SET game_count = game_count + 1 WHERE id = NEW.playlist_id;
END;
CREATE TRIGGER trg_playlist_games_delete AFTER DELETE ON user_playlist_games
BEGIN
  UPDATE user_playlists SET game_count = game_count - 1 WHERE id = OLD.playlist_id;
END;

CREATE TABLE user_favorites (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id INTEGER NOT NULL,
  game_id TEXT NOT NULL,
  added_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  UNIQUE (user_id, game_id),
  FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX idx_user_favorites_user ON user_favorites (user_id);
CREATE INDEX idx_user_favorites_game ON user_favorites (game_id);
CREATE INDEX idx_user_favorites_added ON user_favorites (added_at);
CREATE INDEX idx_user_favorites_user_time ON user_favorites (user_id, added_at);

CREATE TABLE job_execution_logs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  job_id TEXT NOT NULL,
  job_name TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('running', 'success', 'failed')),
  started_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  completed_at TEXT,
  duration_seconds INTEGER,
  message TEXT,
  error_details TEXT,
  triggered_by TEXT
);
CREATE INDEX idx_job_execution_logs_job ON job_execution_logs (job_id);
CREATE INDEX idx_job_execution_logs_status ON job_execution_logs (status);
CREATE INDEX idx_job_execution_logs_started ON job_execution_logs (started_at);
CREATE INDEX idx_job_execution_logs_job_time ON job_execution_logs (job_id, started_at);

CREATE TABLE domains (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  hostname TEXT NOT NULL UNIQUE COLLATE NOCASE,
  is_default BOOLEAN NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  created_by INTEGER,
  FOREIGN KEY (created_by) REFERENCES users (id) ON DELETE SET NULL
);
CREATE INDEX idx_domains_hostname ON domains (hostname);
CREATE UNIQUE INDEX idx_domains_single_default ON domains (is_default) WHERE is_default = 1;

-- Defaults ------------------------------------------------------------------------------------------------------

INSERT INTO roles (id, name, description) VALUES
  (1, 'admin', 'Full system access'),
  (2, 'user', 'Standard user access'),
  (3, 'guest', 'Read-only access');

INSERT INTO permissions (name, resource, action, description) VALUES
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

INSERT INTO role_permissions (role_id, permission_id) SELECT 1, id FROM permissions ORDER BY id;
INSERT INTO role_permissions (role_id, permission_id)
SELECT 2, id FROM permissions WHERE resource IN ('games', 'playlists') ORDER BY id;
INSERT INTO role_permissions (role_id, permission_id)
SELECT 3, id FROM permissions WHERE name IN ('games.read', 'games.play', 'playlists.read') ORDER BY id;

INSERT INTO system_settings (key, value, data_type, category, is_public, default_value, validation_schema, description)
VALUES
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
  ('jobs.metadata_sync_enabled', '0', 'boolean', 'jobs', 0, '0', NULL, 'Run the metadata sync'),
  ('jobs.metadata_sync_schedule', '0 * * * *', 'string', 'jobs', 0, '0 * * * *', NULL, 'When the metadata sync runs'),
  ('jobs.ruffle_update_enabled', '0', 'boolean', 'jobs', 0, '0', NULL, 'Run the Ruffle update'),
  ('jobs.ruffle_update_schedule', '0 0 * * *', 'string', 'jobs', 0, '0 0 * * *', NULL, 'When the Ruffle update runs');
