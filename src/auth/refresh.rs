//! Refresh: one conditional UPDATE, batched with concurrent refreshes; the session is read only if that changed no row.

use super::{
    Auth, AuthError, RequestContext,
    issue::{Grant, TokenPair, not_an_audience},
    write_locks::Writer,
};
use crate::{
    clock::Timestamp,
    domain::{RefreshDecision, RefreshRefusal, SessionId},
    store::{AuditKind, RefreshSubject, Rotated, Rotation, StoreError},
    tokens::ParsedRefreshToken,
};

/// How often a rotation is tried again when the session changed between the UPDATE and the look.
const ATTEMPTS: usize = 3;

impl Auth {
    /// Exchanges a refresh token for the next pair.
    ///
    /// # Errors
    /// [`AuthError::RefreshTokenInvalid`], [`AuthError::RefreshTokenExpired`],
    /// [`AuthError::RefreshTokenReused`], [`AuthError::SessionRevoked`], [`AuthError::RateLimited`] when very many refresh
    /// the same session at once, [`AuthError::DatabaseUnavailable`].
    pub async fn refresh(
        &self,
        refresh_token: &str,
        audiences: &[String],
        context: &RequestContext,
    ) -> Result<TokenPair, AuthError> {
        let token = self.parse_refresh_token(refresh_token)?;
        let narrowed = self.narrowed_audiences(token.session_id, audiences).await?;
        let narrowed = narrowed.as_deref();
        if self.parts.revocations.is_session_revoked(token.session_id) {
            self.revoke_again(token.session_id, context).await;
            return Err(AuthError::SessionRevoked);
        }
        for _ in 0..ATTEMPTS {
            let rotated = self.rotate(token, context).await?;
            if let Some(rotated) = rotated {
                return self.issue_next(token, &rotated, narrowed);
            }
            let now = self.parts.clock.now();
            let subject = self.parts.store.find_refresh_subject(token.session_id);
            let Some(subject) = subject.await? else {
                // The user, and the session with it, was deleted, or a restored backup does not know them. The token
                // does not say whose session it was, so it cannot be opened again.
                return Err(AuthError::SessionRevoked);
            };
            match self.judge_refresh(token, &subject, now).await? {
                RefreshDecision::Rotate => {}
                RefreshDecision::Repeat => return self.repeat(&subject, narrowed, now),
                RefreshDecision::CatchUp => {
                    if let Some(pair) = self.catch_up(token, &subject, narrowed, context).await? {
                        return Ok(pair);
                    }
                }
                RefreshDecision::Refuse(refusal) => {
                    return Err(self.refuse(token, refusal, context, now).await?);
                }
            }
        }
        Err(AuthError::Internal(
            "a refreshable session could not be rotated".to_owned(),
        ))
    }

    /// Reads a refresh token and checks its MAC.
    pub(super) fn parse_refresh_token(&self, text: &str) -> Result<ParsedRefreshToken, AuthError> {
        let parsed = self.parts.derived_keys.parse_refresh_token(text);
        parsed.map_err(|error| self.refused_token(text, error.into()))
    }

    /// Why a token with a MAC is refused: `refusal`, or that the master key is not known here by which it was made.
    pub(super) fn refused_token(&self, token: &str, refusal: AuthError) -> AuthError {
        match self.parts.derived_keys.lacks_key_of(token) {
            Some(version) => AuthError::DatabaseUnavailable(format!(
                "a token was made with master key v{version}, which other replicas use and which is not in COUNTERSIGN_MASTER_KEYS here"
            )),
            None => refusal,
        }
    }

    /// The audiences of the next access token alone, if the call asks for some. They are judged before the rotation, so that
    /// a call that asks for too much changes nothing.
    async fn narrowed_audiences(
        &self,
        session_id: SessionId,
        asked: &[String],
    ) -> Result<Option<Vec<String>>, AuthError> {
        let Some(asked) = self.asked_audiences(asked)? else {
            return Ok(None);
        };
        let found = self.parts.store.find_session(session_id).await?;
        let chosen = found.and_then(|session| session.claims.audiences);
        match chosen {
            Some(chosen) if !asked.iter().all(|audience| chosen.contains(audience)) => Err(
                not_an_audience("each must be an audience that the login chose"),
            ),
            _ => Ok(Some(asked)),
        }
    }

    /// Rule 1: the newest token of a live session moves it to the next generation. Refreshes of one session take turns
    /// before they take a connection.
    async fn rotate(
        &self,
        token: ParsedRefreshToken,
        context: &RequestContext,
    ) -> Result<Option<Rotated>, AuthError> {
        let locks = &self.locks.refreshes;
        let lock = locks.lock(token.session_id, Writer::Refresh, context.deadline);
        let _lock = lock.await?;
        let rotation = self.rotation(token);
        Ok(self.parts.store.rotate_session(rotation).await?)
    }

    fn rotation(&self, token: ParsedRefreshToken) -> Rotation {
        Rotation {
            session_id: token.session_id,
            generation: token.generation,
            idle_ttl: self.parts.settings.refresh_token_ttl,
            clock: self.parts.clock.clone(),
        }
    }

