//! Register: creates a user if the password meets the policy and the address is not taken.

use super::{Auth, AuthError, RequestContext};
use crate::{
    domain::{DisplayName, Email, Password, Roles, User, UserId},
    store::{AuditKind, StoreError},
};

/// A validated Register request.
pub struct RegisterCommand {
    /// The e-mail address, which identifies the user.
    pub email: Email,
    /// The password.
    pub password: Password,
    /// The display name; may be empty.
    pub display_name: DisplayName,
}

impl Auth {
    /// Creates a user.
    ///
    /// # Errors
    /// [`AuthError::WeakPassword`], [`AuthError::EmailTaken`], [`AuthError::Overloaded`],
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn register(
        &self,
        command: RegisterCommand,
        context: &RequestContext,
    ) -> Result<User, AuthError> {
        let parts = &self.parts;
        let personal = vec![
            command.email.as_str().to_owned(),
            command.display_name.as_str().to_owned(),
        ];
        // Do not spend a hash on a user that cannot be stored while the database is down.
        parts.store.check_available()?;
        let place = parts.passwords.reserve(context.deadline)?;
        let hash = place
            .hash_new("password", command.password, personal)
            .await?;
        let now = parts.clock.now();
        let user = User {
            id: UserId::generate(now),
            email: command.email,
            display_name: command.display_name,
            email_verified_at: None,
            roles: Roles::default(),
            created_at: now,
            updated_at: now,
            disabled_at: None,
        };
        let mut event = context.audit_event(AuditKind::UserRegistered, now);
        event.user_id = Some(user.id);
        match parts.store.insert_user(&user, hash.as_str(), &event).await {
            Ok(()) => Ok(user),
            Err(StoreError::Conflict) => Err(AuthError::EmailTaken),
            Err(error) => Err(error.into()),
        }
    }
}
