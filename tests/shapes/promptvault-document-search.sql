-- The full-text index of PromptVault's document. It reads a column promptId that Prompt does not have, so its triggers prevent
-- every change of a prompt.

CREATE VIRTUAL TABLE PromptSearch USING fts5(
    promptId,
    title,
    body,
    content='Prompt',
    content_rowid='id'
);

INSERT INTO PromptSearch(promptId, title, body)
SELECT id, title, body FROM Prompt;

CREATE TRIGGER prompt_ai AFTER INSERT ON Prompt BEGIN
    INSERT INTO PromptSearch(promptId, title, body)
    VALUES (new.id, new.title, new.body);
END;

CREATE TRIGGER prompt_au AFTER UPDATE ON Prompt BEGIN
    UPDATE PromptSearch SET title = new.title, body = new.body
    WHERE promptId = new.id;
END;

CREATE TRIGGER prompt_ad AFTER DELETE ON Prompt BEGIN
    DELETE FROM PromptSearch WHERE promptId = old.id;
END;
