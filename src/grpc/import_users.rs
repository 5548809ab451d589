//! `AdminService.ImportUsers`: reads the stream and hands one record after the other to the use case.

use std::sync::Arc;

use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use super::{
    convert, error_status,
    layers::Caller,
    pb::{self, ImportUsersRequest, ImportUsersResponse},
    request_info::RequestInfo,
};
use crate::{
    auth::{Auth, AuthError},
    import::{Reason, Record},
    secret::Secret,
};

pub(super) async fn import_users(
    auth: &Auth,
    request: Request<Streaming<ImportUsersRequest>>,
) -> Result<Response<ImportUsersResponse>, Status> {
    let info = RequestInfo::of(&request);
    let fail = |error: AuthError| error_status(error, &info.request_id);
    let caller = Caller::of(request.extensions()).ok_or_else(|| fail(AuthError::TokenMissing))?;
    let claims = Arc::clone(&caller.claims);
    let mut import = auth.begin_import(claims, &info.context()).map_err(fail)?;
    // How long a message may be waited for.
    let idle = auth.import_idle_time();
    let mut messages = request.into_inner();
    loop {
        let message = timeout(idle, messages.message())
            .await
            .map_err(|_| Status::deadline_exceeded("No message arrived on the stream in time."))?;
        match message? {
            Some(message) => import.add(record(message)).await.map_err(fail)?,
            None => break,
        }
    }
    let (counts, refused, told) = import.finish().await.map_err(fail)?;
    Ok(Response::new(ImportUsersResponse {
        imported_count: number(counts.imported),
        skipped_count: number(counts.skipped),
        refused_count: number(refused),
        refusals: told
            .into_iter()
            .map(|refused| pb::ImportRefusal {
                message_number: number(refused.line),
                reason: refused.reason.code().to_owned(),
                description: refused.reason.to_string(),
            })
            .collect(),
    }))
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// An empty hash, secret or time counts as none.
fn record(message: ImportUsersRequest) -> Result<Record, Reason> {
    let create_time = message.create_time.as_ref();
    let create_time = create_time.map(|time| convert::moment("create_time", time));
    let hash = Some(message.password_hash).filter(|hash| !hash.is_empty());
    let secret = Some(message.password_secret).filter(|secret| !secret.is_empty());
    Ok(Record {
        email: message.email,
        display_name: message.display_name,
        email_verified: message.email_verified,
        roles: message.roles,
        disabled: message.disabled,
        create_time: create_time.transpose()?,
        password_hash: hash.map(Secret::new),
        password_secret: secret.map(Secret::new),
    })
}
