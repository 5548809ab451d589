//! Checks a caller's role in the database, since the roles in an access token are those of the time when it was signed.

use super::{Auth, AuthError};
use crate::domain::UserId;

impl Auth {
    /// Checks that a user holds one of these roles at this moment. Administrators are checked so, because a token
    /// outlives the loss of the role by up to its lifetime, and its holder could give the role back to itself.
    ///
    /// # Errors
    /// [`AuthError::InsufficientRole`]; [`AuthError::TokenRevoked`] when the user is disabled or deleted;
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn require_current_role(
        &self,
        user_id: UserId,
        roles: &[&str],
    ) -> Result<(), AuthError> {
        let user = self.parts.store.find_user(user_id).await?;
        let user = user
            .filter(|user| user.disabled_at.is_none())
            .ok_or(AuthError::TokenRevoked)?;
        if user.roles.names().any(|held| roles.contains(&held)) {
            Ok(())
        } else {
            Err(AuthError::InsufficientRole)
        }
    }
}
