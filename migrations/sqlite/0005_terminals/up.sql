-- Terminals from before Atalaya, which are trusted for their address and show no token.
INSERT INTO principals (id, kind, name, created_at)
VALUES (5, 'terminal', 'terminal', CAST(strftime('%s', 'now') AS INTEGER) * 1000000);
