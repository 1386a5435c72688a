-- Settings of the whole installation, with their defaults.
--
-- Run statement by statement inside one transaction that the runner begins and ends.

-- value is always text, independent of value_type: '1' and '0' for booleans, digits for numbers, JSON for json.
CREATE TABLE IF NOT EXISTS system_settings (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  category TEXT NOT NULL,
  key TEXT NOT NULL,
  value TEXT,
  value_type TEXT DEFAULT 'string',
  description TEXT,
  is_public BOOLEAN DEFAULT 0,
  updated_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  updated_by INTEGER REFERENCES users (id) ON DELETE SET NULL
);

CREATE UNIQUE INDEX IF NOT EXISTS idx_system_settings_category_key ON system_settings (category, key);
CREATE INDEX IF NOT EXISTS idx_system_settings_category ON system_settings (category);
CREATE INDEX IF NOT EXISTS idx_system_settings_is_public ON system_settings (is_public);

-- Settings that pages need before the sign-in are public. Limits on signing in are not: they would show
-- an attacker how often to try.
INSERT OR IGNORE INTO system_settings (category, key, value, value_type, is_public, description) VALUES
  ('auth', 'guestAccessEnabled', '1', 'boolean', 1, 'Allow guest browsing'),
  ('auth', 'userRegistrationEnabled', '1', 'boolean', 1, 'Allow new user registration'),
  ('auth', 'maxLoginAttempts', '5', 'number', 0, 'Failed login attempts before a lockout'),
  ('auth', 'lockoutDurationMinutes', '15', 'number', 0, 'Minutes an account stays locked'),
  ('app', 'siteName', 'Flashpoint Web', 'string', 1, 'Site name displayed in the interface'),
  ('app', 'maintenanceMode', '0', 'boolean', 1, 'Close the site to everybody but admins'),
  ('app', 'defaultTheme', 'dark', 'string', 1, 'Theme mode of new visitors'),
  ('app', 'defaultPrimaryColor', 'blue', 'string', 1, 'Primary color of new visitors'),
  ('metadata', 'autoSyncEnabled', '0', 'boolean', 0, 'Sync metadata when the server starts'),
  ('metadata', 'syncIntervalMinutes', '60', 'number', 0, 'Minutes between two checks for new metadata'),
  ('metadata', 'syncTags', '1', 'boolean', 0, 'Include tags in the sync'),
  ('metadata', 'syncPlatforms', '1', 'boolean', 0, 'Include platforms in the sync'),
  ('features', 'enablePlaylists', '1', 'boolean', 1, 'Offer playlists'),
  ('features', 'enableFavorites', '1', 'boolean', 1, 'Offer favorites'),
  ('features', 'enableStatistics', '1', 'boolean', 1, 'Track play statistics'),
  ('features', 'enableActivityLog', '1', 'boolean', 1, 'Record the activity of users'),
  ('features', 'enableUserProfiles', '1', 'boolean', 1, 'Offer user profiles'),
  ('game', 'defaultScaleMode', 'showall', 'string', 1, 'Scale mode in which Ruffle starts'),
  ('game', 'defaultVolume', '1', 'number', 1, 'Audio volume at the start, from 0 to 1'),
  ('game', 'enableFlash', '1', 'boolean', 1, 'Offer Flash games'),
  ('game', 'enableHtml5', '1', 'boolean', 1, 'Offer HTML5 games');
