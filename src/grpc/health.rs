//! `grpc.health.v1.Health`: tonic-health's service, completed by what version 0.14 lacks.
//!
//! tonic-health keeps the statuses and answers `Check` and `Watch`. Two things are added here: `List`, and for `Watch` of
//! an unknown name the answer that the protocol demands (SERVICE_UNKNOWN on a stream that stays open), where tonic-health
//! fails with NOT_FOUND.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::Semaphore;
use tonic::{Code, Request, Response, Status};
use tonic_health::{
    ServingStatus,
    pb::{self as library, health_server::Health as _},
    server::{HealthReporter, HealthService},
};

use super::{
    Detail, Reason, RequestId,
    health_pb::{
        HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
        health_check_response::ServingStatus as WireStatus,
        health_server::{self, HealthServer},
    },
    status,
};
use crate::http::Readiness;

/// The names that are SERVING while the process can validate tokens, with or without a database.
const VALIDATION: &[&str] = &[
    "",
    "countersign.auth.v1.VerifierService",
    "countersign.auth.v1.TokenService",
];

/// The names that need the database as well.
const DATABASE: &[&str] = &[
    "countersign.auth.v1.AuthService",
    "countersign.auth.v1.AccountService",
    "countersign.auth.v1.AdminService",
    "countersign.auth.v1.ServiceAccountService",
];

/// Sets the statuses that the health service reports.
#[derive(Debug)]
pub struct HealthStatuses {
    reporter: HealthReporter,
    published: Readiness,
}

impl HealthStatuses {
    /// The statuses, NOT_SERVING for every name, and the service that reports them.
    pub async fn new() -> (Self, HealthServer<HealthApi>) {
        let reporter = HealthReporter::new();
        // A new reporter says that `""` is SERVING.
        for name in VALIDATION.iter().chain(DATABASE) {
            set(&reporter, name, false).await;
        }
        let service = HealthService::from_health_reporter(reporter.clone());
        let statuses = Self {
            reporter,
            published: Readiness::default(),
        };
        let watchers = Arc::new(Semaphore::new(MAX_WATCHERS));
        (statuses, HealthServer::new(HealthApi { service, watchers }))
    }

    /// Reports what is true now. Watchers receive only what changes for them.
    pub async fn publish(&mut self, readiness: Readiness) {
        let before = std::mem::replace(&mut self.published, readiness);
        let changes = [
            (VALIDATION, before.validation, readiness.validation),
            (DATABASE, before.is_complete(), readiness.is_complete()),
        ];
        for (names, before, serving) in changes {
            for name in names.iter().filter(|_| before != serving) {
                set(&self.reporter, name, serving).await;
            }
        }
    }
}

async fn set(reporter: &HealthReporter, name: &str, serving: bool) {
    let status = match serving {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    };
    reporter.set_service_status(name, status).await;
}

/// The health service.
#[derive(Debug)]
pub struct HealthApi {
    service: HealthService,
    watchers: Arc<Semaphore>,
}

/// Streams of `Watch` at once, by all callers: each costs some kilobytes and needs no token. Probes use `Check`.
const MAX_WATCHERS: usize = 1_000;
/// How long a caller that found no place should wait before it retries.
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl HealthApi {
    async fn status(&self, name: &str) -> Result<HealthCheckResponse, Status> {
        let answer = self.service.check(library_request(name)).await?;
        Ok(response(answer.into_inner()))
    }
}

