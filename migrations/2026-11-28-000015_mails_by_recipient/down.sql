DROP INDEX mails_by_user;
DROP INDEX mails_by_address;
ALTER TABLE mails DROP COLUMN email_key;
