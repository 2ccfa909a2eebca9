DROP TABLE IF EXISTS sessions, grants, api_tokens, people, quarantine, journal_texts, alert_messages,
    alerts, rules, alert_kinds, broker_windows, device_windows, device_keys, device_passwords, devices,
    device_types, outbox_quarantine, outbox, idempotency_keys, lanes, journal, account_holders,
    accounts, principals, sites, companies, installation;
