//! Administration of users: create, invite, list, delete. (Changes of a user are in `users`.)

use super::{Auth, AuthError, RequestContext, Revoked, Users, in_its_own_task, register::taken};
use crate::{
    domain::{
        DisplayName, Email, MailKind, NewMail, PositionedRevocation, Recipient, Roles, User,
        UserCondition, UserId,
    },
    passwords::PasswordHash,
    store::{AuditKind, ListPage},
    tokens::DerivedKeys,
};

/// A user that an administrator creates.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// The e-mail address, which identifies the user.
    pub email: Email,
    /// The display name; may be empty.
    pub display_name: DisplayName,
    /// The roles.
    pub roles: Roles,
}

impl Auth {
    /// Creates a user without a password and has a mail sent with a token that sets the first one (ResetPassword), which
    /// verifies the address as well.
    ///
    /// # Errors
    /// [`AuthError::EmailTaken`], [`AuthError::DatabaseUnavailable`].
    pub async fn invite_user(
        &self,
        new: NewUser,
        context: &RequestContext,
    ) -> Result<User, AuthError> {
        self.users().invite(new, context).await
    }

    /// Deletes a user.
    ///
    /// # Errors
    /// Those of [`Users::delete`].
    pub async fn delete_user(
        &self,
        id: UserId,
        context: &RequestContext,
    ) -> Result<Revoked<()>, AuthError> {
        let keys = &self.parts.derived_keys;
        self.users().delete(id, keys, context).await
    }
}

impl Users {
    /// Creates a user who has a password. An administrator vouches for the address, so it counts as verified.
    ///
    /// # Errors
    /// [`AuthError::EmailTaken`], [`AuthError::DatabaseUnavailable`].
    pub async fn create(
        &self,
        new: NewUser,
        hash: &PasswordHash,
        context: &RequestContext,
    ) -> Result<User, AuthError> {
        let now = self.clock.now();
        let user = User {
            email_verified_at: Some(now),
            ..self.new_user(new)
        };
        let event = context.audit_event(AuditKind::UserCreated, now);
        let inserted = self
            .store
            .insert_user(&user, hash.as_str(), &event, None)
            .await;
        inserted.map_err(taken)?;
        Ok(user)
    }

    /// Creates a user without a password, who gets a token by mail to choose one.
    ///
    /// # Errors
    /// [`AuthError::EmailTaken`], [`AuthError::DatabaseUnavailable`].
    pub async fn invite(&self, new: NewUser, context: &RequestContext) -> Result<User, AuthError> {
        let user = self.new_user(new);
        let now = user.created_at;
        let hash = PasswordHash::absent()?;
        let event = context.audit_event(AuditKind::UserInvited, now);
        let mail: NewMail = context.mail(MailKind::Invitation, Recipient::User(user.id), now);
        let inserted = self
            .store
            .insert_user(&user, hash.as_str(), &event, Some(&mail))
            .await;
        inserted.map_err(taken)?;
        Ok(user)
    }

    fn new_user(&self, new: NewUser) -> User {
        let now = self.clock.now();
        User {
            id: UserId::generate(now),
            email: new.email,
            display_name: new.display_name,
            email_verified_at: None,
            roles: new.roles,
            created_at: now,
            updated_at: now,
            disabled_at: None,
        }
    }

    /// Users that meet all conditions, the oldest first: `size` of them at most, beginning after the user `after`. A page may
    /// be short, or even empty, and have a next one.
    ///
    /// # Errors
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn list(
        &self,
        after: Option<UserId>,
        conditions: &[UserCondition],
        size: u16,
    ) -> Result<ListPage<User, UserId>, AuthError> {
        Ok(self.store.list_users(after, conditions, size).await?)
    }

    /// Deletes a user with all personal data, and revokes every token. Audit events keep the user's id.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`], [`AuthError::LastAdmin`], [`AuthError::RateLimited`],
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn delete(
        &self,
        id: UserId,
        keys: &DerivedKeys,
        context: &RequestContext,
    ) -> Result<Revoked<()>, AuthError> {
        let lock = self.lock(id, context).await?;
        let user = self.find(id).await?;
        let counters = keys.account_counters(&user.email);
        let now = self.clock.now();
        let event = context.audit_event(AuditKind::UserDeleted, now);
        let users = self.clone();
        in_its_own_task(async move {
            let _lock = lock;
            let revocations: Vec<PositionedRevocation> = users
                .store
                .delete_user(id, &counters, now, users.remember, &event)
                .await?
                .ok_or(AuthError::UserNotFound)?;
            users.revocations.learn(&revocations);
            Ok(Revoked::new((), &revocations))
        })
        .await
    }
}
