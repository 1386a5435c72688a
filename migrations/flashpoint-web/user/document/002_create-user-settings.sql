-- Preferences of each user as key and value, so that a new preference needs no new column.
--
-- Run statement by statement inside one transaction that the runner begins and ends.

-- Values are text whatever they mean; the client converts them.
CREATE TABLE IF NOT EXISTS user_settings (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  setting_key TEXT NOT NULL,
  setting_value TEXT NOT NULL,
  created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  updated_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

CREATE INDEX IF NOT EXISTS idx_user_settings_user_id ON user_settings (user_id);
CREATE INDEX IF NOT EXISTS idx_user_settings_setting_key ON user_settings (setting_key);
CREATE UNIQUE INDEX IF NOT EXISTS idx_user_settings_user_id_setting_key
  ON user_settings (user_id, setting_key);

-- Users who were there before this table get the defaults; a preference they have already is kept. The app writes
-- them for users who register later.
INSERT OR IGNORE INTO user_settings (user_id, setting_key, setting_value)
SELECT users.id, defaults.column1, defaults.column2
FROM users
CROSS JOIN (
  VALUES
    ('theme_mode', 'dark'),
    ('primary_color', 'blue'),
    ('card_size', 'medium'),
    ('view_mode', 'grid'),
    ('sidebar_collapsed', 'false')
) AS defaults;
