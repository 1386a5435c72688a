-- Purpose: prompts that anyone with their address may read. Columns are added in place, so that neither a prompt
-- nor a trigger for searching is touched.

ALTER TABLE "Prompt" ADD COLUMN "isPubliclyShared" BOOLEAN NOT NULL DEFAULT false;
ALTER TABLE "Prompt" ADD COLUMN "publicShareId" TEXT;
CREATE UNIQUE INDEX "Prompt_publicShareId_key" ON "Prompt" ("publicShareId");
