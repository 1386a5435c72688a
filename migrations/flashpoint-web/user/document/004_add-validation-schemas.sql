-- A JSON Schema per system setting, so that a value which the app cannot use is refused before it is stored.
--
-- Run statement by statement inside one transaction that the runner begins and ends.

-- SQLite has no ADD COLUMN IF NOT EXISTS. The ledger keeps this file from running twice, and should it run again
-- all the same, this first statement stops it before anything has changed.
ALTER TABLE system_settings ADD COLUMN validation_schema TEXT;

-- The schemas keep to type, enum, minimum, maximum, minLength and maxLength: the app enforces no other word.

UPDATE system_settings
SET validation_schema = '{"type":"boolean"}'
WHERE value_type = 'boolean';

-- Zero would lock out all users.
UPDATE system_settings
SET validation_schema = '{"type":"integer","minimum":1,"maximum":100}'
WHERE category = 'auth' AND key = 'maxLoginAttempts';

-- At most a day.
UPDATE system_settings
SET validation_schema = '{"type":"integer","minimum":1,"maximum":1440}'
WHERE category = 'auth' AND key = 'lockoutDurationMinutes';

UPDATE system_settings
SET validation_schema = '{"type":"string","minLength":1,"maxLength":100}'
WHERE category = 'app' AND key = 'siteName';

UPDATE system_settings
SET validation_schema = '{"type":"string","enum":["light","dark","system"]}'
WHERE category = 'app' AND key = 'defaultTheme';

-- The colours that the interface has a palette for.
UPDATE system_settings
SET validation_schema =
  '{"type":"string","enum":["slate","gray","zinc","neutral","stone","red","orange","amber","yellow","lime","green",'
  || '"emerald","teal","cyan","sky","blue","indigo","violet","purple","fuchsia","pink","rose"]}'
WHERE category = 'app' AND key = 'defaultPrimaryColor';

-- At least a minute, at most a day.
UPDATE system_settings
SET validation_schema = '{"type":"integer","minimum":1,"maximum":1440}'
WHERE category = 'metadata' AND key = 'syncIntervalMinutes';

-- The scale modes of Ruffle.
UPDATE system_settings
SET validation_schema = '{"type":"string","enum":["showall","noborder","exactfit","noscale"]}'
WHERE category = 'game' AND key = 'defaultScaleMode';

UPDATE system_settings
SET validation_schema = '{"type":"number","minimum":0,"maximum":1}'
WHERE category = 'game' AND key = 'defaultVolume';
