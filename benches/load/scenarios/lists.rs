//! First pages of the lists of AdminService with a thousand and with many rows, on PostgreSQL.

use countersign::{clock::monotonic_now, grpc::pb};
use prost::Message;

use super::Bench;
use crate::{
    driver::{Caller, Client, OK, frame},
    error::Result,
    fixture::{CHEAP_HASHES, Fixture, LOGIN, login, register},
    measured::Bound,
    postgres::Cluster,
    process::Process,
    rounds::{Figures, Rounds, median},
    seed::{self, Size},
};

const GROUP: &str = "lists";
const FEW: u32 = 1_000;
const ADMINISTRATOR: &str = "root@example.org";
/// Rows of a page.
const PAGE: i32 = 50;
/// Calls of a round.
const CALLS: usize = 100;

/// What is asked for: a name, the method, and the filter.
const LISTS: [(&str, &str, &str); 4] = [
    ("ListUsers", USERS, ""),
    ("ListUsers, roles:admin", USERS, "roles:admin"),
    ("ListAuditEvents", EVENTS, ""),
    (
        "ListAuditEvents, kind = \"registered\"",
        EVENTS,
        "kind = \"registered\"",
    ),
];
const USERS: &str = "/countersign.auth.v1.AdminService/ListUsers";
const EVENTS: &str = "/countersign.auth.v1.AdminService/ListAuditEvents";

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let Some(bin) = bench.postgres_bin else {
        eprintln!("  left out: it needs --postgres-bin");
        return Ok(());
    };
    let many = bench.choose(100_000, 1_000_000);
    let cluster = Cluster::start(bin).await?;
    let ours = Place::new(&cluster, "many", many).await?;
    let other = Place::new(&cluster, "few", FEW).await?;
    let measured = Rounds::measure(
        bench.choose(3, 7),
        async || ours.first_pages().await,
        async || other.first_pages().await,
    )
    .await?;
    for (figure, (name, _, filter)) in LISTS.into_iter().enumerate() {
        let bound = filter.is_empty().then_some(Bound::AtMost(1.5));
        let name = format!("{name}: first page p50, us, {many} rows");
        let medians = measured.medians(figure);
        bench
            .report
            .compare(GROUP, &name, "1,000 rows", medians, bound);
    }
    Ok(())
}

/// A service with that many users and audit events, and an administrator.
struct Place {
    client: Client,
    access_token: String,
    _process: Process,
    _fixture: Fixture,
}

impl Place {
    async fn new(cluster: &Cluster, name: &str, rows: u32) -> Result<Self> {
        let fixture = Fixture::on(&cluster.create(name).await?, CHEAP_HASHES)?;
        // The first start makes the tables, the second reads what has been put into them.
        let process = fixture.start().await?;
        let client = Client::connect(process.address, 1).await?;
        register(&client, ADMINISTRATOR).await?;
        process.stop().await?;
        let size = Size {
            users: rows,
            revocations: 0,
        };
        seed::audit_events(cluster, name, rows).await?;
        seed::postgres(cluster, name, size).await?;
        let database = cluster.connect(name).await?;
        let grant = format!("UPDATE users SET roles = 'admin' WHERE email = '{ADMINISTRATOR}'");
        database.batch_execute(&grant).await?;
        let process = fixture.start().await?;
        let client = Client::connect(process.address, 1).await?;
        let answer: pb::LoginResponse = client.call(LOGIN, &login(ADMINISTRATOR)).await?;
        Ok(Self {
            access_token: answer.tokens.ok_or("a login without tokens")?.access_token,
            client,
            _process: process,
            _fixture: fixture,
        })
    }

    /// The median time of a first page, in microseconds, for each of the lists.
    async fn first_pages(&self) -> Result<Figures> {
        let mut figures = Figures::new();
        for (_, path, filter) in LISTS {
            let mut caller = self.client.caller(path, 0).bearing(&self.access_token)?;
            let filter = filter.to_owned();
            let micros = match path {
                USERS => {
                    let request = pb::ListUsersRequest {
                        page_size: PAGE,
                        filter,
                        ..Default::default()
                    };
                    p50(&mut caller, &request).await?
                }
                _ => {
                    let request = pb::ListAuditEventsRequest {
                        page_size: PAGE,
                        filter,
                        ..Default::default()
                    };
                    p50(&mut caller, &request).await?
                }
            };
            figures.push(micros);
        }
        Ok(figures)
    }
}

async fn p50(caller: &mut Caller, request: &impl Message) -> Result<f64> {
    let request = frame(request);
    let mut micros = Vec::new();
    for _ in 0..CALLS {
        let began = monotonic_now();
        let answer = caller.call(request.clone()).await?;
        if answer.code != OK {
            return Err(answer.explanation.into());
        }
        let took = monotonic_now().saturating_duration_since(began);
        micros.push(took.as_secs_f64() * 1e6);
    }
    Ok(median(micros))
}
