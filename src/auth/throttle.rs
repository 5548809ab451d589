//! Delays guesses at one password, or at the codes of its second factor, and does not refuse the right password below the limit of failures. Existing
//! sessions are not affected.
//!
//! The steps of an attempt: reserve a place in the hashing queue; read the user and the failure counter; let the counter
//! decide (`domain::FailureCounter`); at or above the limit, claim the one trial that the end of a delay admits; verify the
//! password; count a failure. **A failure is counted before it is answered**, and a right password succeeds only
//! while the counter still admits it, so parallel guesses on any number of replicas learn no more than sequential ones.
//! Attempts in progress do not count as failures, and neither do attempts that end without a verdict.
//!
//! The argument and the numbers: `artifacts/auth-analysis/decisions/0400-login-throttle.md`.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use tracing::Instrument as _;

use super::{
    Auth, AuthError, RequestContext, claimant::Claimant, in_flight::Slot, in_its_own_task,
};
use crate::{
    clock::monotonic_now,
    domain::{Admission, DeviceId, FactorKinds, FailureCounter, Password, SessionId, User},
    passwords::{Account, HashingPermit, PasswordHash, Verdict},
    store::{Clearing, CounterKey, Counting, Credentials, Failure, UserCredentials},
};

/// The longest that an attempt waits for its turn and for a hashing worker, whatever its caller allows.
/// [`crate::domain::TRIAL_LEASE`] depends on it.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// `RetryInfo` when too many attempts on one counter are in progress, or when its state keeps changing.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// How often an attempt starts again because other attempts changed the counter first.
const ROUNDS: usize = 16;

/// The caller of an attempt: when it stops waiting for the answer.
pub(super) struct Caller {
    gone: oneshot::Receiver<()>,
    deadline: Instant,
    context: RequestContext,
}

impl Caller {
    /// Resolves when the caller has cancelled the call.
    async fn gone(&mut self) {
        let _ = (&mut self.gone).await;
    }

    fn is_gone(&mut self) -> bool {
        self.gone.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }
}

/// An attempt that was admitted.
pub(super) struct Attempt {
    /// The session within which the password is given; `None` at Login.
    session: Option<SessionId>,
    /// The user, if there is one.
    found: Option<UserCredentials>,
    place: HashingPermit,
    admitted: Admitted,
}

/// What an admitted attempt holds until its result is known.
pub(super) struct Admitted {
    /// The counter of its failures.
    pub(super) key: CounterKey,
    /// Whether the counter holds failures, which a success clears.
    pub(super) has_failures: bool,
    /// The trial that the attempt claimed.
    pub(super) claim: Option<FailureCounter>,
    /// The known device on which the user logs in.
    pub(super) device: Option<DeviceId>,
    /// Whether the user has logged in before.
    pub(super) has_logged_in: bool,
    _slot: Slot,
}

/// A user whose password was verified.
pub(super) struct Proven {
    pub(super) user: User,
    /// The stored hash that the password was compared with.
    pub(super) verified_hash: String,
    /// A hash to store in its place, when it is out of date.
    pub(super) rehashed: Option<PasswordHash>,
    /// Whether the password is known from a breach.
    pub(super) is_breached: bool,
    /// The kinds of second factors that the user has.
    pub(super) factors: FactorKinds,
    pub(super) admitted: Admitted,
}

impl Auth {
    /// Runs an attempt in a task of its own, which continues when the caller cancels the call: a failure must be counted.
    pub(super) async fn in_attempt<T, F>(
        &self,
        context: &RequestContext,
        attempt: impl FnOnce(Self, Caller) -> F,
    ) -> Result<T, AuthError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, AuthError>> + Send + 'static,
    {
        let (waiting, gone) = oneshot::channel();
        let latest = monotonic_now() + LONGEST_WAIT;
        let deadline = context
            .deadline
            .map_or(latest, |deadline| deadline.min(latest));
        let caller = Caller {
            gone,
            deadline,
            context: context.clone(),
        };
        let work = attempt(self.clone(), caller);
        let result = in_its_own_task(work.in_current_span()).await;
        // Dropped earlier, together with this future, when the call is cancelled.
        drop(waiting);
        result
    }

