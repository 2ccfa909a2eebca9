-- Money is integer cents, time is microseconds since 1970 UTC, dates are days since 1970-01-01.

-- One row: what this database is. The currency is fixed when it is created.
CREATE TABLE installation (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    database_id BLOB    NOT NULL CHECK (length(database_id) = 16),
    name        TEXT    NOT NULL,
    currency    TEXT    NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE companies (
    id         INTEGER PRIMARY KEY,
    slug       TEXT    NOT NULL UNIQUE,
    name       TEXT    NOT NULL,
    active     INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1)),
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE sites (
    id         INTEGER PRIMARY KEY,
    company_id INTEGER NOT NULL REFERENCES companies (id),
    slug       TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    time_zone  TEXT    NOT NULL DEFAULT 'UTC',
    active     INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1)),
    created_at INTEGER NOT NULL,
    UNIQUE (company_id, slug)
) STRICT;

-- Who acts. Rows 1 (local) and 2 (system) are there from the start.
CREATE TABLE principals (
    id         INTEGER PRIMARY KEY,
    kind       TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (kind, name)
) STRICT;

-- Narrow on purpose: every posting writes here, and a page of narrow rows serves more accounts.
CREATE TABLE accounts (
    id         INTEGER PRIMARY KEY,
    account_id TEXT    NOT NULL UNIQUE,
    company_id INTEGER NOT NULL REFERENCES companies (id),
    balance    INTEGER NOT NULL DEFAULT 0 CHECK (balance >= 0),
    version    INTEGER NOT NULL DEFAULT 0,
    last_seq   INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Personal data, which the journal holds by salted digest only, so that it can be erased.
CREATE TABLE account_holders (
    account     INTEGER PRIMARY KEY REFERENCES accounts (id),
    given_names TEXT    NOT NULL,
    surnames    TEXT    NOT NULL,
    salt        BLOB    NOT NULL,
    opened_at   INTEGER NOT NULL
) STRICT;

-- The journal: append-only, gapless, one row a fact. `hash` chains each row to the one before it.
CREATE TABLE journal (
    seq                  INTEGER PRIMARY KEY,
    lane                 INTEGER NOT NULL DEFAULT 0 CHECK (lane = 0),
    format               INTEGER NOT NULL,
    fact                 INTEGER NOT NULL,
    at                   INTEGER NOT NULL,
    tx_id                BLOB    NOT NULL,
    principal            INTEGER NOT NULL,
    channel              INTEGER NOT NULL,
    company              INTEGER NOT NULL,
    site                 INTEGER,
    account              INTEGER,
    posting_kind         INTEGER,
    amount               INTEGER,
    balance              INTEGER,
    version              INTEGER,
    previous_seq         INTEGER,
    counterparty         INTEGER,
    counterparty_balance INTEGER,
    counterparty_version INTEGER,
    value_date           INTEGER,
    refusal              INTEGER,
    details              BLOB,
    key_digest           BLOB,
    fingerprint          BLOB,
    hash                 BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- The head of each writer lane: the last sequence, its link and the count of postings so far.
CREATE TABLE lanes (
    lane      INTEGER PRIMARY KEY,
    head_seq  INTEGER NOT NULL,
    head_hash BLOB    NOT NULL,
    postings  INTEGER NOT NULL,
    -- Up to here the journal's keys stand in idempotency_keys; the tail is held in memory.
    keys_indexed_to INTEGER NOT NULL
) STRICT;

-- Where the decision under a key stands in the journal. Filled in sorted batches behind the head,
-- since an index in random order dirties a page for every operation.
CREATE TABLE idempotency_keys (
    key_digest BLOB    PRIMARY KEY,
    lane       INTEGER NOT NULL,
    seq        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The outbox is a cursor over the journal: all before it is acknowledged by the broker.
CREATE TABLE outbox (
    lane     INTEGER PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT;

-- Messages that the broker refused alone, again and again.
CREATE TABLE outbox_quarantine (
    id             INTEGER PRIMARY KEY,
    lane           INTEGER NOT NULL,
    seq            INTEGER NOT NULL,
    topic          TEXT    NOT NULL,
    payload        BLOB    NOT NULL,
    reason         TEXT    NOT NULL,
    quarantined_at INTEGER NOT NULL
) STRICT;
