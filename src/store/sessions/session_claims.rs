//! A user who proves again who it is, inside a session: the session's claims are renewed, its refresh token stays.

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use crate::{
    clock::Timestamp,
    domain::{FailureCounter, Roles, SessionClaims, SessionId, UserId},
    store::{
        AuditEvent, Clearing, FactorProof, Store, StoreError,
        factors::proofs::use_proof,
        schema::{audit_events, sessions, users},
        sessions::{epochs::session_epoch, login_failures::clear_counter, records::live_session},
        write,
    },
};

/// New claims of a session, for a proof that was found right.
pub struct ClaimsRenewal<'a> {
    /// Whose session.
    pub user_id: UserId,
    /// The session.
    pub session_id: SessionId,
    /// The claims.
    pub claims: &'a SessionClaims,
    /// What the proof uses up; `None` for a password.
    pub proof: Option<&'a FactorProof>,
    /// The counter of the failures, which the proof clears.
    pub clearing: Clearing<'a>,
}

/// How a session stands after its claims were renewed.
#[derive(Clone, Debug)]
pub enum RenewedSession {
    /// They are.
    Renewed {
        /// The generation of its refresh token.
        generation: i32,
        /// When that expires.
        expires_at: Timestamp,
        /// The access tokens are dated later than this.
        issued_after: Timestamp,
        /// The roles that the user has in the same transaction.
        roles: Roles,
    },
    /// What the proof uses up was used before. Nothing was changed.
    ProofRefused,
    /// Others brought the counter to its limit meanwhile; this is how it stands. Nothing was changed.
    Throttled(FailureCounter),
    /// The session has ended, or its user is disabled or gone.
    Ended,
}

impl Store {
    /// Gives a session new claims, for a proof that was found right; uses up what that says, and clears the counter of
    /// failures.
    pub async fn renew_session_claims(
        &self,
        renewal: ClaimsRenewal<'_>,
        event: &AuditEvent,
    ) -> Result<RenewedSession, StoreError> {
        let ClaimsRenewal {
            user_id,
            session_id,
            claims,
            proof,
            clearing,
        } = renewal;
        let id = user_id.to_string();
        let now = claims.authenticated_at;
        let mut event = event.to_row_for(user_id);
        event.session_id = Some(session_id.to_string());
        let methods = claims.stored_methods();
        let renewed = write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                if let Some(counter) = clear_counter!(conn, clearing) {
                    return Ok(RenewedSession::Throttled(counter));
                }
                if let Some(proof) = proof
                    && !use_proof!(conn, proof, &id, now)
                {
                    // An error, so that nothing is committed.
                    return Err(StoreError::Conflict);
                }
                let live = live_session!(user_id, session_id, now);
                let renewed: Option<(i32, i64, i64, i64)> = diesel::update(live)
                    .set((
                        sessions::authenticated_at.eq(now.micros()),
                        sessions::authentication_methods.eq(methods.as_deref()),
                    ))
                    .returning((
                        sessions::generation,
                        sessions::idle_expires_at,
                        sessions::absolute_expires_at,
                        session_epoch(),
                    ))
                    .get_result(conn)
                    .await
                    .optional()?;
                let Some((generation, idle, absolute, epoch)) = renewed else {
                    return Ok(RenewedSession::Ended);
                };
                let roles: String = users::table
                    .find(&id)
                    .select(users::roles)
                    .get_result(conn)
                    .await?;
                diesel::insert_into(audit_events::table)
                    .values(&event)
                    .execute(conn)
                    .await?;
                Ok(RenewedSession::Renewed {
                    generation,
                    expires_at: Timestamp::from_micros(idle.min(absolute)),
                    issued_after: Timestamp::from_micros(epoch),
                    roles: Roles::from_stored(&roles),
                })
            })
            .await
        });
        match renewed {
            Err(StoreError::Conflict) if proof.is_some() => Ok(RenewedSession::ProofRefused),
            renewed => renewed,
        }
    }
}
