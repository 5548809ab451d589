DROP TABLE service_directory;
DROP TABLE service_keys;
DROP TABLE service_accounts;
