//! Records the outages of each replica in the database, so that all replicas know them.
//!
//! Each writes a heartbeat every few seconds. One whose heartbeats have stopped cannot reach the database, or is gone:
//! answers that its clients wait for may be lost since then. Afterwards it writes down when it could not.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    clock::Timestamp,
    domain::{LONGEST_ALLOWANCE, Outage},
    store::{Store, StoreError, read, schema::replicas, write},
};

/// A replica that was not seen for this long cannot reach the database; heartbeats come every two seconds.
const SILENT: Duration = Duration::from_secs(5);

/// How long a row is kept after the last heartbeat.
const KEPT: Duration = Duration::from_secs(3600);

/// How many other replicas are asked, those seen last first.
const ASKED: i64 = 256;

impl Store {
    /// Writes this replica's heartbeat, for the others. On SQLite there are none.
    ///
    /// # Errors
    /// The database fails.
    pub async fn write_heartbeat(&self) -> Result<(), StoreError> {
        self.availability.tick();
        if self.is_local() {
            return Ok(());
        }
        let now = self.availability.time_of_day().micros();
        let outages = to_text(&self.availability.outages_while_serving());
        let row = (
            replicas::id.eq(&*self.replica_id),
            replicas::seen_at.eq(now),
            replicas::outages.eq(&outages),
        );
        write!(self, |conn| {
            diesel::insert_into(replicas::table)
                .values(row)
                .on_conflict(replicas::id)
                .do_update()
                .set((replicas::seen_at.eq(now), replicas::outages.eq(&outages)))
                .execute(conn)
                .await?;
            Ok(())
        })
    }

    /// Takes back the heartbeats of a replica that stops as it should, and of those that are long gone.
    ///
    /// # Errors
    /// The database fails.
    pub async fn end_heartbeats(&self) -> Result<(), StoreError> {
        if self.is_local() {
            return Ok(());
        }
        let stale = (self.availability.time_of_day() - KEPT).micros();
        let over = replicas::table
            .filter(replicas::id.eq(&*self.replica_id))
            .or_filter(replicas::seen_at.lt(stale));
        write!(self, |conn| {
            diesel::delete(over).execute(conn).await?;
            Ok(())
        })
    }

    /// Notes that this replica serves from now on: the time before is one in which it could not answer.
    pub fn begin_serving(&self) {
        self.availability.serve();
    }

    /// When this replica could not answer, of late.
    pub fn outages(&self) -> Vec<Outage> {
        self.availability.outages()
    }

    /// When the other replicas could not, as far as it can be known at `now`.
    ///
    /// # Errors
    /// The database fails.
    pub async fn outages_of_others(&self, now: Timestamp) -> Result<Vec<Outage>, StoreError> {
        if self.is_local() {
            return Ok(Vec::new());
        }
        let others = replicas::table
            .filter(replicas::id.ne(&*self.replica_id))
            .filter(replicas::seen_at.gt((now - KEPT).micros()))
            .order(replicas::seen_at.desc())
            .limit(ASKED)
            .select((replicas::seen_at, replicas::outages));
        let rows: Vec<(i64, String)> = read!(self, |conn| Ok(others.get_results(conn).await?))?;
        let outages = rows
            .iter()
            .flat_map(|(seen_at, outages)| outages_of(*seen_at, outages, now));
        Ok(outages.collect())
    }
}

/// The outages in one replica's row. The end of its silence is not known while it lasts; after the longest allowance
/// nothing depends on it any more.
fn outages_of(seen_at: i64, outages: &str, now: Timestamp) -> Vec<Outage> {
    let mut outages = from_text(outages);
    let began = Timestamp::from_micros(seen_at);
    if now.since(began) > SILENT {
        let ended = now.min(began + LONGEST_ALLOWANCE);
        outages.push(Outage { began, ended });
    }
    outages
}

fn to_text(outages: &[Outage]) -> String {
    let span = |outage: &Outage| format!("{}-{}", outage.began.micros(), outage.ended.micros());
    outages.iter().map(span).collect::<Vec<_>>().join(",")
}

/// Leaves out what it cannot read: another version may have written it.
fn from_text(text: &str) -> Vec<Outage> {
    let span = |span: &str| {
        let (began, ended) = span.split_once('-')?;
        Some(Outage {
            began: Timestamp::from_micros(began.parse().ok()?),
            ended: Timestamp::from_micros(ended.parse().ok()?),
        })
    };
    text.split(',').filter_map(span).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn outage(began: i64, ended: i64) -> Outage {
        Outage {
            began: at(began),
            ended: at(ended),
        }
    }

    #[test]
    fn a_replica_whose_heartbeats_have_stopped_is_out_since_the_last_one() {
        let seen_at = at(1_000).micros();
        assert_eq!(outages_of(seen_at, "", at(1_005)), []);
        assert_eq!(outages_of(seen_at, "", at(1_006)), [outage(1_000, 1_006)]);
        assert_eq!(outages_of(seen_at, "", at(9_000)), [outage(1_000, 1_300)]);
        let written = to_text(&[outage(900, 950)]);
        let all = [outage(900, 950), outage(1_000, 1_010)];
        assert_eq!(outages_of(seen_at, &written, at(1_010)), all);
    }

    proptest! {
        #[test]
        fn outages_survive_storage(spans in prop::collection::vec((0..i64::MAX, 0..i64::MAX), 0..8)) {
            let outages: Vec<_> = spans
                .iter()
                .map(|(began, ended)| Outage {
                    began: Timestamp::from_micros(*began),
                    ended: Timestamp::from_micros(*ended),
                })
                .collect();
            prop_assert_eq!(from_text(&to_text(&outages)), outages);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,60}") {
            let _ = from_text(&text);
        }
    }
}
