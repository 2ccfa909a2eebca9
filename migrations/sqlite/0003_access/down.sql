DROP INDEX journal_audit;
DROP TABLE sessions;
DROP TABLE grants;
DROP TABLE api_tokens;
DROP TABLE people;
DELETE FROM principals WHERE id >= 4;
