//! The tables as diesel sees them, one declaration for every backend. The journal's key is
//! declared as lane and sequence; on SQLite, with its one lane, the sequence alone is the key.

#![allow(
    missing_docs,
    reason = "diesel's macro makes the items; the migrations document them"
)]

diesel::table! {
    installation (id) { id -> Integer, database_id -> Binary, name -> Text, currency -> Text, created_at -> BigInt, }
}
diesel::table! {
    companies (id) {
        id -> BigInt,
        slug -> Text,
        name -> Text,
        active -> Bool,
        created_at -> BigInt,
        broker_trust -> Bool,
    }
}
diesel::table! {
    sites (id) {
        id -> BigInt,
        company_id -> BigInt,
        slug -> Text,
        name -> Text,
        time_zone -> Text,
        active -> Bool,
        created_at -> BigInt,
    }
}
diesel::table! {
    principals (id) { id -> BigInt, kind -> Text, name -> Text, created_at -> BigInt, }
}
diesel::table! {
    accounts (id) {
        id -> BigInt,
        account_id -> Text,
        company_id -> BigInt,
        balance -> BigInt,
        version -> BigInt,
        last_seq -> BigInt,
        lane -> Integer,
    }
}
diesel::table! {
    account_holders (account) {
        account -> BigInt,
        given_names -> Text,
        surnames -> Text,
        salt -> Binary,
        opened_at -> BigInt,
    }
}
diesel::table! {
    journal (lane, seq) {
        seq -> BigInt,
        lane -> Integer,
        format -> Integer,
        fact -> Integer,
        at -> BigInt,
        tx_id -> Binary,
        principal -> BigInt,
        channel -> Integer,
        company -> BigInt,
        site -> Nullable<BigInt>,
        account -> Nullable<BigInt>,
        posting_kind -> Nullable<Integer>,
        amount -> Nullable<BigInt>,
        balance -> Nullable<BigInt>,
        version -> Nullable<BigInt>,
        previous_seq -> Nullable<BigInt>,
        counterparty -> Nullable<BigInt>,
        counterparty_balance -> Nullable<BigInt>,
        counterparty_version -> Nullable<BigInt>,
        value_date -> Nullable<Integer>,
        refusal -> Nullable<Integer>,
        details -> Nullable<Binary>,
        key_digest -> Nullable<Binary>,
        fingerprint -> Nullable<Binary>,
        hash -> Binary,
    }
}
diesel::table! {
    lanes (lane) {
        lane -> Integer,
        head_seq -> BigInt,
        head_hash -> Binary,
        postings -> BigInt,
        keys_indexed_to -> BigInt,
    }
}
diesel::table! {
    idempotency_keys (key_digest) { key_digest -> Binary, lane -> Integer, seq -> BigInt, }
}
diesel::table! {
    outbox (lane) { lane -> Integer, position -> BigInt, }
}
diesel::table! {
    outbox_quarantine (id) {
        id -> BigInt,
        lane -> Integer,
        seq -> BigInt,
        topic -> Text,
        payload -> Binary,
        reason -> Text,
        quarantined_at -> BigInt,
    }
}

