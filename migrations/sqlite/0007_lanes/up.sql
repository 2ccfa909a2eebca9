-- The writer lane that an account belongs to: on SQLite the one there is.
ALTER TABLE accounts ADD COLUMN lane INTEGER NOT NULL DEFAULT 0;
