-- People and programs, what they may do, and the tokens that they show.

INSERT INTO principals (id, kind, name, created_at)
VALUES (4, 'automation', 'automatizacion', CAST(strftime('%s', 'now') AS INTEGER) * 1000000);

-- `password` is an Argon2id hash in PHC form. `totp` is a secret sealed under the key file;
-- `totp_step` is the last step that was used, which is not taken twice.
CREATE TABLE people (
    id          INTEGER PRIMARY KEY REFERENCES principals (id),
    username    TEXT    NOT NULL UNIQUE,
    name        TEXT    NOT NULL,
    active      INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1)),
    password    TEXT    NOT NULL,
    must_change INTEGER NOT NULL CHECK (must_change IN (0, 1)),
    totp        BLOB,
    totp_step   INTEGER NOT NULL DEFAULT 0,
    created_at  INTEGER NOT NULL
) STRICT;

-- Tokens of programs. Only a digest is kept: the token has 256 random bits.
CREATE TABLE api_tokens (
    id         INTEGER PRIMARY KEY REFERENCES principals (id),
    name       TEXT    NOT NULL,
    digest     BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
    created_by INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

-- `role`: 1 admin, 2 operador, 3 cajero, 4 cliente, 5 auditor. Without a company it holds
-- everywhere, or for `account` alone.
CREATE TABLE grants (
    id           INTEGER PRIMARY KEY,
    principal_id INTEGER NOT NULL REFERENCES principals (id),
    role         INTEGER NOT NULL CHECK (role BETWEEN 1 AND 5),
    company_id   INTEGER REFERENCES companies (id),
    site_id      INTEGER REFERENCES sites (id),
    account      TEXT
) STRICT;
CREATE INDEX grants_of ON grants (principal_id);

CREATE TABLE sessions (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    digest     BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
    person_id  INTEGER NOT NULL REFERENCES people (id),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    address    TEXT,
    client     TEXT
) STRICT;
CREATE INDEX sessions_of ON sessions (person_id);

-- The audit of access and of settings, found without reading every posting.
CREATE INDEX journal_audit ON journal (seq) WHERE fact IN (5, 6);