diesel::table! {
    device_types (code) { code -> Text, description -> Text, silence -> Nullable<BigInt>, }
}
diesel::table! {
    devices (id) {
        id -> BigInt,
        slug -> Text,
        company_id -> BigInt,
        site_id -> BigInt,
        kind -> Text,
        name -> Text,
        active -> Bool,
        created_at -> BigInt,
        trust -> Integer,
    }
}
diesel::table! {
    device_passwords (device_id) { device_id -> BigInt, sealed -> Binary, changed_at -> BigInt, }
}
diesel::table! {
    device_secrets (device_id) { device_id -> BigInt, digest -> Binary, changed_at -> BigInt, }
}
diesel::table! {
    broker_windows (device_id) { device_id -> BigInt, sequence -> Binary, heard_at -> BigInt, }
}
diesel::table! {
    device_keys (id) {
        id -> BigInt,
        kid -> Text,
        device_id -> BigInt,
        algorithm -> Integer,
        material -> Binary,
        created_at -> BigInt,
        revoked_at -> Nullable<BigInt>,
    }
}
diesel::table! {
    device_windows (key_id) {
        key_id -> BigInt,
        device_id -> BigInt,
        sequence -> Binary,
        heard_at -> BigInt,
    }
}
diesel::table! {
    alert_kinds (id) {
        id -> BigInt,
        company_id -> BigInt,
        code -> Text,
        name -> Text,
        priority -> Integer,
        colour -> Text,
        description -> Text,
        instructions -> Text,
        items -> Text,
        escalation -> Nullable<BigInt>,
        active -> Bool,
    }
}
diesel::table! {
    rules (id, version) {
        id -> BigInt,
        version -> BigInt,
        company_id -> BigInt,
        name -> Text,
        position -> Integer,
        condition -> Text,
        actions -> Text,
        active -> Bool,
        principal -> BigInt,
        changed_at -> BigInt,
    }
}
diesel::table! {
    alerts (id) {
        id -> BigInt,
        alert_id -> Binary,
        company_id -> BigInt,
        site_id -> BigInt,
        device_id -> BigInt,
        kind -> Text,
        priority -> Integer,
        state -> Integer,
        late -> Bool,
        count -> BigInt,
        escalations -> BigInt,
        freezes -> Bool,
        raised_at -> BigInt,
        updated_at -> BigInt,
        acknowledged_at -> Nullable<BigInt>,
        closed_at -> Nullable<BigInt>,
        escalate_at -> Nullable<BigInt>,
        first_seq -> BigInt,
        last_seq -> BigInt,
    }
}
diesel::table! {
    alert_messages (key_id, seq) { key_id -> BigInt, seq -> BigInt, alert -> BigInt, digest -> Binary, }
}
diesel::table! {
    journal_texts (seq) { seq -> BigInt, body -> Binary, }
}
diesel::table! {
    quarantine (id) {
        id -> BigInt,
        digest -> Binary,
        received_at -> BigInt,
        channel -> Integer,
        topic -> Nullable<Text>,
        device -> Nullable<Text>,
        reason -> Text,
        detail -> Text,
        count -> BigInt,
        message -> Binary,
        truncated -> Bool,
    }
}

diesel::table! {
    people (id) {
        id -> BigInt,
        username -> Text,
        name -> Text,
        active -> Bool,
        password -> Text,
        must_change -> Bool,
        totp -> Nullable<Binary>,
        totp_step -> BigInt,
        created_at -> BigInt,
    }
}
diesel::table! {
    api_tokens (id) {
        id -> BigInt,
        name -> Text,
        digest -> Binary,
        created_by -> BigInt,
        created_at -> BigInt,
        expires_at -> BigInt,
        revoked_at -> Nullable<BigInt>,
    }
}
diesel::table! {
    grants (id) {
        id -> BigInt,
        principal_id -> BigInt,
        role -> Integer,
        company_id -> Nullable<BigInt>,
        site_id -> Nullable<BigInt>,
        account -> Nullable<Text>,
    }
}
diesel::table! {
    sessions (id) {
        id -> BigInt,
        digest -> Binary,
        person_id -> BigInt,
        created_at -> BigInt,
        expires_at -> BigInt,
        seen_at -> BigInt,
        address -> Nullable<Text>,
        client -> Nullable<Text>,
    }
}

diesel::joinable!(account_holders -> accounts (account));
diesel::joinable!(devices -> companies (company_id));
diesel::joinable!(devices -> sites (site_id));
diesel::joinable!(device_keys -> devices (device_id));
diesel::joinable!(device_passwords -> devices (device_id));
diesel::joinable!(device_secrets -> devices (device_id));
diesel::joinable!(alerts -> companies (company_id));
diesel::joinable!(alerts -> sites (site_id));
diesel::joinable!(alerts -> devices (device_id));
diesel::joinable!(alert_kinds -> companies (company_id));
diesel::joinable!(sites -> companies (company_id));
diesel::joinable!(rules -> companies (company_id));
diesel::joinable!(grants -> companies (company_id));
diesel::joinable!(grants -> sites (site_id));
diesel::allow_tables_to_appear_in_same_query!(lanes, journal);
diesel::allow_tables_to_appear_in_same_query!(accounts, account_holders);
diesel::allow_tables_to_appear_in_same_query!(people, grants);
diesel::allow_tables_to_appear_in_same_query!(quarantine, devices);
diesel::allow_tables_to_appear_in_same_query!(
    companies,
    sites,
    devices,
    device_passwords,
    device_secrets,
    device_keys,
    device_windows,
    alerts,
    alert_kinds,
    rules,
    journal_texts,
    grants,
);
