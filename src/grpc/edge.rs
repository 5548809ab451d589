//! What the layers learnt about a request, handed on to the use cases.

use tonic::{Request, Response, Status};

use super::{
    bearer::Caller,
    convert, error_status,
    layers::{ClientAddress, Deadline, RequestId},
};
use crate::{
    auth::{AuthError, RequestContext},
    domain::UserId,
};

/// What the layers learnt about a request, kept while its message is taken out of it.
pub(super) struct Edge {
    pub(super) request_id: RequestId,
    client_ip: Option<ClientAddress>,
    deadline: Option<Deadline>,
    user_agent: String,
    /// The user whose bearer the call needed.
    actor: Option<UserId>,
}

impl Edge {
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

    pub(super) fn respond<T>(&self, answer: Result<T, AuthError>) -> Result<Response<T>, Status> {
        answer
            .map(Response::new)
            .map_err(|error| error_status(error, &self.request_id))
    }
}
