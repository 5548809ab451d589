//! Audit events as an export prints them and as AdminService lists them.

use countersign::grpc::pb::{AuditEvent, ListAuditEventsRequest, ListAuditEventsResponse};
use serde_json::Value;
use tonic::Status;

use super::{TestDatabase, TestServer, operator::bearing, process::run};

/// What `countersign audit export` prints, behind a cursor if one is given.
pub async fn exported(database: &TestDatabase, cursor: Option<&str>) -> Vec<Value> {
    let mut arguments = vec!["audit", "export"];
    arguments.extend(cursor.map(|_| "--cursor"));
    arguments.extend(cursor);
    let output = run(database, &[], &arguments).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    lines(&output.stdout)
}

/// JSON lines.
pub fn lines(output: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(output).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The kinds of exported events, in their order.
pub fn kinds(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["kind"].as_str().unwrap())
        .collect()
}

impl TestServer {
    pub async fn audit_page(
        &self,
        access_token: &str,
        filter: &str,
        page_size: i32,
        page_token: &str,
    ) -> Result<ListAuditEventsResponse, Status> {
        let request = ListAuditEventsRequest {
            page_size,
            page_token: page_token.to_owned(),
            filter: filter.to_owned(),
        };
        let request = bearing(access_token, request);
        Ok(self.admin().list_audit_events(request).await?.into_inner())
    }

    /// The events that meet a filter, the newest first: one page of them.
    pub async fn audit_events(&self, access_token: &str, filter: &str) -> Vec<AuditEvent> {
        let page = self.audit_page(access_token, filter, 1_000, "").await;
        page.unwrap().audit_events
    }
}
