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
    companies (id) { id -> BigInt, slug -> Text, name -> Text, active -> Bool, created_at -> BigInt, }
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

diesel::joinable!(account_holders -> accounts (account));
diesel::allow_tables_to_appear_in_same_query!(accounts, account_holders);
