-- Purpose: the index by which prompts are searched. The table is small: the lock is short.
-- dbctl: allow copies-table

CREATE FULLTEXT INDEX `idx_prompt_fts` ON `Prompt` (`title`, `body`);
