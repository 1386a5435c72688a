-- Purpose: the index by which prompts are searched. It may be there already: the documentation suggests it. The table is small: the lock is short.
-- dbctl: allow index-locks

CREATE INDEX IF NOT EXISTS "idx_prompt_fts" ON "Prompt" USING gin (to_tsvector('english', "title" || ' ' || "body"));
