//! `grpc.health.v1.Health`, driven by what is true.
//!
//! tonic-health's own service differs from what callers may rely on: a fresh reporter already says
//! `""` is SERVING, and `Watch` of an unknown name fails instead of staying open. So its messages
//! and its generated server are used, with one shared snapshot behind them.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::sync::watch;
use tokio_stream::{Stream, wrappers::WatchStream};
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};

/// The names that serve as long as the process can validate tokens, with or without a database.
const ALIVE: &[&str] = &["", "countersign.auth.v1.VerifierService"];

/// The names that need the database besides.
const ALIVE_WITH_DATABASE: &[&str] = &[
    "countersign.auth.v1.AuthService",
    "countersign.auth.v1.AccountService",
    "countersign.auth.v1.AdminService",
];

/// Keeps what is known about the process's health; dropping it ends every `Watch`.
#[derive(Debug)]
pub struct HealthState {
    current: watch::Sender<Snapshot>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Snapshot {
    alive: bool,
    database: bool,
}

impl HealthState {
    /// The state, `NOT_SERVING` for every known name, and the service that tells it.
    pub fn new() -> (Self, HealthServer<HealthApi>) {
        let (current, snapshots) = watch::channel(Snapshot::default());
        (Self { current }, HealthServer::new(HealthApi { snapshots }))
    }

    /// Tells the world: `alive` when keys are loaded, revocations were synchronised and no shutdown
    /// has begun; `database` when it answers. Watchers hear only of what changes for them.
    pub fn publish(&self, alive: bool, database: bool) {
        let next = Snapshot { alive, database };
        self.current.send_if_modified(|current| {
            let changed = *current != next;
            *current = next;
            changed
        });
    }
}

/// The health service.
#[derive(Clone, Debug)]
pub struct HealthApi {
    snapshots: watch::Receiver<Snapshot>,
}

#[tonic::async_trait]
impl Health for HealthApi {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let snapshot = *self.snapshots.borrow();
        match Subject::named(&request.get_ref().service).status(snapshot) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("There is no such service.")),
            status => Ok(Response::new(answer(status))),
        }
    }

    type WatchStream = HealthWatch;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(HealthWatch {
            subject: Subject::named(&request.get_ref().service),
            last: None,
            snapshots: WatchStream::new(self.snapshots.clone()),
        }))
    }
}

/// What a name stands for. The names are fixed while the process runs, so an unknown one stays so.
#[derive(Clone, Copy, Debug)]
enum Subject {
    Alive,
    AliveWithDatabase,
    Unknown,
}

impl Subject {
    fn named(name: &str) -> Self {
        if ALIVE.contains(&name) {
            Self::Alive
        } else if ALIVE_WITH_DATABASE.contains(&name) {
            Self::AliveWithDatabase
        } else {
            Self::Unknown
        }
    }

    const fn status(self, snapshot: Snapshot) -> ServingStatus {
        let serving = match self {
            Self::Alive => snapshot.alive,
            Self::AliveWithDatabase => snapshot.alive && snapshot.database,
            Self::Unknown => return ServingStatus::ServiceUnknown,
        };
        if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        }
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

/// The stream of one `Watch`: the status now, then each change.
#[derive(Debug)]
pub struct HealthWatch {
    subject: Subject,
    last: Option<ServingStatus>,
    snapshots: WatchStream<Snapshot>,
}

impl Stream for HealthWatch {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while let Some(snapshot) = ready!(Pin::new(&mut self.snapshots).poll_next(cx)) {
            let status = self.subject.status(snapshot);
            if self.last.replace(status) != Some(status) {
                return Poll::Ready(Some(Ok(answer(status))));
            }
        }
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    fn api() -> (HealthState, HealthApi) {
        let (current, snapshots) = watch::channel(Snapshot::default());
        (HealthState { current }, HealthApi { snapshots })
    }

    fn ask(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest {
            service: service.to_owned(),
        })
    }

    async fn check(api: &HealthApi, service: &str) -> ServingStatus {
        let answer = api.check(ask(service)).await.unwrap();
        answer.into_inner().status()
    }

    #[tokio::test]
    async fn the_database_counts_only_for_those_who_need_it() {
        use ServingStatus::{NotServing, Serving};
        let (state, api) = api();
        for (alive, database, for_all, for_auth) in [
            (false, false, NotServing, NotServing),
            (false, true, NotServing, NotServing),
            (true, false, Serving, NotServing),
            (true, true, Serving, Serving),
        ] {
            state.publish(alive, database);
            assert_eq!(check(&api, "").await, for_all);
            assert_eq!(
                check(&api, "countersign.auth.v1.VerifierService").await,
                for_all
            );
            assert_eq!(
                check(&api, "countersign.auth.v1.AuthService").await,
                for_auth
            );
        }
    }

    #[tokio::test]
    async fn nothing_serves_before_it_was_said_to() {
        let (_state, api) = api();
        for name in ALIVE.iter().chain(ALIVE_WITH_DATABASE) {
            assert_eq!(check(&api, name).await, ServingStatus::NotServing);
        }
        let unknown = api.check(ask("nobody")).await.unwrap_err();
        assert_eq!(unknown.code(), tonic::Code::NotFound);
    }

    #[tokio::test]
    async fn a_watcher_hears_only_of_changes_and_the_end() {
        let (state, api) = api();
        let mut all = api.watch(ask("")).await.unwrap().into_inner();
        let mut next = async || {
            let item = all.next().await?;
            Some(item.unwrap().status())
        };
        assert_eq!(next().await, Some(ServingStatus::NotServing));
        state.publish(true, false);
        assert_eq!(next().await, Some(ServingStatus::Serving));
        state.publish(true, true);
        state.publish(false, true);
        assert_eq!(next().await, Some(ServingStatus::NotServing));
        drop(state);
        assert_eq!(next().await, None);
    }
}
