DROP TABLE IF EXISTS device_secrets;
UPDATE devices SET trust = 1 WHERE trust = 3;
ALTER TABLE devices MODIFY COLUMN trust INT NOT NULL DEFAULT 1 CHECK (trust IN (1, 2));