#[tonic::async_trait]
impl health_server::Health for HealthApi {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status = self.status(&request.get_ref().service).await?;
        Ok(Response::new(status))
    }

    async fn list(
        &self,
        _: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let mut list = HealthListResponse::default();
        for name in VALIDATION.iter().chain(DATABASE) {
            list.statuses
                .insert((*name).to_owned(), self.status(name).await?);
        }
        Ok(Response::new(list))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let place = Arc::clone(&self.watchers).try_acquire_owned();
        let place = place.map_err(|_| {
            let request_id = RequestId::of(request.extensions());
            status(
                Reason::RateLimited,
                &request_id,
                Detail::RetryAfter(RETRY_AFTER),
            )
        })?;
        let name = &request.get_ref().service;
        let stream: Self::WatchStream = match self.service.watch(library_request(name)).await {
            Ok(watch) => {
                let watch = watch.into_inner();
                Box::pin(watch.map(|status| status.map(response)))
            }
            // The names do not change while the process runs, so nothing follows.
            Err(status) if status.code() == Code::NotFound => {
                let unknown = HealthCheckResponse {
                    status: WireStatus::ServiceUnknown.into(),
                };
                Box::pin(stream::iter([Ok(unknown)]).chain(stream::pending()))
            }
            Err(status) => return Err(status),
        };
        // The place is taken for as long as the stream is there.
        let stream = stream.inspect(move |_| {
            let _ = &place;
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

fn library_request(name: &str) -> Request<library::HealthCheckRequest> {
    Request::new(library::HealthCheckRequest {
        service: name.to_owned(),
    })
}

/// The two messages are the same on the wire; each crate generates its own type.
const fn response(answer: library::HealthCheckResponse) -> HealthCheckResponse {
    HealthCheckResponse {
        status: answer.status,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use health_server::Health as _;

    use super::*;

    const AUTH: &str = "countersign.auth.v1.AuthService";

    fn request(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest {
            service: service.to_owned(),
        })
    }

    fn readiness(validation: bool, database: bool) -> Readiness {
        Readiness {
            validation,
            database,
        }
    }

    async fn api() -> (HealthStatuses, HealthApi) {
        let (statuses, _) = HealthStatuses::new().await;
        let service = HealthService::from_health_reporter(statuses.reporter.clone());
        let watchers = Arc::new(Semaphore::new(2));
        (statuses, HealthApi { service, watchers })
    }

    #[tokio::test]
    async fn more_streams_than_there_are_places_for_are_refused() {
        let (_statuses, api) = api().await;
        let watch = |name: &'static str| api.watch(request(name));
        let first = watch("").await.unwrap();
        let _second = watch("no.such.service").await.unwrap();
        let Err(refused) = watch("").await else {
            panic!("a third stream is open");
        };
        assert_eq!(refused.code(), Code::ResourceExhausted);
        drop(first);
        assert!(watch("").await.is_ok());
    }

    async fn check(api: &HealthApi, service: &str) -> WireStatus {
        api.check(request(service))
            .await
            .unwrap()
            .into_inner()
            .status()
    }

    #[tokio::test]
    async fn every_name_is_not_serving_until_something_was_published() {
        let (_statuses, api) = api().await;
        let list = api
            .list(Request::new(HealthListRequest {}))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(list.statuses.len(), VALIDATION.len() + DATABASE.len());
        for (name, status) in list.statuses {
            assert_eq!(status.status(), WireStatus::NotServing, "{name}");
        }
    }

    #[tokio::test]
    async fn only_names_that_need_the_database_depend_on_it() {
        let (mut statuses, api) = api().await;
        for (validation, database) in [(false, true), (true, false), (true, true), (false, false)] {
            statuses.publish(readiness(validation, database)).await;
            let serving = |is_serving| match is_serving {
                true => WireStatus::Serving,
                false => WireStatus::NotServing,
            };
            for name in VALIDATION {
                assert_eq!(check(&api, name).await, serving(validation), "{name}");
            }
            for name in DATABASE {
                assert_eq!(
                    check(&api, name).await,
                    serving(validation && database),
                    "{name}"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_watch_receives_only_changes_of_its_name() {
        let (mut statuses, api) = api().await;
        statuses.publish(readiness(true, false)).await;
        let mut watch = api.watch(request("")).await.unwrap().into_inner();
        let mut next = async || watch.next().await.unwrap().unwrap().status();
        assert_eq!(next().await, WireStatus::Serving);
        statuses.publish(readiness(true, true)).await;
        statuses.publish(readiness(true, true)).await;
        statuses.publish(readiness(false, true)).await;
        assert_eq!(next().await, WireStatus::NotServing);
    }

    #[tokio::test]
    async fn an_unknown_name_is_not_found_and_can_be_watched() {
        let (mut statuses, api) = api().await;
        let status = api.check(request("nonsense")).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        let mut watch = api.watch(request("nonsense")).await.unwrap().into_inner();
        let first = watch.next().await.unwrap().unwrap();
        assert_eq!(first.status(), WireStatus::ServiceUnknown);
        statuses.publish(readiness(true, true)).await;
        assert!(watch.next().now_or_never().is_none());
        assert_eq!(check(&api, AUTH).await, WireStatus::Serving);
    }
}
