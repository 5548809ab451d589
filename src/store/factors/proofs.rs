//! What a proof uses up: a challenge, and the step, code or counter of a factor. Each by one conditional statement, inside
//! the transaction of what the proof is for: of two answers that use the same, one changes the row.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    clock::Timestamp,
    domain::{ChallengeId, FactorId},
    store::{AuditEvent, Store, StoreError, schema::used_challenges, write},
};

/// Wrong answers that a challenge allows.
pub(in crate::store) const CHALLENGE_TRIES: i32 = 5;

/// A challenge that is to be used up.
#[derive(Clone, Copy, Debug)]
pub struct ChallengeUse {
    /// The challenge.
    pub id: ChallengeId,
    /// When it expires, and what is remembered about it with it.
    pub expires_at: Timestamp,
}

/// What is used up of a factor.
#[derive(Clone, Debug)]
pub enum FactorUse {
    /// A step of an authenticator app, with all steps before it.
    Totp {
        /// The factor.
        id: FactorId,
        /// The step.
        step: i64,
    },
    /// A recovery code.
    RecoveryCode {
        /// Its MAC under every known key.
        macs: Vec<String>,
        /// What is recorded.
        event: AuditEvent,
    },
    /// The counter of a passkey.
    Passkey {
        /// The factor.
        id: FactorId,
        /// The counter in the answer. It must be greater than the stored one, unless both are 0: then the authenticator
        /// has none (WebAuthn Level 3 section 6.1.1).
        sign_count: u32,
        /// Whether the passkey is backed up now.
        backed_up: bool,
    },
}

/// A proof that was found right, and what it uses up.
#[derive(Clone, Debug)]
pub struct FactorProof {
    /// The challenge that it answers, if there is one.
    pub challenge: Option<ChallengeUse>,
    /// The factor.
    pub factor: FactorUse,
}

#[derive(Insertable)]
#[diesel(table_name = used_challenges, treat_none_as_default_value = false)]
pub(in crate::store) struct UsedChallengeRow {
    id: String,
    tries: i32,
    pub(in crate::store) used_at: Option<i64>,
    expires_at: i64,
}

impl ChallengeUse {
    /// The row of a challenge about which nothing is known yet.
    pub(in crate::store) fn row(&self, tries: i32, used_at: Option<Timestamp>) -> UsedChallengeRow {
        UsedChallengeRow {
            id: self.id.to_string(),
            tries,
            used_at: used_at.map(Timestamp::micros),
            expires_at: self.expires_at.micros(),
        }
    }
}

/// Uses up a challenge inside a transaction; false when it was used, or tried too often. One statement.
macro_rules! use_challenge {
    ($conn:expr, $challenge:expr, $now:expr) => {{
        use $crate::store::{factors::proofs, schema::used_challenges};
        let challenge: &$crate::store::ChallengeUse = $challenge;
        let row = challenge.row(0, Some($now));
        let insert = diesel::insert_into(used_challenges::table)
            .values(&row)
            .on_conflict(used_challenges::id)
            .do_update()
            .set(used_challenges::used_at.eq(row.used_at));
        let is_open = used_challenges::used_at
            .is_null()
            .and(used_challenges::tries.lt(proofs::CHALLENGE_TRIES));
        // Not `QueryDsl::filter`, which is for what is read.
        let insert = diesel::query_dsl::methods::FilterDsl::filter(insert, is_open);
        $crate::store::prepared::Prepared(insert)
            .execute($conn)
            .await?
            == 1
    }};
}

/// Uses up a factor of the user inside a transaction; false when that was used before, or the factor is gone. One
/// statement, and one more that records a recovery code.
macro_rules! use_factor {
    ($conn:expr, $factor:expr, $user:expr, $now:expr) => {{
        use $crate::store::{
            FactorUse,
            prepared::Prepared,
            schema::{audit_events, passkeys, recovery_codes, totp_factors},
        };
        let (user, now): (&str, $crate::clock::Timestamp) = ($user, $now);
        let changed = match $factor {
            FactorUse::Totp { id, step } => {
                let unused = totp_factors::table
                    .filter(totp_factors::id.eq(id.to_string()))
                    .filter(totp_factors::user_id.eq(user))
                    .filter(totp_factors::last_used_step.lt(*step));
                let update = diesel::update(unused).set((
                    totp_factors::last_used_step.eq(*step),
                    totp_factors::last_used_at.eq(now.micros()),
                ));
                Prepared(update).execute($conn).await?
            }
            FactorUse::RecoveryCode { macs, event } => {
                let unused = recovery_codes::table
                    .filter(recovery_codes::mac.eq_any(macs.clone()))
                    .filter(recovery_codes::user_id.eq(user))
                    .filter(recovery_codes::used_at.is_null());
                let used = diesel::update(unused)
                    .set(recovery_codes::used_at.eq(now.micros()))
                    .execute($conn)
                    .await?;
                if used == 1 {
                    diesel::insert_into(audit_events::table)
                        .values(&event.to_row())
                        .execute($conn)
                        .await?;
                }
                used
            }
            FactorUse::Passkey {
                id,
                sign_count,
                backed_up,
            } => {
                let sign_count = i64::from(*sign_count);
                let none = i64::from(sign_count == 0) - 1;
                let unused = passkeys::table
                    .filter(passkeys::id.eq(id.to_string()))
                    .filter(passkeys::user_id.eq(user))
                    .filter(
                        passkeys::sign_count
                            .lt(sign_count)
                            .or(passkeys::sign_count.eq(none)),
                    );
                let update = diesel::update(unused).set((
                    passkeys::sign_count.eq(sign_count),
                    passkeys::backed_up.eq(i32::from(*backed_up)),
                    passkeys::last_used_at.eq(now.micros()),
                ));
                Prepared(update).execute($conn).await?
            }
        };
        changed == 1
    }};
}

/// Uses up all of a proof inside a transaction; false when a part of it was used before.
macro_rules! use_proof {
    ($conn:expr, $proof:expr, $user:expr, $now:expr) => {{
        let proof: &$crate::store::FactorProof = $proof;
        let is_first = match &proof.challenge {
            Some(challenge) => {
                $crate::store::factors::proofs::use_challenge!($conn, challenge, $now)
            }
            None => true,
        };
        is_first && $crate::store::factors::proofs::use_factor!($conn, &proof.factor, $user, $now)
    }};
}

pub(in crate::store) use {use_challenge, use_factor, use_proof};

impl Store {
    /// Counts a wrong answer to a challenge. Parallel ones, on any number of replicas, are each counted.
    pub async fn count_wrong_answer(&self, challenge: &ChallengeUse) -> Result<(), StoreError> {
        let row = challenge.row(1, None);
        let insert = diesel::insert_into(used_challenges::table)
            .values(&row)
            .on_conflict(used_challenges::id)
            .do_update()
            .set(used_challenges::tries.eq(used_challenges::tries + 1));
        write!(self, |conn| Ok(insert.execute(conn).await?)).map(drop)
    }
}
