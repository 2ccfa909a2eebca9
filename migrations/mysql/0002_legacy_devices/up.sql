-- Devices from before Atalaya, which neither sign nor speak MQTT: they show a secret for a token.
-- Each statement may be run again: the server commits them one by one.
ALTER TABLE devices MODIFY COLUMN trust INT NOT NULL DEFAULT 1 CHECK (trust IN (1, 2, 3));

CREATE TABLE IF NOT EXISTS device_secrets (
    device_id  BIGINT     NOT NULL PRIMARY KEY,
    digest     BINARY(32) NOT NULL,
    changed_at BIGINT     NOT NULL,
    FOREIGN KEY (device_id) REFERENCES devices (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
