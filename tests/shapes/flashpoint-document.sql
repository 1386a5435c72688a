-- flashpoint.sqlite with the schema of the document.

CREATE TABLE platform (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL,
  description TEXT,
  dateModified TEXT
);
CREATE UNIQUE INDEX idx_platform_name ON platform (name);

CREATE TABLE tag (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL,
  category TEXT,
  description TEXT,
  dateModified TEXT
);
CREATE UNIQUE INDEX idx_tag_name ON tag (name);
CREATE INDEX idx_tag_category ON tag (category);

CREATE TABLE game (
  id TEXT NOT NULL PRIMARY KEY,
  parentGameId TEXT REFERENCES game (id),
  title TEXT NOT NULL,
  alternateTitles TEXT,
  series TEXT,
  developer TEXT,
  publisher TEXT,
  platformName TEXT,
  platformsStr TEXT,
  platformId INTEGER REFERENCES platform (id),
  playMode TEXT,
  status TEXT,
  broken BOOLEAN,
  extreme BOOLEAN,
  notes TEXT,
  tagsStr TEXT,
  source TEXT,
  applicationPath TEXT,
  launchCommand TEXT,
  releaseDate TEXT,
  version TEXT,
  originalDescription TEXT,
  language TEXT,
  library TEXT NOT NULL,
  orderTitle TEXT NOT NULL,
  dateAdded TEXT,
  dateModified TEXT,
  archiveState INTEGER,
  logoPath TEXT,
  screenshotPath TEXT
);
CREATE INDEX idx_game_platformName ON game (platformName);
CREATE INDEX idx_game_library ON game (library);
CREATE INDEX idx_game_title ON game (title);
CREATE INDEX idx_game_orderTitle ON game (orderTitle);
CREATE INDEX idx_game_developer ON game (developer);
CREATE INDEX idx_game_publisher ON game (publisher);

CREATE TABLE game_data (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  gameId TEXT NOT NULL REFERENCES game (id),
  title TEXT,
  dateAdded TEXT,
  sha256 TEXT,
  crc32 TEXT,
  presentOnDisk INTEGER,
  path TEXT,
  size INTEGER,
  parameters TEXT,
  launchCommand TEXT
);
CREATE INDEX idx_game_data_gameId ON game_data (gameId);
CREATE INDEX idx_game_data_presentOnDisk ON game_data (presentOnDisk);

CREATE TABLE game_tags_tag (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  gameId TEXT NOT NULL REFERENCES game (id),
  tagId INTEGER NOT NULL REFERENCES tag (id)
);
CREATE INDEX idx_game_tags_tag_gameId ON game_tags_tag (gameId);
CREATE INDEX idx_game_tags_tag_tagId ON game_tags_tag (tagId);
CREATE UNIQUE INDEX idx_game_tags_tag_gameId_tagId ON game_tags_tag (gameId, tagId);

CREATE TABLE playlist (
  id TEXT NOT NULL PRIMARY KEY,
  title TEXT NOT NULL,
  description TEXT,
  author TEXT,
  library TEXT,
  icon TEXT,
  dateModified TEXT
);
CREATE INDEX idx_playlist_title ON playlist (title);
CREATE INDEX idx_playlist_library ON playlist (library);

CREATE TABLE playlist_game (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  playlistId TEXT NOT NULL REFERENCES playlist (id),
  gameId TEXT NOT NULL REFERENCES game (id),
  "order" INTEGER,
  notes TEXT
);
CREATE INDEX idx_playlist_game_playlistId ON playlist_game (playlistId);
CREATE INDEX idx_playlist_game_gameId ON playlist_game (gameId);
CREATE INDEX idx_playlist_game_order ON playlist_game ("order");