    fn issue_next(
        &self,
        token: ParsedRefreshToken,
        rotated: &Rotated,
        narrowed: Option<&[String]>,
    ) -> Result<TokenPair, AuthError> {
        let grant = Grant {
            user_id: rotated.user_id,
            roles: &rotated.roles,
            session_id: token.session_id,
            generation: token.generation + 1,
            refresh_expires_at: rotated.expires_at,
            claims: &rotated.claims,
            narrowed,
        };
        self.issue_pair(&grant, self.parts.clock.now())
    }

    /// Judges a token by this replica's clock and outages, and before it calls one reused by the clock that all share and
    /// by the outages of the others: the client may have waited for an answer of theirs.
    async fn judge_refresh(
        &self,
        token: ParsedRefreshToken,
        subject: &RefreshSubject,
        now: Timestamp,
    ) -> Result<RefreshDecision, StoreError> {
        let (session, store) = (&subject.session, &self.parts.store);
        let grace = self.parts.settings.refresh_grace;
        let judge = |now, outages: &[_]| {
            let user_disabled = subject.user_disabled;
            session.judge_refresh(token.generation, now, grace, outages, user_disabled)
        };
        let mut outages = store.outages();
        let decision = judge(now, &outages);
        let is_reuse = decision == RefreshDecision::Refuse(RefreshRefusal::Reused);
        if !is_reuse || !session.is_previous(token.generation) {
            return Ok(decision);
        }
        // Another replica may have rotated it, whose clock differs from this one's.
        let since = store.time_since_rotation(token.session_id, session.generation);
        let now = match since.await? {
            Some(since) => {
                let shared = now.min(session.rotated_at + since);
                let ahead = now.since(shared);
                for outage in &mut outages {
                    outage.began = outage.began - ahead;
                    outage.ended = outage.ended - ahead;
                }
                shared
            }
            None => now,
        };
        outages.extend(store.outages_of_others(now).await?);
        Ok(judge(now, &outages))
    }

    /// Rule 2: the response was lost or a race was on; the same successor is handed out again.
    fn repeat(
        &self,
        subject: &RefreshSubject,
        narrowed: Option<&[String]>,
        now: Timestamp,
    ) -> Result<TokenPair, AuthError> {
        let grant = Grant {
            narrowed,
            ..Grant::of(&subject.session, &subject.roles)
        };
        self.issue_pair(&grant, now)
    }

    /// Rule 4: the database has lost rotations. The MAC proves that the token was issued. Refusing it would log out its
    /// honest holder, and accept an older token that may be stolen.
    async fn catch_up(
        &self,
        token: ParsedRefreshToken,
        subject: &RefreshSubject,
        narrowed: Option<&[String]>,
        context: &RequestContext,
    ) -> Result<Option<TokenPair>, AuthError> {
        let store = &self.parts.store;
        let stored_generation = subject.session.generation;
        let rotation = self.rotation(token);
        let rotated = store.catch_up_session(&rotation, stored_generation);
        let Some(rotated) = rotated.await? else {
            return Ok(None);
        };
        tracing::warn!(
            request_id = context.request_id,
            session_id = %token.session_id,
            generation = token.generation,
            stored_generation,
            "the database lacks rotations of a session: was a backup restored, or a standby promoted that was behind?"
        );
        self.issue_next(token, &rotated, narrowed).map(Some)
    }

    /// Revokes a session again that this replica knows to be revoked, if the database has lost that.
    async fn revoke_again(&self, session_id: SessionId, context: &RequestContext) {
        let subject = self.parts.store.find_refresh_subject(session_id).await;
        // While the database does not answer, what this replica knows is enough to refuse.
        let Ok(Some(subject)) = subject else { return };
        if subject.session.revoked_at.is_some() || subject.user_disabled {
            return;
        }
        let now = self.parts.clock.now();
        let (kind, writer) = (AuditKind::SessionRevoked, Writer::Service);
        let revoked = self.revoke_session(session_id, kind, writer, context, now);
        let revoked = revoked.await;
        tracing::warn!(
            request_id = context.request_id,
            %session_id,
            is_revoked_again = revoked.is_ok(),
            "the database lacks the revocation of a session: was a backup restored?"
        );
    }

    /// Rule 3. The outer error means that the refusal could not be carried out.
    async fn refuse(
        &self,
        token: ParsedRefreshToken,
        refusal: RefreshRefusal,
        context: &RequestContext,
        now: Timestamp,
    ) -> Result<AuthError, AuthError> {
        Ok(match refusal {
            RefreshRefusal::Revoked => AuthError::SessionRevoked,
            RefreshRefusal::Expired => AuthError::RefreshTokenExpired,
            RefreshRefusal::Reused => {
                let (kind, writer) = (AuditKind::RefreshTokenReused, Writer::Service);
                self.revoke_session(token.session_id, kind, writer, context, now)
                    .await?;
                tracing::warn!(
                    request_id = context.request_id,
                    session_id = %token.session_id,
                    generation = token.generation,
                    "refresh token reused: session revoked"
                );
                AuthError::RefreshTokenReused
            }
        })
    }
}
