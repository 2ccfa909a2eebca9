-- How devices come in: what a broker knows them by, and which of them it may vouch for.

-- What a device signs in with at the broker, sealed under the key file (the text is its base64url).
CREATE TABLE device_passwords (
    device_id  INTEGER PRIMARY KEY REFERENCES devices (id),
    sealed     BLOB    NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT;

-- Whether the broker may vouch for devices of this company.
ALTER TABLE companies ADD COLUMN broker_trust INTEGER NOT NULL DEFAULT 0 CHECK (broker_trust IN (0, 1));

-- What proves a device's messages: 1 its signature, 2 that the broker has let it in.
ALTER TABLE devices ADD COLUMN trust INTEGER NOT NULL DEFAULT 1 CHECK (trust IN (1, 2));

-- Which numbers a device without signature has used, as device_windows for keys. In alert_messages
-- its key is the device's row with a minus.
CREATE TABLE broker_windows (
    device_id INTEGER PRIMARY KEY REFERENCES devices (id),
    sequence  BLOB    NOT NULL,
    heard_at  INTEGER NOT NULL
) STRICT;
