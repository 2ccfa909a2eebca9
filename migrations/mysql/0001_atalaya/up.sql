-- All that the migrations for SQLite have made so far; what the columns mean is said there.
-- The server commits each statement by itself, so each may be run again after a crash.
--
-- What names something is compared byte by byte; what people write is kept in utf8mb4, and names of
-- account holders are found whatever their case and accents.

CREATE TABLE IF NOT EXISTS installation (
    id          INT          NOT NULL PRIMARY KEY CHECK (id = 1),
    database_id BINARY(16)   NOT NULL,
    name        VARCHAR(64)  NOT NULL,
    currency    VARCHAR(3)   NOT NULL,
    created_at  BIGINT       NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS companies (
    id           BIGINT       NOT NULL PRIMARY KEY,
    slug         VARCHAR(64)  NOT NULL UNIQUE,
    name         VARCHAR(400) NOT NULL,
    active       BOOLEAN      NOT NULL DEFAULT TRUE,
    created_at   BIGINT       NOT NULL,
    broker_trust BOOLEAN      NOT NULL DEFAULT FALSE
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS sites (
    id         BIGINT       NOT NULL PRIMARY KEY AUTO_INCREMENT,
    company_id BIGINT       NOT NULL,
    slug       VARCHAR(64)  NOT NULL,
    name       VARCHAR(400) NOT NULL,
    time_zone  VARCHAR(100) NOT NULL DEFAULT 'UTC',
    active     BOOLEAN      NOT NULL DEFAULT TRUE,
    created_at BIGINT       NOT NULL,
    UNIQUE (company_id, slug),
    FOREIGN KEY (company_id) REFERENCES companies (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS principals (
    id         BIGINT      NOT NULL PRIMARY KEY,
    kind       VARCHAR(32) NOT NULL,
    name       VARCHAR(64) NOT NULL,
    created_at BIGINT      NOT NULL,
    UNIQUE (kind, name)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT IGNORE INTO principals (id, kind, name, created_at) VALUES
    (3, 'hardware', 'hardware', UNIX_TIMESTAMP() * 1000000),
    (4, 'automation', 'automatizacion', UNIX_TIMESTAMP() * 1000000),
    (5, 'terminal', 'terminal', UNIX_TIMESTAMP() * 1000000);

CREATE TABLE IF NOT EXISTS accounts (
    id         BIGINT      NOT NULL PRIMARY KEY,
    account_id VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL UNIQUE,
    company_id BIGINT      NOT NULL,
    balance    BIGINT      NOT NULL DEFAULT 0 CHECK (balance >= 0),
    version    BIGINT      NOT NULL DEFAULT 0,
    last_seq   BIGINT      NOT NULL DEFAULT 0,
    lane       INT         NOT NULL DEFAULT 0,
    INDEX accounts_of_lane (lane, id),
    FOREIGN KEY (company_id) REFERENCES companies (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS account_holders (
    account     BIGINT       NOT NULL PRIMARY KEY,
    given_names VARCHAR(400) COLLATE utf8mb4_unicode_ci NOT NULL,
    surnames    VARCHAR(400) COLLATE utf8mb4_unicode_ci NOT NULL,
    salt        VARBINARY(64) NOT NULL,
    opened_at   BIGINT       NOT NULL,
    FOREIGN KEY (account) REFERENCES accounts (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS journal (
    seq                  BIGINT     NOT NULL,
    lane                 INT        NOT NULL DEFAULT 0,
    format               INT        NOT NULL,
    fact                 INT        NOT NULL,
    at                   BIGINT     NOT NULL,
    tx_id                BINARY(16) NOT NULL,
    principal            BIGINT     NOT NULL,
    channel              INT        NOT NULL,
    company              BIGINT     NOT NULL,
    site                 BIGINT,
    account              BIGINT,
    posting_kind         INT,
    amount               BIGINT,
    balance              BIGINT,
    version              BIGINT,
    previous_seq         BIGINT,
    counterparty         BIGINT,
    counterparty_balance BIGINT,
    counterparty_version BIGINT,
    value_date           INT,
    refusal              INT,
    details              MEDIUMBLOB,
    key_digest           BINARY(16),
    fingerprint          BINARY(16),
    hash                 BINARY(32) NOT NULL,
    -- There are no partial indexes: what is of no audit is null, and costs a null.
    audited              TINYINT AS (IF(fact IN (5, 6), 1, NULL)) STORED,
    PRIMARY KEY (lane, seq),
    INDEX journal_audit (audited, lane, seq)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS lanes (
    lane            INT        NOT NULL PRIMARY KEY,
    head_seq        BIGINT     NOT NULL,
    head_hash       BINARY(32) NOT NULL,
    postings        BIGINT     NOT NULL,
    keys_indexed_to BIGINT     NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS idempotency_keys (
    key_digest BINARY(16) NOT NULL PRIMARY KEY,
    lane       INT        NOT NULL,
    seq        BIGINT     NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS outbox (
    lane     INT    NOT NULL PRIMARY KEY,
    position BIGINT NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS outbox_quarantine (
    id             BIGINT     NOT NULL PRIMARY KEY AUTO_INCREMENT,
    lane           INT        NOT NULL,
    seq            BIGINT     NOT NULL,
    topic          TEXT       NOT NULL,
    payload        MEDIUMBLOB NOT NULL,
    reason         TEXT       NOT NULL,
    quarantined_at BIGINT     NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS device_types (
    code        VARCHAR(64) NOT NULL PRIMARY KEY,
    description TEXT        NOT NULL,
    silence     BIGINT CHECK (silence > 0)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT IGNORE INTO device_types (code, description, silence) VALUES
    ('BOTONERA', 'Botones de pánico', 900),
    ('SEMAFORO', 'Luces de color', 900),
    ('PANTALLA', 'Pantallas de aviso', 900),
    ('SIRENA', 'Sirenas', 900),
    ('SENSOR', 'Sensores', 900),
    ('TERMINAL', 'Terminales de caja', 900);

CREATE TABLE IF NOT EXISTS devices (
    id         BIGINT       NOT NULL PRIMARY KEY,
    slug       VARCHAR(64)  NOT NULL UNIQUE,
    company_id BIGINT       NOT NULL,
    site_id    BIGINT       NOT NULL,
    kind       VARCHAR(64)  NOT NULL,
    name       VARCHAR(400) NOT NULL,
    active     BOOLEAN      NOT NULL DEFAULT TRUE,
    created_at BIGINT       NOT NULL,
    trust      INT          NOT NULL DEFAULT 1 CHECK (trust IN (1, 2, 3)),
    FOREIGN KEY (company_id) REFERENCES companies (id),
    FOREIGN KEY (site_id) REFERENCES sites (id),
    FOREIGN KEY (kind) REFERENCES device_types (code)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Of devices from before Atalaya, which neither sign nor speak MQTT: they show a secret for a token.
CREATE TABLE IF NOT EXISTS device_secrets (
    device_id  BIGINT     NOT NULL PRIMARY KEY,
    digest     BINARY(32) NOT NULL,
    changed_at BIGINT     NOT NULL,
    FOREIGN KEY (device_id) REFERENCES devices (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS device_passwords (
    device_id  BIGINT NOT NULL PRIMARY KEY,
    sealed     BLOB   NOT NULL,
    changed_at BIGINT NOT NULL,
    FOREIGN KEY (device_id) REFERENCES devices (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS device_keys (
    id         BIGINT      NOT NULL PRIMARY KEY,
    kid        VARCHAR(64) NOT NULL UNIQUE,
    device_id  BIGINT      NOT NULL,
    algorithm  INT         NOT NULL CHECK (algorithm IN (1, 2)),
    material   BLOB        NOT NULL,
    created_at BIGINT      NOT NULL,
    revoked_at BIGINT,
    FOREIGN KEY (device_id) REFERENCES devices (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS device_windows (
    key_id    BIGINT NOT NULL PRIMARY KEY,
    device_id BIGINT NOT NULL,
    sequence  BLOB   NOT NULL,
    heard_at  BIGINT NOT NULL,
    FOREIGN KEY (key_id) REFERENCES device_keys (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS broker_windows (
    device_id BIGINT NOT NULL PRIMARY KEY,
    sequence  BLOB   NOT NULL,
    heard_at  BIGINT NOT NULL,
    FOREIGN KEY (device_id) REFERENCES devices (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS alert_kinds (
    id           BIGINT       NOT NULL PRIMARY KEY,
    company_id   BIGINT       NOT NULL,
    code         VARCHAR(64)  NOT NULL,
    name         VARCHAR(400) NOT NULL,
    priority     INT          NOT NULL CHECK (priority BETWEEN 1 AND 4),
    colour       VARCHAR(400) NOT NULL,
    description  TEXT         NOT NULL,
    instructions TEXT         NOT NULL,
    items        MEDIUMTEXT   NOT NULL,
    escalation   BIGINT CHECK (escalation > 0),
    active       BOOLEAN      NOT NULL DEFAULT TRUE,
    UNIQUE (company_id, code),
    FOREIGN KEY (company_id) REFERENCES companies (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS rules (
    id          BIGINT       NOT NULL,
    version     BIGINT       NOT NULL,
    company_id  BIGINT       NOT NULL,
    name        VARCHAR(400) NOT NULL,
    position    INT          NOT NULL,
    `condition` MEDIUMTEXT   NOT NULL,
    actions     MEDIUMTEXT   NOT NULL,
    active      BOOLEAN      NOT NULL,
    principal   BIGINT       NOT NULL,
    changed_at  BIGINT       NOT NULL,
    PRIMARY KEY (id, version),
    FOREIGN KEY (company_id) REFERENCES companies (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS alerts (
    id              BIGINT      NOT NULL PRIMARY KEY,
    alert_id        BINARY(16)  NOT NULL UNIQUE,
    company_id      BIGINT      NOT NULL,
    site_id         BIGINT      NOT NULL,
    device_id       BIGINT      NOT NULL,
    kind            VARCHAR(64) NOT NULL,
    priority        INT         NOT NULL CHECK (priority BETWEEN 1 AND 4),
    state           INT         NOT NULL CHECK (state BETWEEN 1 AND 4),
    late            BOOLEAN     NOT NULL,
    count           BIGINT      NOT NULL CHECK (count > 0),
    escalations     BIGINT      NOT NULL,
    freezes         BOOLEAN     NOT NULL,
    raised_at       BIGINT      NOT NULL,
    updated_at      BIGINT      NOT NULL,
    acknowledged_at BIGINT,
    closed_at       BIGINT,
    escalate_at     BIGINT,
    first_seq       BIGINT      NOT NULL,
    last_seq        BIGINT      NOT NULL,
    INDEX alerts_open (state, id),
    INDEX alerts_of_company (company_id, id),
    INDEX alerts_of_device (device_id, id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS alert_messages (
    key_id BIGINT     NOT NULL,
    seq    BIGINT     NOT NULL,
    alert  BIGINT     NOT NULL,
    digest BINARY(32) NOT NULL,
    PRIMARY KEY (key_id, seq)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS journal_texts (
    seq  BIGINT     NOT NULL PRIMARY KEY,
    body MEDIUMBLOB NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS quarantine (
    id          BIGINT      NOT NULL PRIMARY KEY AUTO_INCREMENT,
    digest      BINARY(32)  NOT NULL UNIQUE,
    received_at BIGINT      NOT NULL,
    channel     INT         NOT NULL,
    topic       TEXT,
    device      VARCHAR(64),
    reason      VARCHAR(64) NOT NULL,
    detail      TEXT        NOT NULL,
    count       BIGINT      NOT NULL,
    message     MEDIUMBLOB  NOT NULL,
    truncated   BOOLEAN     NOT NULL,
    INDEX quarantine_of_device (device, id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS people (
    id          BIGINT       NOT NULL PRIMARY KEY,
    username    VARCHAR(64)  NOT NULL UNIQUE,
    name        VARCHAR(400) NOT NULL,
    active      BOOLEAN      NOT NULL DEFAULT TRUE,
    password    TEXT         NOT NULL,
    must_change BOOLEAN      NOT NULL,
    totp        BLOB,
    totp_step   BIGINT       NOT NULL DEFAULT 0,
    created_at  BIGINT       NOT NULL,
    FOREIGN KEY (id) REFERENCES principals (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS api_tokens (
    id         BIGINT       NOT NULL PRIMARY KEY,
    name       VARCHAR(400) NOT NULL,
    digest     BINARY(32)   NOT NULL UNIQUE,
    created_by BIGINT       NOT NULL,
    created_at BIGINT       NOT NULL,
    expires_at BIGINT       NOT NULL,
    revoked_at BIGINT,
    FOREIGN KEY (id) REFERENCES principals (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS grants (
    id           BIGINT NOT NULL PRIMARY KEY AUTO_INCREMENT,
    principal_id BIGINT NOT NULL,
    role         INT    NOT NULL CHECK (role BETWEEN 1 AND 5),
    company_id   BIGINT,
    site_id      BIGINT,
    account      VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin,
    FOREIGN KEY (principal_id) REFERENCES principals (id),
    FOREIGN KEY (company_id) REFERENCES companies (id),
    FOREIGN KEY (site_id) REFERENCES sites (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS sessions (
    id         BIGINT     NOT NULL PRIMARY KEY AUTO_INCREMENT,
    digest     BINARY(32) NOT NULL UNIQUE,
    person_id  BIGINT     NOT NULL,
    created_at BIGINT     NOT NULL,
    expires_at BIGINT     NOT NULL,
    seen_at    BIGINT     NOT NULL,
    address    VARCHAR(64),
    client     TEXT,
    FOREIGN KEY (person_id) REFERENCES people (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
