-- A MAC of the record that a user was imported from: an import that is repeated after a failure tells by it what is done
-- already. Null for users who were not imported.
ALTER TABLE users ADD COLUMN import_mark TEXT;
