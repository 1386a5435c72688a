-- Purpose: prompts that anyone with their address may read. The table is small: the lock is short.
-- dbctl: allow index-locks

ALTER TABLE "Prompt" ADD COLUMN "isPubliclyShared" BOOLEAN NOT NULL DEFAULT false;
ALTER TABLE "Prompt" ADD COLUMN "publicShareId" TEXT;
CREATE UNIQUE INDEX "Prompt_publicShareId_key" ON "Prompt" ("publicShareId");
