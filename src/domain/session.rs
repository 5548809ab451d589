//! A session, and the rules of refresh token rotation.

use std::{cmp::Ordering, time::Duration};

use super::{DeviceLabel, Outage, SessionClaims, SessionId, UserId, allowance};
use crate::clock::Timestamp;

/// One login on one device. It ends when it is revoked, not used for too long, or too old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The id of the session; part of its refresh tokens and the claim `sid`.
    pub id: SessionId,
    /// Whose session it is.
    pub user_id: UserId,
    /// The user's name for the device.
    pub device_label: DeviceLabel,
    /// The address the login came from, as text.
    pub client_ip: String,
    /// The client's user agent at login.
    pub user_agent: String,
    /// How often the refresh token has been rotated; the newest token carries this number.
    pub generation: i32,
    /// When the session was opened.
    pub created_at: Timestamp,
    /// When the refresh token was last rotated; the login counts as the first rotation.
    pub rotated_at: Timestamp,
    /// When the newest refresh token expires.
    pub idle_expires_at: Timestamp,
    /// When the session ends, however often it is refreshed.
    pub absolute_expires_at: Timestamp,
    /// When the session was revoked.
    pub revoked_at: Option<Timestamp>,
    /// What it adds to the claims of its access tokens.
    pub claims: SessionClaims,
}

/// Why a refresh token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshRefusal {
    /// The session was revoked, or its user is disabled or gone.
    Revoked,
    /// The session was not used for too long or reached its maximum lifetime.
    Expired,
    /// An older token was used again: somebody else has a copy of it.
    Reused,
}

/// What to do about a refresh token that the rotation itself did not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshDecision {
    /// The token is the newest of a live session: rotate it.
    Rotate,
    /// The token is newer than the session as it is stored. Its MAC proves that it was issued, so the database has lost
    /// rotations: by a restored backup, or a fail-over to a standby that was behind. Rotate from the token's generation.
    CatchUp,
    /// The token was rotated within the grace period: return the same successor again.
    Repeat,
    /// Refuse it.
    Refuse(RefreshRefusal),
}

impl Session {
    /// When it ends if it is not refreshed before.
    pub fn expires_at(&self) -> Timestamp {
        self.idle_expires_at.min(self.absolute_expires_at)
    }

    /// Whether `generation` is the one before the newest.
    pub fn is_previous(&self, generation: i32) -> bool {
        i64::from(generation) == i64::from(self.generation) - 1
    }

    /// Judges a token of `generation` that is presented at `now`: the four rules of rotation.
    ///
    /// `user_disabled`: the user is disabled or deleted. `grace` is how long after a rotation the
    /// token before it may still ask for the same successor: a deliberate, bounded deviation from
    /// RFC 9700 section 4.14.2, which would take every second use for theft. Time in `outages` does not count towards
    /// it, see [`allowance`]. With a grace of zero nothing is allowed at all.
    pub fn judge_refresh(
        &self,
        generation: i32,
        now: Timestamp,
        grace: Duration,
        outages: &[Outage],
        user_disabled: bool,
    ) -> RefreshDecision {
        if self.revoked_at.is_some() || user_disabled {
            return RefreshDecision::Refuse(RefreshRefusal::Revoked);
        }
        let within_grace = || match grace {
            Duration::ZERO => now <= self.rotated_at,
            grace => now <= self.rotated_at + grace + allowance(outages, self.rotated_at, now),
        };
        if generation < self.generation && !(self.is_previous(generation) && within_grace()) {
            return RefreshDecision::Refuse(RefreshRefusal::Reused);
        }
        if now >= self.expires_at() {
            return RefreshDecision::Refuse(RefreshRefusal::Expired);
        }
        match generation.cmp(&self.generation) {
            Ordering::Less => RefreshDecision::Repeat,
            Ordering::Equal => RefreshDecision::Rotate,
            Ordering::Greater => RefreshDecision::CatchUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    /// Rotated for the fifth time at 1000; idles out at 2000, ends at 3000.
    fn session() -> Session {
        Session {
            id: SessionId::generate(at(0)),
            user_id: UserId::generate(at(0)),
            device_label: DeviceLabel::parse("device_label", "").unwrap(),
            client_ip: String::new(),
            user_agent: String::new(),
            generation: 5,
            created_at: at(0),
            rotated_at: at(1000),
            idle_expires_at: at(2000),
            absolute_expires_at: at(3000),
            revoked_at: None,
            claims: SessionClaims::of_password(at(0), None),
        }
    }

    #[test]
    fn a_refresh_token_is_judged_by_its_generation_and_the_time() {
        use RefreshDecision::{CatchUp, Refuse, Repeat, Rotate};
        use RefreshRefusal::{Expired, Reused};
        for (generation, now, expected) in [
            (5, 1001, Rotate),
            (5, 1999, Rotate),
            (5, 2000, Refuse(Expired)),
            (4, 1000, Repeat),
            (4, 1010, Repeat),
            (4, 1011, Refuse(Reused)),
            (3, 1000, Refuse(Reused)),
            (0, 1000, Refuse(Reused)),
            (6, 1000, CatchUp),
            (i32::MAX, 1999, CatchUp),
            (6, 2000, Refuse(Expired)),
        ] {
            let decision = session().judge_refresh(generation, at(now), GRACE, &[], false);
            assert_eq!(decision, expected, "generation {generation} at {now}");
        }
    }

    #[test]
    fn an_outage_extends_the_grace_period_of_the_previous_token_only() {
        use RefreshDecision::{Refuse, Repeat};
        use RefreshRefusal::Reused;
        let outages = [Outage {
            began: at(1000),
            ended: at(1020),
        }];
        for (generation, now, grace, expected) in [
            // 20 s of outage and 60 s to come back from it.
            (4, 1090, 10, Repeat),
            (4, 1091, 10, Refuse(Reused)),
            (3, 1001, 10, Refuse(Reused)),
            (4, 1001, 0, Refuse(Reused)),
        ] {
            let grace = Duration::from_secs(grace);
            let decision = session().judge_refresh(generation, at(now), grace, &outages, false);
            assert_eq!(decision, expected, "generation {generation} at {now}");
        }
    }

    #[test]
    fn a_revoked_session_or_disabled_user_takes_precedence_over_every_other_rule() {
        let revoked = Session {
            revoked_at: Some(at(1500)),
            ..session()
        };
        let refused = RefreshDecision::Refuse(RefreshRefusal::Revoked);
        for generation in [3, 4, 5, 6] {
            assert_eq!(
                revoked.judge_refresh(generation, at(1001), GRACE, &[], false),
                refused
            );
            assert_eq!(
                session().judge_refresh(generation, at(1001), GRACE, &[], true),
                refused
            );
        }
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_look_like_reuse() {
        assert_eq!(
            session().judge_refresh(4, at(500), GRACE, &[], false),
            RefreshDecision::Repeat
        );
    }
}
