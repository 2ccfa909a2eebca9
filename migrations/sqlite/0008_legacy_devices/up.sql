-- Devices from before Atalaya, which show a secret of their own over HTTP. Beside `trust`, whose
-- check SQLite would not let us widen: such a device is trusted for nothing else.
ALTER TABLE devices ADD COLUMN legacy INTEGER NOT NULL DEFAULT 0 CHECK (legacy IN (0, 1));

-- SHA-256 of the secret, which has 256 random bits.
ALTER TABLE devices ADD COLUMN legacy_secret BLOB;
