-- One row: which programs may use this schema. A program of an earlier version runs beside a newer schema when it
-- knows the migration named here. A migration that earlier programs cannot live with sets it to its own version.
CREATE TABLE schema_compatibility (
    id TEXT NOT NULL PRIMARY KEY,
    -- The version of a migration, digits alone, as in __diesel_schema_migrations.
    least_migration TEXT NOT NULL
);

INSERT INTO schema_compatibility (id, least_migration) VALUES ('schema', '20261128000008');
