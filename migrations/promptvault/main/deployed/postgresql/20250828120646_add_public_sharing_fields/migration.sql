-- Purpose: prompts that everybody may read who has their address. The table is small: nobody waits for long.
-- dbctl: allow index-locks

ALTER TABLE "Prompt" ADD COLUMN "isPubliclyShared" BOOLEAN NOT NULL DEFAULT false;
ALTER TABLE "Prompt" ADD COLUMN "publicShareId" TEXT;
CREATE UNIQUE INDEX "Prompt_publicShareId_key" ON "Prompt" ("publicShareId");
