-- The full-text index that PromptVault creates in SQLite at its start. It is contentless: its text cannot be read, and the
-- delete commands of its triggers find no entry.

CREATE TABLE _meta (key TEXT PRIMARY KEY, value TEXT);

CREATE VIRTUAL TABLE PromptSearch USING fts5(pid, title, body, tags, content='');

CREATE TRIGGER trg_prompt_ai AFTER INSERT ON Prompt BEGIN
  INSERT INTO PromptSearch(pid, title, body, tags) VALUES (new.id, new.title, new.body, '');
END;

CREATE TRIGGER trg_prompt_au AFTER UPDATE ON Prompt BEGIN
  DELETE FROM PromptSearch WHERE pid = old.id;
  INSERT INTO PromptSearch(pid, title, body, tags)
  VALUES (new.id, new.title, new.body,
    (SELECT group_concat(t.name, ' ') FROM PromptTag pt JOIN Tag t ON t.id = pt.tagId WHERE pt.promptId = new.id));
END;

CREATE TRIGGER trg_prompt_ad AFTER DELETE ON Prompt BEGIN
  DELETE FROM PromptSearch WHERE pid = old.id;
END;

CREATE TRIGGER trg_prompttag_ai AFTER INSERT ON PromptTag BEGIN
  DELETE FROM PromptSearch WHERE pid = new.promptId;
  INSERT INTO PromptSearch(pid, title, body, tags)
  SELECT p.id, p.title, p.body,
    (SELECT group_concat(t.name, ' ') FROM PromptTag pt JOIN Tag t ON t.id = pt.tagId WHERE pt.promptId = p.id)
  FROM Prompt p WHERE p.id = new.promptId;
END;

CREATE TRIGGER trg_prompttag_ad AFTER DELETE ON PromptTag BEGIN
  DELETE FROM PromptSearch WHERE pid = old.promptId;
  INSERT INTO PromptSearch(pid, title, body, tags)
  SELECT p.id, p.title, p.body,
    (SELECT group_concat(t.name, ' ') FROM PromptTag pt JOIN Tag t ON t.id = pt.tagId WHERE pt.promptId = p.id)
  FROM Prompt p WHERE p.id = old.promptId;
END;

INSERT INTO _meta (key, value) VALUES ('FTS_APPLIED_V2', '2025-08-29T10:00:00.000Z');
