//! The requests of `AdminService` that name users and audit events, and their answers.

use super::{
    convert::{self, Violations},
    paging::{self, Listing},
    pb,
};
use crate::{
    auth::{Auth, AuthError, NewUser},
    domain::{DisplayName, Email, Roles, UserId, audit_conditions, user_conditions},
    store::StoredAuditEvent,
};

pub(super) fn user_id(text: &str) -> Result<UserId, AuthError> {
    let mut violations = Violations::default();
    let id = violations.take(convert::user_id("user_id", text));
    id.ok_or_else(|| violations.into())
}

pub(super) fn roles_of(request: &pb::SetUserRolesRequest) -> Result<(UserId, Roles), AuthError> {
    let mut violations = Violations::default();
    let id = violations.take(convert::user_id("user_id", &request.user_id));
    let roles = violations.take(Roles::parse("roles", &request.roles));
    match (id, roles) {
        (Some(id), Some(roles)) => Ok((id, roles)),
        _ => Err(violations.into()),
    }
}

pub(super) fn invited(request: &pb::InviteUserRequest) -> Result<NewUser, AuthError> {
    let mut violations = Violations::default();
    let email = violations.take(Email::parse("email", &request.email));
    let display_name = violations.take(DisplayName::parse("display_name", &request.display_name));
    let roles = violations.take(Roles::parse("roles", &request.roles));
    match (email, display_name, roles) {
        (Some(email), Some(display_name), Some(roles)) => Ok(NewUser {
            email,
            display_name,
            roles,
        }),
        _ => Err(violations.into()),
    }
}

pub(super) async fn list_users(
    auth: &Auth,
    request: &pb::ListUsersRequest,
) -> Result<pb::ListUsersResponse, AuthError> {
    let mut violations = Violations::default();
    let users = Listing::new(auth.page_tokens(), "users", &request.filter);
    let size = violations.take(paging::size("page_size", request.page_size));
    let conditions = violations.take(user_conditions("filter", &request.filter));
    let after = violations.take(users.position("page_token", &request.page_token));
    let (Some(size), Some(conditions), Some(after)) = (size, conditions, after) else {
        return Err(violations.into());
    };
    let page = auth.users().list(after, &conditions, size).await?;
    Ok(pb::ListUsersResponse {
        users: page.items.iter().map(convert::user).collect(),
        next_page_token: users.token(page.next),
    })
}

pub(super) async fn list_audit_events(
    auth: &Auth,
    request: &pb::ListAuditEventsRequest,
) -> Result<pb::ListAuditEventsResponse, AuthError> {
    let mut violations = Violations::default();
    let events = Listing::new(auth.page_tokens(), "audit events", &request.filter);
    let size = violations.take(paging::size("page_size", request.page_size));
    let conditions = violations.take(audit_conditions("filter", &request.filter));
    let after = violations.take(events.position("page_token", &request.page_token));
    let (Some(size), Some(conditions), Some(after)) = (size, conditions, after) else {
        return Err(violations.into());
    };
    let page = auth.list_audit_events(after, &conditions, size).await?;
    Ok(pb::ListAuditEventsResponse {
        audit_events: page.items.into_iter().map(event).collect(),
        next_page_token: events.token(page.next),
    })
}

fn event(event: StoredAuditEvent) -> pb::AuditEvent {
    pb::AuditEvent {
        details_json: event.details().to_string(),
        event_time: Some(convert::timestamp(event.at())),
        event_id: event.id,
        kind: event.kind,
        version: event.version,
        actor_id: event.actor_id.unwrap_or_default(),
        subject_id: event.subject_id.unwrap_or_default(),
        session_id: event.session_id.unwrap_or_default(),
        client_ip: event.client_ip,
        request_id: event.request_id,
    }
}
