//! Users and their password hashes.

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use crate::{
    clock::Timestamp,
    domain::{DisplayName, Email, FactorKinds, NewMail, Roles, User, UserId},
    store::{
        AuditEvent, Store, StoreError,
        ids::parse_user_id,
        mails::outbox::{NewMailRow, queue_mail},
        read,
        schema::{audit_events, users},
        write,
    },
};

#[derive(Insertable)]
#[diesel(table_name = users, treat_none_as_default_value = false)]
pub(in crate::store) struct NewUserRow<'a> {
    id: String,
    email: &'a str,
    email_key: String,
    email_identity: String,
    display_name: &'a str,
    password_hash: &'a str,
    roles: String,
    email_verified_at: Option<i64>,
    created_at: i64,
    updated_at: i64,
}

impl<'a> NewUserRow<'a> {
    pub(in crate::store) fn new(user: &'a User, password_hash: &'a str) -> Self {
        Self {
            id: user.id.to_string(),
            email: user.email.as_str(),
            email_key: user.email.legacy_key(),
            email_identity: user.email.key(),
            display_name: user.display_name.as_str(),
            password_hash,
            roles: user.roles.to_stored(),
            email_verified_at: user.email_verified_at.map(Timestamp::micros),
            created_at: user.created_at.micros(),
            updated_at: user.updated_at.micros(),
        }
    }
}

diesel::define_sql_function! {
    /// The same in both databases.
    fn replace(text: diesel::sql_types::Text, from: diesel::sql_types::Text, to: diesel::sql_types::Text) -> diesel::sql_types::Text;
}

/// The users of an address: the one who has the mailbox, and one who registered just this address before a mailbox had
/// one user. Two rows at most; the second kind comes first when they are ordered by `email_key = legacy_key`.
#[diesel::dsl::auto_type(no_type_alias)]
pub(in crate::store) fn has_email<'a>(key: &'a str, legacy_key: &'a str) -> _ {
    users::email_key
        .eq(legacy_key)
        .or(users::email_identity.eq(key))
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = users)]
pub(in crate::store) struct UserRow {
    id: String,
    email: String,
    display_name: String,
    roles: String,
    email_verified_at: Option<i64>,
    created_at: i64,
    updated_at: i64,
    disabled_at: Option<i64>,
}

impl UserRow {
    /// The user's id.
    pub(in crate::store) fn id(&self) -> &str {
        &self.id
    }
}

impl TryFrom<UserRow> for User {
    type Error = StoreError;

    fn try_from(row: UserRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: parse_user_id(&row.id)?,
            email: Email::from_stored(row.email),
            display_name: DisplayName::from_stored(row.display_name),
            email_verified_at: row.email_verified_at.map(Timestamp::from_micros),
            roles: Roles::from_stored(&row.roles),
            created_at: Timestamp::from_micros(row.created_at),
            updated_at: Timestamp::from_micros(row.updated_at),
            disabled_at: row.disabled_at.map(Timestamp::from_micros),
        })
    }
}

/// The kinds in a user's row.
pub(in crate::store) fn stored_kinds(text: Option<&str>) -> Result<FactorKinds, StoreError> {
    FactorKinds::from_stored(text)
        .ok_or_else(|| StoreError::Corrupt("an unknown kind of second factor".to_owned()))
}

impl Store {
    /// Creates a user, records that, and has a mail sent if there is one.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the e-mail address is taken.
    pub async fn insert_user(
        &self,
        user: &User,
        password_hash: &str,
        event: &AuditEvent,
        mail: Option<&NewMail>,
    ) -> Result<(), StoreError> {
        let event = event.to_row_for(user.id);
        let row = NewUserRow::new(user, password_hash);
        let mail_row = mail.map(NewMailRow::of);
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                diesel::insert_into(users::table)
                    .values(&row)
                    .execute(conn)
                    .await?;
                diesel::insert_into(audit_events::table)
                    .values(&event)
                    .execute(conn)
                    .await?;
                if let Some(mail) = &mail_row {
                    queue_mail!(conn, mail);
                }
                Ok(())
            })
            .await
        })?;
        if mail.is_some() {
            self.mail_queued.notify_one();
        }
        Ok(())
    }

    /// Creates a user if the address is free, and otherwise records the attempt. In both cases three statements and one
    /// commit, and a mail to the address: nothing tells the caller which it was.
    pub async fn insert_user_or_tell_owner(
        &self,
        user: &User,
        password_hash: &str,
        [created, refused]: [(&AuditEvent, &NewMail); 2],
    ) -> Result<(), StoreError> {
        let row = NewUserRow::new(user, password_hash);
        let created = (created.0.to_row_for(user.id), NewMailRow::of(created.1));
        let refused = (refused.0.to_row(), NewMailRow::of(refused.1));
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                let inserted = diesel::insert_into(users::table)
                    .values(&row)
                    .on_conflict_do_nothing()
                    .execute(conn)
                    .await?;
                let (event, mail) = match inserted {
                    0 => &refused,
                    _ => &created,
                };
                diesel::insert_into(audit_events::table)
                    .values(event)
                    .execute(conn)
                    .await?;
                queue_mail!(conn, mail);
                Ok(())
            })
            .await
        })?;
        self.mail_queued.notify_one();
        Ok(())
    }

    /// The user with that id.
    pub async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let found: Option<UserRow> = read!(self, |conn| {
            Ok(users::table
                .find(id.to_string())
                .select(UserRow::as_select())
                .get_result(conn)
                .await
                .optional()?)
        })?;
        found.map(User::try_from).transpose()
    }

    /// The user with that e-mail address.
    pub async fn find_user_by_email(&self, email: &Email) -> Result<Option<User>, StoreError> {
        let (key, legacy_key) = (&email.key(), &email.legacy_key());
        let found: Option<UserRow> = read!(self, |conn| {
            Ok(users::table
                .filter(has_email(key, legacy_key))
                .order(users::email_key.eq(legacy_key).desc())
                .select(UserRow::as_select())
                .get_result(conn)
                .await
                .optional()?)
        })?;
        found.map(User::try_from).transpose()
    }

    /// Replaces the stored form of a password that has not changed: of the same password, by present parameters. Returns
    /// whether this call did.
    pub async fn renew_password_hash(
        &self,
        id: UserId,
        old: &str,
        new: &str,
    ) -> Result<bool, StoreError> {
        let unchanged = users::table
            .filter(users::id.eq(id.to_string()))
            .filter(users::password_hash.eq(old));
        let update = diesel::update(unchanged).set(users::password_hash.eq(new));
        let changed = write!(self, |conn| Ok(update.execute(conn).await?))?;
        Ok(changed > 0)
    }

    /// How many users there are whose password hash contains `mark`, in just that case.
    pub async fn count_password_hashes(&self, mark: &str) -> Result<i64, StoreError> {
        // `LIKE` is blind to case on SQLite, and neither database knows the other's word for finding.
        let without = replace(users::password_hash, mark, "");
        read!(self, |conn| {
            Ok(users::table
                .filter(without.ne(users::password_hash))
                .count()
                .get_result(conn)
                .await?)
        })
    }
}
