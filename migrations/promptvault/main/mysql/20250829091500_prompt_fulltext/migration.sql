-- Purpose: the index by which prompts are searched.

CREATE FULLTEXT INDEX `idx_prompt_fts` ON `Prompt` (`title`, `body`);