    /// Admits an attempt at a password, or refuses it while the counter is delayed.
    pub(super) async fn begin_attempt(
        &self,
        claimant: &Claimant,
        caller: &mut Caller,
    ) -> Result<Attempt, AuthError> {
        let deadline = caller.deadline;
        let reserve = || Ok(self.parts.passwords.reserve(Some(deadline))?);
        let (found, place, admitted) = self.admit(claimant, caller, reserve).await?;
        Ok(Attempt {
            session: claimant.session(),
            found,
            place,
            admitted,
        })
    }

    /// Admits an attempt, or refuses it while the counter is delayed. `reserve` takes a place where the work is done.
    pub(super) async fn admit<P>(
        &self,
        claimant: &Claimant,
        caller: &mut Caller,
        reserve: impl Fn() -> Result<P, AuthError>,
    ) -> Result<(Option<UserCredentials>, P, Admitted), AuthError> {
        let parts = &self.parts;
        let mut slot = None;
        for _ in 0..ROUNDS {
            // First, so that an overload is refused before it costs the database anything.
            let place = reserve()?;
            let Credentials {
                user,
                has_logged_in,
                key,
                counter,
            } = self.look_up(claimant).await?;
            let held = self.take_slot(slot.take(), &key.name)?;
            if !held.is_admitted() {
                // Free the place for other accounts while this attempt waits; then read the state again.
                drop(place);
                slot = Some(wait_for_permit(held, caller).await?);
                continue;
            }
            let has_failures = counter.is_some();
            let seen = counter.unwrap_or_default();
            let now = parts.clock.now();
            let claim = match seen.admit(self.failure_limit(), now) {
                Admission::Open => None,
                Admission::Delayed(retry_after) => {
                    let refusal = AuthError::AccountThrottled { retry_after };
                    let user = user.map(|found| found.user.id);
                    self.note_refusal(&refusal, user, claimant.session(), &caller.context);
                    return Err(refusal);
                }
                Admission::Trial(claim) => {
                    if !parts.store.replace_counter(&key, seen, claim, now).await? {
                        slot = Some(held);
                        continue;
                    }
                    Some(claim)
                }
                Admission::Misdated(repaired) => {
                    parts
                        .store
                        .replace_counter(&key, seen, repaired, now)
                        .await?;
                    slot = Some(held);
                    continue;
                }
            };
            let admitted = Admitted {
                device: claimant.device_of(user.as_ref().map(|found| found.user.id)),
                has_logged_in,
                key,
                has_failures,
                claim,
                _slot: held,
            };
            return Ok((user, place, admitted));
        }
        Err(overloaded())
    }

    /// Verifies the password of an attempt. A wrong one is counted before this returns; without a verdict nothing is
    /// counted.
    pub(super) async fn judge(
        &self,
        attempt: Attempt,
        password: Password,
        caller: &mut Caller,
    ) -> Result<Proven, AuthError> {
        let Attempt {
            session,
            found,
            place,
            admitted,
        } = attempt;
        let account = match &found {
            None => Account::Unknown,
            Some(found) => {
                let hash = PasswordHash::from_stored(found.password_hash.clone());
                let is_admitted = session.is_some() || self.admits(&found.user);
                match found.user.disabled_at.is_none() && is_admitted {
                    _ if hash.is_absent() => Account::Unknown,
                    true => Account::Known(hash),
                    false => Account::Disabled(hash),
                }
            }
        };
        let verdict = place.verify_unless(caller.gone(), password, account).await;
        match (verdict, found) {
            (
                Ok(Some(Verdict::Right {
                    rehashed,
                    is_breached,
                })),
                Some(found),
            ) => {
                if is_breached {
                    tracing::info!(user_id = %found.user.id, "a user has used a password that is known from a breach");
                }
                let proven = Proven {
                    user: found.user,
                    verified_hash: found.password_hash,
                    rehashed,
                    is_breached,
                    factors: found.factors,
                    admitted,
                };
                if caller.is_gone() {
                    self.release(&proven.admitted).await;
                    return Err(overloaded());
                }
                Ok(proven)
            }
            // The password of a user who may not log in counts as wrong even if it is right.
            (Ok(Some(_)), found) => {
                let refusal = self.count_failure(&admitted).await?;
                let user = found.map(|found| found.user.id);
                self.note_refusal(&refusal, user, session, &caller.context);
                Err(refusal)
            }
            (no_verdict, _) => {
                self.release(&admitted).await;
                Err(no_verdict.map_or_else(AuthError::from, |_| overloaded()))
            }
        }
    }

