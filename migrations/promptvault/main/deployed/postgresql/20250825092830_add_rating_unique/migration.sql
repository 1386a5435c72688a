-- Purpose: a user rates a prompt once. The table is small: nobody waits for long.
-- dbctl: allow index-locks

CREATE UNIQUE INDEX "Rating_userId_promptId_key" ON "Rating" ("userId", "promptId");
