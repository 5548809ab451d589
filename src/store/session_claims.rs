//! A user who proves again who it is, inside a session: the session's claims are renewed, its refresh token stays.

use diesel::{dsl::exists, prelude::*};
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::{
    AuditEvent, FactorProof, Store, StoreError,
    epochs::session_epoch,
    proofs::use_proof,
    schema::{audit_events, sessions, users},
    write,
};
use crate::{
    clock::Timestamp,
    domain::{Roles, SessionClaims, SessionId, UserId},
};

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
    /// What the proof uses up was used before.
    ProofRefused,
    /// The session has ended, or its user is disabled or gone.
    Ended,
}

impl Store {
    /// Gives a session new claims, for a proof that was found right; uses up what that says.
    pub async fn renew_session_claims(
        &self,
        user: UserId,
        session: SessionId,
        claims: &SessionClaims,
        proof: Option<&FactorProof>,
        event: &AuditEvent,
    ) -> Result<RenewedSession, StoreError> {
        let id = user.to_string();
        let now = claims.authenticated_at;
        let mut event = event.to_row_for(user);
        event.session_id = Some(session.to_string());
        let methods = claims.stored_methods();
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                if let Some(proof) = proof
                    && !use_proof!(conn, proof, &id, now)
                {
                    return Ok(RenewedSession::ProofRefused);
                }
                let owner = users::table
                    .filter(users::id.eq(sessions::user_id))
                    .filter(users::disabled_at.is_null())
                    .filter(users::session_epoch.le(session_epoch()));
                let live = sessions::table
                    .filter(sessions::id.eq(session.to_string()))
                    .filter(sessions::user_id.eq(&id))
                    .filter(sessions::revoked_at.is_null())
                    .filter(sessions::idle_expires_at.gt(now.micros()))
                    .filter(sessions::absolute_expires_at.gt(now.micros()))
                    .filter(exists(owner));
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
        })
    }
}
