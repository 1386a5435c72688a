-- The application's database of YAAI as a deployment has it: seven migrations, of which two had the number 6.
CREATE TABLE credentials (
  id TEXT PRIMARY KEY,
  api_key_encrypted TEXT NOT NULL,
  base_url TEXT,
  metadata TEXT,
  created_at TEXT NOT NULL DEFAULT (datetime('now')),
  updated_at TEXT NOT NULL DEFAULT (datetime('now')),
  name TEXT,
  format TEXT NOT NULL DEFAULT 'openai',
  brand_color TEXT,
  image_endpoint TEXT,
  image_models TEXT DEFAULT '[]',
  embedding_endpoint TEXT,
  embedding_models TEXT DEFAULT '[]',
  video_endpoint TEXT,
  video_models TEXT DEFAULT '[]',
  tts_endpoint TEXT,
  tts_models TEXT DEFAULT '[]',
  tee_endpoint TEXT,
  tee_models TEXT DEFAULT '[]'
);

CREATE TABLE settings (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL,
  updated_at TEXT NOT NULL DEFAULT (datetime('now'))
);

CREATE TABLE provider_configs (
  id TEXT PRIMARY KEY,
  enabled INTEGER NOT NULL DEFAULT 1,
  default_model TEXT,
  base_url TEXT,
  created_at TEXT NOT NULL DEFAULT (datetime('now')),
  updated_at TEXT NOT NULL DEFAULT (datetime('now'))
);

CREATE TABLE user_models (
  id TEXT PRIMARY KEY,
  provider TEXT NOT NULL,
  model_id TEXT NOT NULL,
  display_name TEXT NOT NULL,
  context_window INTEGER,
  max_output INTEGER,
  supports_vision INTEGER DEFAULT 0,
  supports_tools INTEGER DEFAULT 0,
  input_price REAL,
  output_price REAL,
  is_default INTEGER DEFAULT 0,
  supports_reasoning INTEGER DEFAULT 0,
  enabled INTEGER DEFAULT 1,
  sort_order INTEGER DEFAULT 0,
  created_at TEXT NOT NULL DEFAULT (datetime('now')),
  updated_at TEXT NOT NULL DEFAULT (datetime('now')),
  UNIQUE (provider, model_id)
);

CREATE TABLE variables (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  type TEXT NOT NULL CHECK (type IN ('system', 'app-level', 'wildcard', 'rest-api', 'javascript')),
  scope TEXT NOT NULL CHECK (scope IN ('system', 'app', 'chat')),
  description TEXT,
  is_enabled INTEGER NOT NULL DEFAULT 1 CHECK (is_enabled IN (0, 1)),
  created_at TEXT NOT NULL DEFAULT (datetime('now')),
  updated_at TEXT NOT NULL DEFAULT (datetime('now')),
  value TEXT,
  rest_method TEXT CHECK (rest_method IN ('GET', 'POST', 'PUT', 'PATCH', 'DELETE')),
  rest_url TEXT,
  rest_headers TEXT,
  rest_body TEXT,
  rest_auth_type TEXT CHECK (rest_auth_type IN ('bearer', 'basic', 'api-key')),
  rest_auth_value TEXT,
  js_code TEXT,
  js_timeout INTEGER DEFAULT 5000
);

CREATE TABLE proxy_configs (
  id TEXT PRIMARY KEY,
  nickname TEXT NOT NULL UNIQUE,
  type TEXT NOT NULL CHECK (type IN ('http', 'socks5')),
  hostname TEXT NOT NULL,
  port INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),
  username TEXT,
  password TEXT,
  is_active INTEGER NOT NULL DEFAULT 0 CHECK (is_active IN (0, 1)),
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL
);
CREATE UNIQUE INDEX idx_proxy_active ON proxy_configs(is_active) WHERE is_active = 1;
CREATE TRIGGER proxy_activate BEFORE UPDATE OF is_active ON proxy_configs WHEN NEW.is_active = 1 BEGIN
  UPDATE proxy_configs SET is_active = 0 WHERE is_active = 1 AND id <> NEW.id;
END;

CREATE TABLE drafts (
  project_id TEXT PRIMARY KEY,
  project_type TEXT NOT NULL CHECK (project_type IN ('chat', 'code', 'image', 'research')),
  content TEXT NOT NULL DEFAULT '',
  selected_model TEXT,
  attachments TEXT,
  metadata TEXT,
  created_at TEXT NOT NULL DEFAULT (datetime('now')),
  updated_at TEXT NOT NULL DEFAULT (datetime('now'))
);

CREATE TABLE _migrations (
  version INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  applied_at TEXT NOT NULL DEFAULT (datetime('now'))
);
INSERT INTO _migrations (version, name) VALUES (1, 'initial'), (2, 'credential_names'), (3, 'variables'), (4, 'proxies'),
  (5, 'image_models'), (6, 'drafts'), (7, 'model_capabilities');
