DROP TABLE password_parameters;
DROP INDEX users_by_email_identity;
ALTER TABLE users DROP COLUMN email_identity;
