//! The same calls on a small and on a large database: the large one must not be felt.

use std::time::Duration;

use super::Bench;
use crate::{
    driver::{Client, Load, OK, Source, in_turn},
    error::Result,
    fixture::{CHEAP_HASHES, Fixture, LOGIN, REFRESH, VALIDATE, logins, refreshes},
    measured::Bound,
    postgres::Cluster,
    process::Process,
    rounds::{Figures, Rounds},
    seed::{self, Size},
};

const GROUP: &str = "growth";
const SMALL: Size = Size {
    users: 1_000,
    revocations: 100,
};

/// A service with a database of some size.
struct Place {
    _process: Process,
    _fixture: Fixture,
    client: Client,
    validations: Source,
    logins: Source,
    refreshes: Source,
}

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let rounds = bench.choose(5, 11);
    let duration = Duration::from_millis(bench.choose(200, 1_000));
    let large = Size {
        users: bench.choose(100_000, 1_000_000),
        revocations: bench.choose(10_000, 100_000),
    };
    let cluster = match bench.postgres_bin {
        Some(bin) => Some(Cluster::start(bin).await?),
        None => None,
    };
    let ours = Place::new(cluster.as_ref(), "large", large).await?;
    let other = Place::new(cluster.as_ref(), "small", SMALL).await?;
    let database = if cluster.is_some() {
        "PostgreSQL"
    } else {
        "SQLite"
    };

    let calls: [(&str, &'static str, usize); 3] = [
        ("validate", VALIDATE, 16),
        ("login", LOGIN, 4),
        ("refresh", REFRESH, 8),
    ];
    for (name, path, streams) in calls {
        let measured = Rounds::measure(
            rounds,
            async || ours.drive(path, streams, duration).await,
            async || other.drive(path, streams, duration).await,
        )
        .await?;
        for (figure, quantile, bound) in [(0, "p50", Some(Bound::AtMost(1.2))), (1, "p99", None)] {
            bench.report.compare(
                GROUP,
                &format!("{name} {quantile}, us, {} users, {database}", large.users),
                "1,000 users",
                measured.medians(figure),
                bound,
            );
        }
    }
    Ok(())
}

impl Place {
    async fn new(cluster: Option<&Cluster>, name: &str, size: Size) -> Result<Self> {
        let fixture = match cluster {
            Some(cluster) => Fixture::on(&cluster.create(name).await?, CHEAP_HASHES)?,
            None => Fixture::sqlite(CHEAP_HASHES)?,
        };
        // The first start makes the tables, the second reads what has been put into them.
        fixture.start().await?.stop().await?;
        match cluster {
            Some(cluster) => seed::postgres(cluster, name, size).await?,
            None => seed::sqlite(fixture.folder(), size)?,
        }
        let process = fixture.start().await?;
        let client = Client::connect(process.address, 4).await?;
        Ok(Self {
            validations: in_turn(fixture.mint().await?.requests(256)?),
            logins: in_turn(logins(&client, 32).await?),
            refreshes: refreshes(&client, 8).await?,
            client,
            _process: process,
            _fixture: fixture,
        })
    }

    async fn drive(
        &self,
        path: &'static str,
        streams: usize,
        duration: Duration,
    ) -> Result<Figures> {
        let source = match path {
            VALIDATE => &self.validations,
            LOGIN => &self.logins,
            _ => &self.refreshes,
        };
        let sample = self
            .client
            .drive(&Load {
                path,
                source: Source::clone(source),
                streams,
                duration,
                pace: None,
            })
            .await?;
        sample.all_good()?;
        Ok(vec![sample.micros(OK, 0.5), sample.micros(OK, 0.99)])
    }
}
