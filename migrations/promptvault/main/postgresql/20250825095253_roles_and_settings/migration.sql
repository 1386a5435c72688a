-- Purpose: a role for every user, and the settings of the app.

CREATE TYPE "Role" AS ENUM ('USER', 'ADMIN');

ALTER TABLE "User" ADD COLUMN "role" "Role" NOT NULL DEFAULT 'USER';

CREATE TABLE "Settings" (
    "id" SERIAL NOT NULL,
    "allowRegistration" BOOLEAN NOT NULL DEFAULT true,
    "updatedAt" TIMESTAMP(3) NOT NULL,
    CONSTRAINT "Settings_pkey" PRIMARY KEY ("id")
);
