DROP TABLE used_challenges;
DROP TABLE recovery_codes;
DROP TABLE passkeys;
DROP TABLE totp_factors;
ALTER TABLE users DROP COLUMN factor_kinds;
