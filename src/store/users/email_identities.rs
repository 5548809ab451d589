//! Gives every user the key that all spellings of a mailbox share, once, after an upgrade from a version without it.
//!
//! It is computed by the program, because no database folds case by the Unicode algorithm or knows IDNA. Users without
//! it are those of the version before; at a start they are taken in batches. Where two of them turn out to share a
//! mailbox, the first keeps the key, the other keeps none, and both still log in with the address they registered.

use std::collections::BTreeSet;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    domain::{Email, UserId},
    store::{Store, StoreError, ids::parse_user_id, read, schema::users, write},
};

/// How many users one statement takes.
const BATCH: i64 = 500;

/// What an upgrade did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct EmailIdentities {
    /// Users who got a key.
    pub assigned: usize,
    /// Users whose mailbox belongs to another user already, with that user.
    pub conflicts: Vec<EmailConflict>,
    /// What the visitor found in the password hashes of all of them.
    pub password_parameters: BTreeSet<String>,
}

/// Two users whose addresses name one mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmailConflict {
    /// The user who has the key.
    pub owner: UserId,
    /// The user who has none.
    pub other: UserId,
}

/// A user without a key.
struct Pending {
    id: String,
    identity: String,
}

impl Store {
    /// Gives a key to every user who has none. `parameters_of` reads the parameters of a stored password hash.
    ///
    /// It may run on several replicas at once and be repeated after a failure: what is done stays done.
    ///
    /// # Errors
    /// The database fails.
    pub async fn assign_email_identities(
        &self,
        parameters_of: impl Fn(&str) -> Option<String>,
    ) -> Result<EmailIdentities, StoreError> {
        let mut done = EmailIdentities::default();
        // Those whose key is not their old one come last: whoever is registered under a key itself keeps it.
        let mut changed = Vec::new();
        let mut last = String::new();
        loop {
            let page = self.users_without_identity(&last).await?;
            let Some((id, ..)) = page.last() else { break };
            last.clone_from(id);
            let mut unchanged = Vec::new();
            for (id, email, email_key, password_hash) in page {
                done.password_parameters
                    .extend(parameters_of(&password_hash));
                let identity = Email::from_stored(email).key();
                let same = identity == email_key;
                let pending = Pending { id, identity };
                if same { &mut unchanged } else { &mut changed }.push(pending);
            }
            match self.keep_keys(&unchanged).await {
                Ok(assigned) => done.assigned += assigned,
                Err(StoreError::Conflict) => self.assign_each(unchanged, &mut done).await?,
                Err(error) => return Err(error),
            }
        }
        self.assign_each(changed, &mut done).await?;
        Ok(done)
    }

    async fn users_without_identity(
        &self,
        after: &str,
    ) -> Result<Vec<(String, String, String, String)>, StoreError> {
        read!(self, |conn| {
            Ok(users::table
                .filter(users::email_identity.is_null())
                .filter(users::id.gt(after))
                .order(users::id)
                .limit(BATCH)
                .select((
                    users::id,
                    users::email,
                    users::email_key,
                    users::password_hash,
                ))
                .load(conn)
                .await?)
        })
    }

    /// The key of these users is the one they have always had.
    async fn keep_keys(&self, pending: &[Pending]) -> Result<usize, StoreError> {
        let ids: Vec<&str> = pending.iter().map(|user| user.id.as_str()).collect();
        write!(self, |conn| {
            Ok(diesel::update(users::table.filter(users::id.eq_any(&ids)))
                .filter(users::email_identity.is_null())
                .set(users::email_identity.eq(users::email_key.nullable()))
                .execute(conn)
                .await?)
        })
    }

    async fn assign_each(
        &self,
        pending: Vec<Pending>,
        done: &mut EmailIdentities,
    ) -> Result<(), StoreError> {
        for user in pending {
            match self.assign(&user).await {
                Ok(assigned) => done.assigned += assigned,
                Err(StoreError::Conflict) => done.conflicts.extend(self.conflict(&user).await?),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn assign(&self, user: &Pending) -> Result<usize, StoreError> {
        write!(self, |conn| {
            Ok(diesel::update(users::table.find(&user.id))
                .filter(users::email_identity.is_null())
                .set(users::email_identity.eq(&user.identity))
                .execute(conn)
                .await?)
        })
    }

    async fn conflict(&self, user: &Pending) -> Result<Option<EmailConflict>, StoreError> {
        let owner: Option<String> = read!(self, |conn| {
            Ok(users::table
                .filter(users::email_identity.eq(&user.identity))
                .select(users::id)
                .get_result(conn)
                .await
                .optional()?)
        })?;
        let Some(owner) = owner else { return Ok(None) };
        Ok(Some(EmailConflict {
            owner: parse_user_id(&owner)?,
            other: parse_user_id(&user.id)?,
        }))
    }
}
