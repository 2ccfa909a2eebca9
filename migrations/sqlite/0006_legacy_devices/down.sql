DROP TABLE device_secrets;
-- Who cannot show the secret any more has to sign.
ALTER TABLE devices ADD COLUMN trust_then INTEGER NOT NULL DEFAULT 1 CHECK (trust_then IN (1, 2));
UPDATE devices SET trust_then = CASE trust WHEN 3 THEN 1 ELSE trust END;
ALTER TABLE devices DROP COLUMN trust;
ALTER TABLE devices RENAME COLUMN trust_then TO trust;
