//! Reads the messages of the feed. What is malformed is left out and counted, and nothing panics.

use crate::{
    clock::UnixMillis,
    pb,
    revocations::{Revocation, Subject},
};

/// The well-formed revocations of a batch, and how many others there were.
pub(crate) fn revocations(batch: &pb::RevocationBatch) -> (Vec<Revocation>, usize) {
    let count = batch.revocations.len();
    let read: Vec<_> = batch.revocations.iter().filter_map(revocation).collect();
    let malformed = count - read.len();
    (read, malformed)
}

fn revocation(message: &pb::Revocation) -> Option<Revocation> {
    let subject = match message.subject.as_ref()? {
        pb::revocation::Subject::SessionId(id) => Subject::Session(id.parse().ok()?),
        pb::revocation::Subject::UserId(id) => {
            let not_before = UnixMillis::from_proto(message.not_before_time?)?;
            Subject::User(id.parse().ok()?, not_before)
        }
    };
    Some(Revocation {
        subject,
        expires_at: UnixMillis::from_proto(message.expire_time?)?,
    })
}
