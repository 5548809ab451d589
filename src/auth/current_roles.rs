//! Checks a caller's role in the database, since the roles in an access token are those of the time when it was signed.

use super::{Auth, AuthError};
use crate::tokens::{AccessClaims, PrincipalType};

impl Auth {
    /// Checks that a user or service account holds one of these roles at this moment. Administrators are checked so, because a token
    /// outlives the loss of the role by up to its lifetime, and its holder could give the role back to itself.
    ///
    /// # Errors
    /// [`AuthError::InsufficientRole`]; [`AuthError::TokenRevoked`] when the account is disabled or deleted;
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn require_current_role(
        &self,
        claims: &AccessClaims,
        roles: &[&str],
    ) -> Result<(), AuthError> {
        let store = &self.parts.store;
        let id = claims.user_id;
        let found = match claims.principal {
            PrincipalType::User => {
                let user = store.find_user(id).await?;
                user.map(|user| (user.roles, user.disabled_at))
            }
            PrincipalType::Service => {
                let account = store.find_service_account(id.into()).await?;
                account.map(|account| (account.item.roles, account.item.disabled_at))
            }
        };
        let (current, _) = found
            .filter(|(_, disabled_at)| disabled_at.is_none())
            .ok_or(AuthError::TokenRevoked)?;
        if current.names().any(|held| roles.contains(&held)) {
            Ok(())
        } else {
            Err(AuthError::InsufficientRole)
        }
    }
}
