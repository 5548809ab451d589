//! Refreshing: one conditional UPDATE, and a second look only when it did not apply.

use super::{
    Auth, AuthError, RequestContext,
    issue::{Grant, TokenPair},
};
use crate::{
    clock::Timestamp,
    domain::{RefreshDecision, RefreshRefusal},
    store::{AuditKind, RefreshSubject, Rotation},
    tokens::ParsedRefreshToken,
};

/// How often a rotation is tried again when the session changed between the UPDATE and the look.
const ATTEMPTS: usize = 3;

impl Auth {
    /// Exchanges a refresh token for the next pair.
    ///
    /// # Errors
    /// [`AuthError::RefreshTokenInvalid`], [`AuthError::RefreshTokenExpired`],
    /// [`AuthError::RefreshTokenReused`], [`AuthError::SessionRevoked`],
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn refresh(
        &self,
        refresh_token: &str,
        context: &RequestContext,
    ) -> Result<TokenPair, AuthError> {
        let token = self.parts.derived_keys.parse_refresh_token(refresh_token)?;
        for _ in 0..ATTEMPTS {
            let now = self.parts.clock.now();
            if let Some(pair) = self.rotate(token, now).await? {
                return Ok(pair);
            }
            let subject = self.parts.store.find_refresh_subject(token.session_id);
            let Some(subject) = subject.await? else {
                // The user, and the session with it, was deleted.
                return Err(AuthError::SessionRevoked);
            };
            let decision = subject.session.judge_refresh(
                token.generation,
                now,
                self.parts.settings.refresh_grace,
                subject.user_barred,
            );
            match decision {
                RefreshDecision::Rotate => {}
                RefreshDecision::Repeat => return self.repeat(&subject, now),
                RefreshDecision::Refuse(refusal) => {
                    return Err(self.refuse(token, refusal, context, now).await?);
                }
            }
        }
        Err(AuthError::Internal(
            "a refreshable session could not be rotated".to_owned(),
        ))
    }

    /// Rule 1: the newest token of a live session moves it to the next generation.
    async fn rotate(
        &self,
        token: ParsedRefreshToken,
        now: Timestamp,
    ) -> Result<Option<TokenPair>, AuthError> {
        let idle_expires_at = now + self.parts.settings.refresh_token_ttl;
        let rotated = self
            .parts
            .store
            .rotate_session(Rotation {
                session_id: token.session_id,
                generation: token.generation,
                now,
                idle_expires_at,
            })
            .await?;
        rotated
            .map(|rotated| {
                let grant = Grant {
                    user_id: rotated.user_id,
                    roles: &rotated.roles,
                    session_id: token.session_id,
                    generation: token.generation + 1,
                    refresh_expires_at: idle_expires_at.min(rotated.absolute_expires_at),
                };
                self.issue_pair(&grant, now)
            })
            .transpose()
    }

    /// Rule 2: the response was lost or a race was on; the same successor is handed out again.
    fn repeat(&self, subject: &RefreshSubject, now: Timestamp) -> Result<TokenPair, AuthError> {
        let grant = Grant::of(&subject.session, &subject.roles);
        self.issue_pair(&grant, now)
    }

    /// Rules 3 and 4. The outer error means that the refusal could not be carried out.
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
                let kind = AuditKind::RefreshTokenReused;
                self.revoke_session(token.session_id, kind, context, now)
                    .await?;
                tracing::warn!(
                    request_id = context.request_id,
                    session_id = %token.session_id,
                    generation = token.generation,
                    "an old refresh token came back: session revoked"
                );
                AuthError::RefreshTokenReused
            }
            RefreshRefusal::FromTheFuture => {
                tracing::warn!(
                    request_id = context.request_id,
                    session_id = %token.session_id,
                    generation = token.generation,
                    "a refresh token of a generation never issued: was a backup restored?"
                );
                AuthError::RefreshTokenInvalid
            }
        })
    }
}
