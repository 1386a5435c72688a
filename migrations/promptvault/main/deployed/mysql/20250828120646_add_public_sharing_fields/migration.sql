-- Purpose: prompts that everybody may read who has their address.

ALTER TABLE `Prompt`
    ADD COLUMN `isPubliclyShared` BOOLEAN NOT NULL DEFAULT false,
    ADD COLUMN `publicShareId` VARCHAR(191) NULL,
    ADD UNIQUE INDEX `Prompt_publicShareId_key` (`publicShareId`);
