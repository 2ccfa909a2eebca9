-- The alert hub: devices and how they prove who they are, alerts and rules. Each committed fact of
-- it is a row of the journal too, in the same commit.

-- Devices act under one principal; which device it was stands in the fact.
INSERT INTO principals (id, kind, name, created_at)
VALUES (3, 'hardware', 'hardware', CAST(strftime('%s', 'now') AS INTEGER) * 1000000);

-- What devices are. `silence`: how long one may say nothing, in seconds; NULL is for ever.
CREATE TABLE device_types (
    code        TEXT    PRIMARY KEY,
    description TEXT    NOT NULL,
    silence     INTEGER CHECK (silence > 0)
) STRICT, WITHOUT ROWID;

INSERT INTO device_types (code, description, silence) VALUES
    ('BOTONERA', 'Botones de pánico', 900),
    ('SEMAFORO', 'Luces de color', 900),
    ('PANTALLA', 'Pantallas de aviso', 900),
    ('SIRENA', 'Sirenas', 900),
    ('SENSOR', 'Sensores', 900),
    ('TERMINAL', 'Terminales de caja', 900);

CREATE TABLE devices (
    id         INTEGER PRIMARY KEY,
    slug       TEXT    NOT NULL UNIQUE,
    company_id INTEGER NOT NULL REFERENCES companies (id),
    site_id    INTEGER NOT NULL REFERENCES sites (id),
    kind       TEXT    NOT NULL REFERENCES device_types (code),
    name       TEXT    NOT NULL,
    active     INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1)),
    created_at INTEGER NOT NULL
) STRICT;

-- `material` is a public key (algorithm 1, Ed25519), or a shared secret sealed under the key file
-- (algorithm 2, HS256).
CREATE TABLE device_keys (
    id         INTEGER PRIMARY KEY,
    kid        TEXT    NOT NULL UNIQUE,
    device_id  INTEGER NOT NULL REFERENCES devices (id),
    algorithm  INTEGER NOT NULL CHECK (algorithm IN (1, 2)),
    material   BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
CREATE INDEX device_keys_of ON device_keys (device_id);

-- What each key has been used for, and when its device was heard last (0: never in time). Apart
-- from the keys, since every message writes here.
CREATE TABLE device_windows (
    key_id    INTEGER PRIMARY KEY REFERENCES device_keys (id),
    device_id INTEGER NOT NULL,
    sequence  BLOB    NOT NULL,
    heard_at  INTEGER NOT NULL
) STRICT;

-- `priority`: 1 critica, 2 alta, 3 media, 4 baja. `escalation`: seconds; NULL is never.
CREATE TABLE alert_kinds (
    id           INTEGER PRIMARY KEY,
    company_id   INTEGER NOT NULL REFERENCES companies (id),
    code         TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    priority     INTEGER NOT NULL CHECK (priority BETWEEN 1 AND 4),
    colour       TEXT    NOT NULL,
    description  TEXT    NOT NULL,
    instructions TEXT    NOT NULL,
    items        TEXT    NOT NULL,
    escalation   INTEGER CHECK (escalation > 0),
    active       INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1)),
    UNIQUE (company_id, code)
) STRICT;

-- Every version of every rule; the newest is the one that counts.
CREATE TABLE rules (
    id         INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    company_id INTEGER NOT NULL REFERENCES companies (id),
    name       TEXT    NOT NULL,
    position   INTEGER NOT NULL,
    condition  TEXT    NOT NULL,
    actions    TEXT    NOT NULL,
    active     INTEGER NOT NULL CHECK (active IN (0, 1)),
    principal  INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (id, version)
) STRICT, WITHOUT ROWID;

-- Where each alert stands. What it says is in journal_texts, at `first_seq`; its history is the
-- list through the journal that begins at `last_seq`.
-- `state`: 1 NUEVA, 2 RECONOCIDA, 3 RESUELTA, 4 DESCARTADA.
CREATE TABLE alerts (
    id              INTEGER PRIMARY KEY,
    alert_id        BLOB    NOT NULL UNIQUE CHECK (length(alert_id) = 16),
    company_id      INTEGER NOT NULL,
    site_id         INTEGER NOT NULL,
    device_id       INTEGER NOT NULL,
    kind            TEXT    NOT NULL,
    priority        INTEGER NOT NULL CHECK (priority BETWEEN 1 AND 4),
    state           INTEGER NOT NULL CHECK (state BETWEEN 1 AND 4),
    late            INTEGER NOT NULL CHECK (late IN (0, 1)),
    count           INTEGER NOT NULL CHECK (count > 0),
    escalations     INTEGER NOT NULL,
    freezes         INTEGER NOT NULL CHECK (freezes IN (0, 1)),
    raised_at       INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    acknowledged_at INTEGER,
    closed_at       INTEGER,
    escalate_at     INTEGER,
    first_seq       INTEGER NOT NULL,
    last_seq        INTEGER NOT NULL
) STRICT;
CREATE INDEX alerts_open ON alerts (id) WHERE state <= 2;
CREATE INDEX alerts_of_company ON alerts (company_id, id);
CREATE INDEX alerts_of_device ON alerts (device_id, id);

-- Which message made or repeated which alert: a message is in here once, whatever happens.
CREATE TABLE alert_messages (
    key_id INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    alert  INTEGER NOT NULL,
    digest BLOB    NOT NULL CHECK (length(digest) = 32),
    PRIMARY KEY (key_id, seq)
) STRICT, WITHOUT ROWID;

-- What people and devices have said, and orders to devices: what an entry of the journal holds by
-- salted digest only, so that it can be erased.
CREATE TABLE journal_texts (
    seq  INTEGER PRIMARY KEY,
    body BLOB    NOT NULL
) STRICT;

-- Messages that proved nothing, for an operator to look at. Bounded; the oldest go first.
CREATE TABLE quarantine (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    digest      BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
    received_at INTEGER NOT NULL,
    channel     INTEGER NOT NULL,
    topic       TEXT,
    device      TEXT,
    reason      TEXT    NOT NULL,
    detail      TEXT    NOT NULL,
    count       INTEGER NOT NULL,
    message     BLOB    NOT NULL,
    truncated   INTEGER NOT NULL CHECK (truncated IN (0, 1))
) STRICT;
CREATE INDEX quarantine_of_device ON quarantine (device, id);
