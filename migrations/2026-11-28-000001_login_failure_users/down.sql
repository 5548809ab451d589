DROP INDEX login_failures_by_user;
ALTER TABLE login_failures DROP COLUMN user_id;
