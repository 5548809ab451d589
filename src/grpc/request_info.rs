//! What the layers know about a request, passed on to the use cases.

use tonic::{Request, Response, Status};

use super::{
    RequestId, convert, error_status,
    layers::{Caller, ClientAddress, Deadline},
};
use crate::{
    auth::{AuthError, RequestContext},
    domain::UserId,
};

/// What the layers know about a request; it outlives the request, whose message is moved out.
pub(super) struct RequestInfo {
    pub(super) request_id: RequestId,
    client_ip: Option<ClientAddress>,
    deadline: Option<Deadline>,
    user_agent: String,
    /// The user of the access token; `None` for methods that are open to all.
    actor: Option<UserId>,
}

impl RequestInfo {
    /// Reads the extensions and metadata of a request.
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        let extensions = request.extensions();
        Self {
            request_id: RequestId::of(extensions),
            client_ip: ClientAddress::of(extensions),
            deadline: Deadline::of(extensions),
            user_agent: convert::user_agent(request.metadata()),
            actor: Caller::of(extensions).map(|caller| caller.claims.user_id),
        }
    }

    /// The form in which the use cases take it.
    pub(super) fn context(&self) -> RequestContext {
        RequestContext {
            request_id: self.request_id.as_str().to_owned(),
            client_ip: self
                .client_ip
                .map(|address| address.ip().to_string())
                .unwrap_or_default(),
            user_agent: self.user_agent.clone(),
            actor: self.actor,
            deadline: self.deadline.map(Deadline::instant),
        }
    }

    /// The response to the call whose use case ended with this result.
    pub(super) fn respond<T>(&self, result: Result<T, AuthError>) -> Result<Response<T>, Status> {
        result
            .map(Response::new)
            .map_err(|error| error_status(error, &self.request_id))
    }
}
