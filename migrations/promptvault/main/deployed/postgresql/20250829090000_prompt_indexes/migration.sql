-- Purpose: the indexes by which prompts are listed. They may be there already: the documentation suggests them. The table is small: the lock is short.
-- dbctl: allow index-locks

CREATE INDEX IF NOT EXISTS "idx_prompt_user_id" ON "Prompt" ("userId");
CREATE INDEX IF NOT EXISTS "idx_prompt_visibility" ON "Prompt" ("visibility");
CREATE INDEX IF NOT EXISTS "idx_prompt_created_at" ON "Prompt" ("createdAt");
CREATE INDEX IF NOT EXISTS "idx_prompt_updated_at" ON "Prompt" ("updatedAt");
CREATE INDEX IF NOT EXISTS "idx_prompt_public_share_id" ON "Prompt" ("publicShareId");
CREATE INDEX IF NOT EXISTS "idx_prompt_user_visibility" ON "Prompt" ("userId", "visibility");
CREATE INDEX IF NOT EXISTS "idx_prompt_user_created" ON "Prompt" ("userId", "createdAt");