    /// Releases a trial without a result, so that the next attempt need not wait for the end of the lease.
    pub(super) async fn release(&self, admitted: &Admitted) {
        let Some(claim) = admitted.claim else {
            return;
        };
        let now = self.parts.clock.now();
        let free = FailureCounter {
            retry_at: now,
            ..claim
        };
        let store = &self.parts.store;
        let released = store.replace_counter(&admitted.key, claim, free, now).await;
        if let Err(error) = released {
            tracing::debug!(%error, "the only permitted login attempt could not be released; its lease expires in seconds");
        }
    }

    /// Clears the counter after a right password, if the counter still admits the success.
    pub(super) async fn accept(&self, admitted: &Admitted) -> Result<(), AuthError> {
        let store = &self.parts.store;
        match store.clear_counter(self.clearing(admitted)).await {
            Ok(None) => Ok(()),
            Ok(Some(counter)) => Err(self.throttled(counter)),
            Err(error) => {
                self.release(admitted).await;
                Err(error.into())
            }
        }
    }

    /// What a right proof clears.
    pub(super) fn clearing<'a>(&self, admitted: &'a Admitted) -> Clearing<'a> {
        Clearing {
            key: &admitted.key,
            limit: self.failure_limit().get(),
            claim: admitted.claim,
        }
    }

    /// The refusal of an attempt whose counter other attempts brought to the limit.
    pub(super) fn throttled(&self, counter: FailureCounter) -> AuthError {
        let admission = counter.admit(self.failure_limit(), self.parts.clock.now());
        let retry_after = match admission {
            Admission::Delayed(delay) => delay,
            Admission::Open | Admission::Trial(_) | Admission::Misdated(_) => BUSY_RETRY,
        };
        AuthError::AccountThrottled { retry_after }
    }

    /// How many failures a counter has before it is delayed.
    pub(super) fn failure_limit(&self) -> NonZeroU32 {
        self.parts.settings.account_failure_limit
    }

    /// Counts a wrong password and returns the answer for the caller.
    pub(super) async fn count_failure(&self, admitted: &Admitted) -> Result<AuthError, AuthError> {
        let parts = &self.parts;
        let (key, limit, now) = (&admitted.key, self.failure_limit(), parts.clock.now());
        let (below, next) = match admitted.claim {
            Some(claim) => {
                let next = claim.after_failure(limit, now);
                if parts.store.replace_counter(key, claim, next, now).await? {
                    return Ok(AuthError::InvalidCredentials);
                }
                // The lease ended, or the counter was cleared: the failure still counts.
                (u32::MAX, next)
            }
            None => {
                let last_open = FailureCounter {
                    failures: limit.get() - 1,
                    ..FailureCounter::default()
                };
                (limit.get(), last_open.after_failure(limit, now))
            }
        };
        let counting = parts.store.count_failure(Failure {
            key,
            below,
            retry_at: next.retry_at,
            at: now,
        });
        Ok(match counting.await? {
            Counting::Counted => AuthError::InvalidCredentials,
            // Answer as if the attempt had begun a moment later, without revealing the verdict.
            Counting::BeyondBound(counter) => self.throttled(counter),
        })
    }

    /// The slot that the attempt already holds, or a new one for the counter with that name.
    fn take_slot(&self, held: Option<Slot>, name: &str) -> Result<Slot, AuthError> {
        match held.filter(|slot| slot.is_for(name)) {
            Some(slot) => Ok(slot),
            None => self.in_flight.join(name).ok_or_else(overloaded),
        }
    }
}

impl Attempt {
    /// Whether there is a user whose password can be judged.
    pub(super) const fn has_user(&self) -> bool {
        self.found.is_some()
    }
}

async fn wait_for_permit(mut slot: Slot, caller: &mut Caller) -> Result<Slot, AuthError> {
    let deadline = caller.deadline;
    tokio::select! {
        biased;
        () = slot.wait() => {}
        () = caller.gone() => return Err(overloaded()),
        () = tokio::time::sleep_until(deadline.into()) => return Err(overloaded()),
    }
    Ok(slot)
}

/// Too many attempts are in progress; nothing was verified and nothing counted.
const fn overloaded() -> AuthError {
    AuthError::Overloaded {
        retry_after: BUSY_RETRY,
    }
}
