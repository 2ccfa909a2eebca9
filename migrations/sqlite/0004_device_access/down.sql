DROP TABLE broker_windows;
ALTER TABLE devices DROP COLUMN trust;
ALTER TABLE companies DROP COLUMN broker_trust;
DROP TABLE device_passwords;
