ALTER TABLE devices DROP COLUMN legacy_secret;
ALTER TABLE devices DROP COLUMN legacy;
