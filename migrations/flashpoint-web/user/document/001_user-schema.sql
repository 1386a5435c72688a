-- Users, roles, permissions, sign-in tokens, the activity log, login attempts and play tracking,
-- with the default roles, permissions and assignments.
--
-- Run statement by statement inside one transaction that the runner begins and ends.
-- Times are ISO 8601 in UTC with milliseconds, the form that the app's own code writes.

-- Roles ---------------------------------------------------------------------------------------------------------

-- AUTOINCREMENT throughout: an ID in a token or in a log is never reused for another user.
CREATE TABLE IF NOT EXISTS roles (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL COLLATE NOCASE,
  description TEXT,
  priority INTEGER DEFAULT 0,
  created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  updated_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

-- Uniqueness comes from named indexes, so that a comparison of schemas shows which one is missing.
CREATE UNIQUE INDEX IF NOT EXISTS idx_roles_name ON roles (name COLLATE NOCASE);

-- Permissions ---------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS permissions (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL,
  description TEXT,
  resource TEXT NOT NULL,
  action TEXT NOT NULL,
  created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

CREATE UNIQUE INDEX IF NOT EXISTS idx_permissions_name ON permissions (name);
CREATE INDEX IF NOT EXISTS idx_permissions_resource_action ON permissions (resource, action);

CREATE TABLE IF NOT EXISTS role_permissions (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  role_id INTEGER NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
  permission_id INTEGER NOT NULL REFERENCES permissions (id) ON DELETE CASCADE,
  created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

CREATE INDEX IF NOT EXISTS idx_role_permissions_role_id ON role_permissions (role_id);
CREATE INDEX IF NOT EXISTS idx_role_permissions_permission_id ON role_permissions (permission_id);
CREATE UNIQUE INDEX IF NOT EXISTS idx_role_permissions_role_id_permission_id
  ON role_permissions (role_id, permission_id);

-- Users ---------------------------------------------------------------------------------------------------------

-- RESTRICT: a role with users cannot be deleted; otherwise its users would lose their access.
CREATE TABLE IF NOT EXISTS users (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  username TEXT NOT NULL COLLATE NOCASE,
  email TEXT NOT NULL COLLATE NOCASE,
  password_hash TEXT NOT NULL,
  role_id INTEGER NOT NULL REFERENCES roles (id) ON DELETE RESTRICT,
  is_active BOOLEAN DEFAULT 1,
  created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  updated_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  last_login_at TEXT
);

CREATE UNIQUE INDEX IF NOT EXISTS idx_users_username ON users (username COLLATE NOCASE);
CREATE UNIQUE INDEX IF NOT EXISTS idx_users_email ON users (email COLLATE NOCASE);
CREATE INDEX IF NOT EXISTS idx_users_role_id ON users (role_id);
CREATE INDEX IF NOT EXISTS idx_users_is_active ON users (is_active);

-- Sign-in -------------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS refresh_tokens (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  token TEXT NOT NULL,
  expires_at TEXT NOT NULL,
  created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  revoked_at TEXT
);

CREATE UNIQUE INDEX IF NOT EXISTS idx_refresh_tokens_token ON refresh_tokens (token);
CREATE INDEX IF NOT EXISTS idx_refresh_tokens_user_id ON refresh_tokens (user_id);
CREATE INDEX IF NOT EXISTS idx_refresh_tokens_expires_at ON refresh_tokens (expires_at);

-- No key to users: attempts on names that do not exist count as well. The name is stored as it was typed.
CREATE TABLE IF NOT EXISTS login_attempts (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  username TEXT NOT NULL,
  ip_address TEXT NOT NULL,
  success BOOLEAN DEFAULT 0,
  attempted_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

CREATE INDEX IF NOT EXISTS idx_login_attempts_username ON login_attempts (username);
CREATE INDEX IF NOT EXISTS idx_login_attempts_ip_address ON login_attempts (ip_address);
CREATE INDEX IF NOT EXISTS idx_login_attempts_attempted_at ON login_attempts (attempted_at);

-- Activity ------------------------------------------------------------------------------------------------------

-- SET NULL, with a copy of the name: the log outlives the user and still contains the name.
CREATE TABLE IF NOT EXISTS activity_logs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id INTEGER REFERENCES users (id) ON DELETE SET NULL,
  username TEXT,
  action TEXT NOT NULL,
  resource TEXT,
  resource_id TEXT,
  details TEXT,
  ip_address TEXT,
  user_agent TEXT,
  created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

CREATE INDEX IF NOT EXISTS idx_activity_logs_user_id ON activity_logs (user_id);
CREATE INDEX IF NOT EXISTS idx_activity_logs_action ON activity_logs (action);
CREATE INDEX IF NOT EXISTS idx_activity_logs_resource ON activity_logs (resource);
CREATE INDEX IF NOT EXISTS idx_activity_logs_created_at ON activity_logs (created_at);

-- Play tracking -------------------------------------------------------------------------------------------------

-- game_id names a row of another database, so no key can guard it; game_title keeps what was played readable
-- after the game has left the archive. ended_at stays NULL while a session is active or was abandoned.
CREATE TABLE IF NOT EXISTS user_game_plays (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  game_id TEXT NOT NULL,
  game_title TEXT,
  started_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  ended_at TEXT,
  duration_seconds INTEGER,
  session_id TEXT NOT NULL
);

CREATE UNIQUE INDEX IF NOT EXISTS idx_user_game_plays_session_id ON user_game_plays (session_id);
CREATE INDEX IF NOT EXISTS idx_user_game_plays_user_id ON user_game_plays (user_id);
CREATE INDEX IF NOT EXISTS idx_user_game_plays_game_id ON user_game_plays (game_id);
CREATE INDEX IF NOT EXISTS idx_user_game_plays_started_at ON user_game_plays (started_at);

CREATE TABLE IF NOT EXISTS user_game_stats (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  game_id TEXT NOT NULL,
  game_title TEXT,
  total_plays INTEGER DEFAULT 0,
  total_playtime_seconds INTEGER DEFAULT 0,
  first_played_at TEXT,
  last_played_at TEXT
);

CREATE INDEX IF NOT EXISTS idx_user_game_stats_user_id ON user_game_stats (user_id);
CREATE INDEX IF NOT EXISTS idx_user_game_stats_game_id ON user_game_stats (game_id);
CREATE INDEX IF NOT EXISTS idx_user_game_stats_total_plays ON user_game_stats (total_plays);
CREATE INDEX IF NOT EXISTS idx_user_game_stats_total_playtime_seconds
  ON user_game_stats (total_playtime_seconds);
-- The key that the app's "insert or add to" statement meets when a session ends.
CREATE UNIQUE INDEX IF NOT EXISTS idx_user_game_stats_user_id_game_id ON user_game_stats (user_id, game_id);

CREATE TABLE IF NOT EXISTS user_stats (
  user_id INTEGER PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
  total_games_played INTEGER DEFAULT 0,
  total_playtime_seconds INTEGER DEFAULT 0,
  total_sessions INTEGER DEFAULT 0,
  first_play_at TEXT,
  last_play_at TEXT,
  updated_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

CREATE INDEX IF NOT EXISTS idx_user_stats_total_playtime_seconds ON user_stats (total_playtime_seconds);

-- Defaults ------------------------------------------------------------------------------------------------------

-- The app identifies its built-in roles by these IDs.
INSERT OR IGNORE INTO roles (id, name, description, priority) VALUES
  (1, 'admin', 'Full system access', 100),
  (2, 'user', 'Standard user access', 50),
  (3, 'guest', 'Read-only access', 0);

INSERT OR IGNORE INTO permissions (name, resource, action, description) VALUES
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

-- Assignments find permissions by name, because their ids depend on what the table held before.
INSERT OR IGNORE INTO role_permissions (role_id, permission_id)
SELECT 1, id FROM permissions ORDER BY id;

-- Defined by exclusion, so that it also covers permissions of games and playlists that existed before.
INSERT OR IGNORE INTO role_permissions (role_id, permission_id)
SELECT 2, id FROM permissions
WHERE resource NOT IN ('users', 'roles', 'settings') AND name <> 'activities.read'
ORDER BY id;

INSERT OR IGNORE INTO role_permissions (role_id, permission_id)
SELECT 3, id FROM permissions WHERE name IN ('games.read', 'playlists.read') ORDER BY id;
