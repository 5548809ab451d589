//! Which parameters stored password hashes have: short, and read without a look at the users.

use diesel::{dsl::exists, prelude::*};
use diesel_async::RunQueryDsl;

use crate::{
    clock::Timestamp,
    store::{
        Store, StoreError, read,
        schema::{password_parameters, users},
        write,
    },
};

impl Store {
    /// Adds parameters to the list, in the form in which a stored hash begins.
    pub async fn record_password_parameters(
        &self,
        parameters: &[String],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for parameters in parameters {
            let known: bool = read!(self, |conn| {
                let row = password_parameters::table.find(parameters);
                Ok(diesel::select(exists(row)).get_result(conn).await?)
            })?;
            // Most have been there for years: then nothing is written.
            if known {
                continue;
            }
            write!(self, |conn| {
                Ok(diesel::insert_into(password_parameters::table)
                    .values((
                        password_parameters::parameters.eq(parameters),
                        password_parameters::recorded_at.eq(now.micros()),
                    ))
                    .on_conflict_do_nothing()
                    .execute(conn)
                    .await?)
            })?;
        }
        Ok(())
    }

    /// All parameters on the list.
    pub async fn password_parameters(&self) -> Result<Vec<String>, StoreError> {
        read!(self, |conn| {
            Ok(password_parameters::table
                .select(password_parameters::parameters)
                .order(password_parameters::parameters)
                .load(conn)
                .await?)
        })
    }

    /// Takes parameters off the list that no user's hash has any more, and returns how many those were. `current` stay,
    /// for the next hash will have them.
    pub async fn forget_unused_password_parameters(
        &self,
        current: &str,
    ) -> Result<usize, StoreError> {
        let mut forgotten = 0;
        for parameters in self.password_parameters().await? {
            if parameters == current || self.has_password_parameters(&parameters).await? {
                continue;
            }
            forgotten += write!(self, |conn| {
                Ok(diesel::delete(password_parameters::table.find(&parameters))
                    .execute(conn)
                    .await?)
            })?;
        }
        Ok(forgotten)
    }

    /// Whether a user's hash begins with these parameters. Key id, associated data or the salt follow.
    async fn has_password_parameters(&self, parameters: &str) -> Result<bool, StoreError> {
        let (salt, field) = (format!("{parameters}$%"), format!("{parameters},%"));
        let hash = users::password_hash;
        read!(self, |conn| {
            let found = users::table.filter(hash.like(&salt).or(hash.like(&field)));
            Ok(diesel::select(exists(found)).get_result(conn).await?)
        })
    }
}
