DROP TABLE used_challenges;
DROP TABLE recovery_codes;
DROP TABLE passkeys;
DROP TABLE totp_factors;
ALTER TABLE users DROP COLUMN factor_kinds;
UPDATE schema_compatibility SET least_migration = '20261128000008' WHERE least_migration = '20261128000012';
