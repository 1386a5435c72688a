-- Purpose: users and prompts, as the app's document writes them down.

CREATE TABLE IF NOT EXISTS User (
    id TEXT PRIMARY KEY,
    email TEXT UNIQUE NOT NULL,
    password TEXT NOT NULL,
    name TEXT,
    team TEXT,
    role TEXT DEFAULT 'USER',
    createdAt DATETIME DEFAULT CURRENT_TIMESTAMP,
    updatedAt DATETIME DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE IF NOT EXISTS Prompt (
    id TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    variables TEXT,
    notes TEXT,
    modelHints TEXT,
    visibility TEXT DEFAULT 'PRIVATE',
    userId TEXT NOT NULL REFERENCES User (id),
    createdAt DATETIME DEFAULT CURRENT_TIMESTAMP,
    updatedAt DATETIME DEFAULT CURRENT_TIMESTAMP,
    isPubliclyShared BOOLEAN DEFAULT FALSE,
    publicShareId TEXT UNIQUE
);
