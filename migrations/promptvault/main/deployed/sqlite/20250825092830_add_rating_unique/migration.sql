-- Purpose: a user rates a prompt once.

CREATE UNIQUE INDEX "Rating_userId_promptId_key" ON "Rating" ("userId", "promptId");
