//! Who changes the own second factors, judged before the transaction of the change and demanded again inside it: a session
//! that ended meanwhile, or a factor that was added, makes the change fail.

use crate::domain::{FactorKinds, SessionId, UserId};

/// A user who changes the own second factors, as judged before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JudgedCaller {
    /// The user.
    pub user_id: UserId,
    /// The session in which the call is made.
    pub session_id: SessionId,
    /// The kinds of factors that the user had: they decided how strong the authentication must be.
    pub factors: FactorKinds,
}

/// Why a user may not change the own second factors any more. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeRefused {
    /// The user is disabled or gone.
    NoUser,
    /// The session has ended.
    SessionEnded,
    /// The user has these kinds of factors now.
    FactorsChanged(FactorKinds),
}

/// Locks the user's row inside a transaction and judges the caller again: `Err` with the [`ChangeRefused`]. Two statements.
macro_rules! judge_again {
    ($conn:expr, $caller:expr, $now:expr) => {{
        use $crate::store::{
            ChangeRefused, JudgedCaller, schema::users, sessions::records::live_session,
            users::records::stored_kinds,
        };
        let caller: JudgedCaller = $caller;
        let user = users::table
            .find(caller.user_id.to_string())
            .filter(users::disabled_at.is_null());
        // Changes nothing, and takes the lock.
        let lock = diesel::update(user)
            .set(users::updated_at.eq(users::updated_at))
            .returning(users::factor_kinds);
        let found: Option<Option<String>> = lock.get_result($conn).await.optional()?;
        match found {
            None => Err(ChangeRefused::NoUser),
            Some(kinds) => {
                let kinds = stored_kinds(kinds.as_deref())?;
                let live: i64 = live_session!(caller.user_id, caller.session_id, $now)
                    .count()
                    .get_result($conn)
                    .await?;
                if live == 0 {
                    Err(ChangeRefused::SessionEnded)
                } else if kinds != caller.factors {
                    Err(ChangeRefused::FactorsChanged(kinds))
                } else {
                    Ok(())
                }
            }
        }
    }};
}

pub(in crate::store) use judge_again;
