-- Purpose: a user rates a prompt once. The table is small: the lock is short.
-- dbctl: allow index-locks

CREATE UNIQUE INDEX "Rating_userId_promptId_key" ON "Rating" ("userId", "promptId");
