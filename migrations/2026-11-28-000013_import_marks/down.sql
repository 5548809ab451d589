ALTER TABLE users DROP COLUMN import_mark;
