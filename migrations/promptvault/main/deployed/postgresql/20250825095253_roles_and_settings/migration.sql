-- Purpose: the settings of the app. The role of a user is in the first migration here: PostgreSQL appends new columns, and
-- the app's own tool puts this column between two others.

CREATE TABLE "Settings" (
    "id" SERIAL NOT NULL,
    "allowRegistration" BOOLEAN NOT NULL DEFAULT true,
    "updatedAt" TIMESTAMP(3) NOT NULL,
    CONSTRAINT "Settings_pkey" PRIMARY KEY ("id")
);
