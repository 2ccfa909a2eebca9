-- Devices from before Atalaya, which neither sign nor speak MQTT: they show a secret for a token.

-- A third way of trust: 3 the secret of a device from before. SQLite changes no CHECK, and to make the
-- table anew would mean to switch its foreign keys off; a column takes the place of the other instead,
-- within the transaction of this migration.
ALTER TABLE devices ADD COLUMN trust_now INTEGER NOT NULL DEFAULT 1 CHECK (trust_now IN (1, 2, 3));
UPDATE devices SET trust_now = trust;
ALTER TABLE devices DROP COLUMN trust;
ALTER TABLE devices RENAME COLUMN trust_now TO trust;

-- What such a device shows: SHA-256 of a secret of 256 random bits, which is nowhere else.
CREATE TABLE device_secrets (
    device_id  INTEGER PRIMARY KEY REFERENCES devices (id),
    digest     BLOB    NOT NULL CHECK (length(digest) = 32),
    changed_at INTEGER NOT NULL
) STRICT;
