//! Connections: pools, PostgreSQL and SQLite behind one interface, outages and how they are noticed.

pub(in crate::store) mod availability;
pub(in crate::store) mod circuit;
pub(in crate::store) mod ping;
pub(in crate::store) mod pool;
pub(in crate::store) mod pool_load;
pub(in crate::store) mod postgres;
pub(in crate::store) mod postgres_pool;
pub(in crate::store) mod replicas;
pub(in crate::store) mod shared_clock;
pub(in crate::store) mod sqlite;
pub(in crate::store) mod sqlite_file;
pub(in crate::store) mod start;
pub(in crate::store) mod statement_spans;
pub(in crate::store) mod suspicion;
