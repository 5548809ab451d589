DROP INDEX mails_failed;
ALTER TABLE sessions DROP COLUMN rotated_by_database_at;
