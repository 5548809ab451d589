//! What an attempt begins with: the user, what the user is judged by, and the counter of failures that decides. One
//! operation for each.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    domain::{Email, FactorKinds, FailureCounter, User, UserId},
    store::{
        CounterKey, Store, StoreError, StoredPasskey, StoredTotp,
        factors::{passkeys::PasskeyRow, totp_factors::TotpRow},
        read,
        schema::{passkeys, totp_factors, users},
        sessions::login_failures::find_counter,
        users::records::{UserRow, has_email, stored_kinds},
    },
};

/// What an attempt begins with.
pub struct Credentials {
    /// The user, if there is one.
    pub user: Option<UserCredentials>,
    /// Whether that user has logged in before.
    pub has_logged_in: bool,
    /// The counter that was asked for.
    pub key: CounterKey,
    /// Its state; `None` when it has no failures.
    pub counter: Option<FailureCounter>,
}

/// What a user is judged by.
#[derive(Clone, Debug)]
pub struct UserCredentials {
    /// The user.
    pub user: User,
    /// The stored hash of the password.
    pub password_hash: String,
    /// The kinds of second factors that the user has.
    pub factors: FactorKinds,
    /// The authenticator app, if the user has one and it was asked for.
    pub totp: Option<StoredTotp>,
    /// The passkey by which the user was found.
    pub passkey: Option<StoredPasskey>,
}

impl Store {
    /// Looks up who wants to log in, and the counter that `choose` names for that user, or for nobody. One operation
    /// and as many statements, whether the address is registered or not.
    pub async fn find_credentials(
        &self,
        email: &Email,
        choose: impl Fn(Option<UserId>) -> CounterKey + Send + Sync,
    ) -> Result<Credentials, StoreError> {
        let (key, legacy_key) = (&email.key(), &email.legacy_key());
        read!(self, |conn| {
            let found: Option<(UserRow, String, Option<i64>, Option<String>)> = users::table
                .filter(has_email(key, legacy_key))
                .order(users::email_key.eq(legacy_key).desc())
                .select((
                    UserRow::as_select(),
                    users::password_hash,
                    users::last_login_at,
                    users::factor_kinds,
                ))
                .get_result(conn)
                .await
                .optional()?;
            let found = found.map(|(user, hash, login, kinds)| (user, hash, login, kinds, None));
            let (user, has_logged_in) = credentials(found)?;
            let key = choose(user.as_ref().map(|found| found.user.id));
            let counter = find_counter!(conn, &key.name);
            Ok(Credentials {
                user,
                has_logged_in,
                key,
                counter,
            })
        })
    }

    /// The same for whoever has the passkey with that id of its authenticator.
    pub async fn find_credentials_by_passkey(
        &self,
        credential_id: &[u8],
        choose: impl Fn(Option<&StoredPasskey>) -> CounterKey + Send + Sync,
    ) -> Result<Credentials, StoreError> {
        read!(self, |conn| {
            type Row = (PasskeyRow, UserRow, String, Option<i64>, Option<String>);
            let found: Option<Row> = passkeys::table
                .inner_join(users::table)
                .filter(passkeys::credential_id.eq(credential_id))
                .select((
                    PasskeyRow::as_select(),
                    UserRow::as_select(),
                    users::password_hash,
                    users::last_login_at,
                    users::factor_kinds,
                ))
                .get_result(conn)
                .await
                .optional()?;
            let (user, has_logged_in) = match found {
                None => (None, false),
                Some((passkey, user, hash, last_login, kinds)) => {
                    let passkey = Some(StoredPasskey::try_from(passkey)?);
                    let (user, has_logged_in) =
                        credentials(Some((user, hash, last_login, kinds, None)))?;
                    let user = user.map(|user| UserCredentials { passkey, ..user });
                    (user, has_logged_in)
                }
            };
            let passkey = user.as_ref().and_then(|found| found.passkey.as_ref());
            let key = choose(passkey);
            let counter = find_counter!(conn, &key.name);
            Ok(Credentials {
                user,
                has_logged_in,
                key,
                counter,
            })
        })
    }

    /// The same for a user who is known by id, with the authenticator app.
    pub async fn find_credentials_of(
        &self,
        id: UserId,
        key: &CounterKey,
    ) -> Result<Credentials, StoreError> {
        read!(self, |conn| {
            let found: Option<CredentialsRow> = users::table
                .left_join(totp_factors::table)
                .filter(users::id.eq(id.to_string()))
                .select((
                    UserRow::as_select(),
                    users::password_hash,
                    users::last_login_at,
                    users::factor_kinds,
                    Option::<TotpRow>::as_select(),
                ))
                .get_result(conn)
                .await
                .optional()?;
            let (user, has_logged_in) = credentials(found)?;
            Ok(Credentials {
                user,
                has_logged_in,
                key: key.clone(),
                counter: find_counter!(conn, &key.name),
            })
        })
    }
}

/// A user, the stored hash, when the user last logged in, the kinds of factors, and the authenticator app.
type CredentialsRow = (
    UserRow,
    String,
    Option<i64>,
    Option<String>,
    Option<TotpRow>,
);

/// What the user is judged by, and whether the user has logged in before.
fn credentials(
    found: Option<CredentialsRow>,
) -> Result<(Option<UserCredentials>, bool), StoreError> {
    let Some((row, password_hash, last_login, kinds, totp)) = found else {
        return Ok((None, false));
    };
    let credentials = UserCredentials {
        user: row.try_into()?,
        password_hash,
        factors: stored_kinds(kinds.as_deref())?,
        totp: totp.map(StoredTotp::try_from).transpose()?,
        passkey: None,
    };
    Ok((Some(credentials), last_login.is_some()))
}
