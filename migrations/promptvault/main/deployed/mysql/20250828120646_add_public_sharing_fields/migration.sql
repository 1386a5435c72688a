-- Purpose: prompts that anyone with their address may read.

ALTER TABLE `Prompt`
    ADD COLUMN `isPubliclyShared` BOOLEAN NOT NULL DEFAULT false,
    ADD COLUMN `publicShareId` VARCHAR(191) NULL,
    ADD UNIQUE INDEX `Prompt_publicShareId_key` (`publicShareId`);
