//! The ping: whether the database can be *written*, asked every second.
//!
//! It changes a number in a row of its own. Where an operation has failed in a way that this may not notice (a full
//! disk lets a row be changed in place; a privilege is missing on one table), the next pings look more closely, until
//! one finds all well.

use std::sync::atomic::{AtomicBool, Ordering};

use diesel::{ExpressionMethods as _, QueryDsl as _};
use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};

use crate::store::{
    OPERATION_TIMEOUT, Operation, Store, StoreError,
    connections::{pool::Pool, sqlite},
    same,
    schema::{TABLES, write_probe},
};

/// The one row.
const ROW: &str = "ping";

/// Fills some pages, so that a table has to grow, and takes it all back.
const GROW: &str = "BEGIN; \
    INSERT INTO write_probe (id, pings, padding) \
    SELECT 'growth ' || gen_random_uuid()::text, 0, \
           (SELECT string_agg(md5(random()::text || line), '') FROM generate_series(1, 45) AS line) \
    FROM generate_series(1, 20); \
    ROLLBACK";

macro_rules! count {
    ($conn:expr) => {{
        let row = write_probe::table.filter(write_probe::id.eq(ROW));
        let counted = diesel::update(row).set(write_probe::pings.eq(write_probe::pings + 1));
        match counted.execute($conn).await? {
            0 => {
                let row = (write_probe::id.eq(ROW), write_probe::pings.eq(0_i64));
                diesel::insert_into(write_probe::table)
                    .values(row)
                    .execute($conn)
                    .await?;
            }
            _ => {}
        }
        Ok(())
    }};
}

impl Store {
    /// Asks whether the database can be written, closing or opening the circuit by the answer.
    ///
    /// # Errors
    /// It cannot, or gave no answer.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let looks_closely = AtomicBool::load(&self.is_suspect, Ordering::Relaxed);
        let began = self.availability.now();
        let probe: Operation<'_, ()> = Box::pin(self.probe(looks_closely));
        let probed = tokio::time::timeout(OPERATION_TIMEOUT, probe).await;
        let result = match (probed, &self.pool) {
            (Err(_), _) => Err(StoreError::Silent("no answer to a ping in time".to_owned())),
            (Ok(Err(StoreError::PoolExhausted)), Pool::Postgres(pool)) if pool.is_stuck() => {
                let stuck = "most connections wait for answers of the server";
                Err(StoreError::Silent(stuck.to_owned()))
            }
            (Ok(result), _) => result,
        };
        let was_closed = self.circuit.is_closed();
        self.availability.record_ping(began, &result);
        self.circuit.record_ping(&result);
        match (&result, &self.pool) {
            (Ok(()), pool) => {
                if looks_closely {
                    self.is_suspect.store(false, Ordering::Relaxed);
                }
                if let Pool::Postgres(pool) = pool {
                    pool.grow();
                    if !was_closed {
                        // What was opened meanwhile may read and not write.
                        pool.close_idle();
                    }
                }
            }
            (Err(StoreError::PoolExhausted | StoreError::Busy(_)), _) => {}
            // The connections that are left are not likely to be better.
            (Err(_), pool) => pool.close_idle(),
        }
        result
    }

    async fn probe(&self, looks_closely: bool) -> Result<(), StoreError> {
        match &self.pool {
            Pool::Postgres(pool) => {
                let mut lease = pool.get().await?;
                let conn = lease.begin();
                let probed = same(async {
                    if looks_closely {
                        conn.batch_execute(GROW).await?;
                        conn.batch_execute(&touch_all_tables()).await?;
                    }
                    count!(conn)
                });
                let probed = probed.await;
                lease.end(probed)
            }
            Pool::Sqlite { writer, file, .. } => {
                file.check()?;
                let probe = async || {
                    let pooled = writer.get().await?;
                    sqlite::in_place(pooled, async |conn| {
                        if looks_closely {
                            conn.batch_execute(&touch_all_tables()).await?;
                        }
                        count!(conn)
                    })
                };
                // Another process may hold the lock for a moment; what fails twice, on a connection of its own each
                // time, lasts.
                match probe().await {
                    Err(StoreError::Busy(_)) => probe().await.map_err(|error| match error {
                        StoreError::Busy(text) => StoreError::NotWritable(text),
                        other => other,
                    }),
                    probed => probed,
                }
            }
        }
    }
}

/// Statements that change nothing and need each table, with the right to write it.
fn touch_all_tables() -> String {
    let touch = |table: &&str| {
        format!(
            "INSERT INTO {table} SELECT * FROM {table} WHERE 1 = 0; DELETE FROM {table} WHERE 1 = 0; "
        )
    };
    TABLES.iter().map(touch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_of_the_schema_is_touched() {
        let declared = include_str!("../schema.rs")
            .split("diesel::table! {")
            .skip(1);
        let declared: Vec<_> = declared
            .filter_map(|text| text.lines().find_map(|line| line.trim().strip_suffix(" {")))
            .filter_map(|head| head.split_once(" ("))
            .map(|(name, _)| name)
            .collect();
        assert!(!declared.is_empty());
        assert_eq!(declared, TABLES);
    }
}
