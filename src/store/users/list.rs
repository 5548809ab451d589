//! The list of users, in pages, the oldest first.

use diesel::{
    dsl::sql,
    prelude::*,
    sql_types::{Bool, Text},
};
use diesel_async::RunQueryDsl;

use crate::{
    domain::{TimeBound, User, UserCondition, UserId},
    store::{
        Store, StoreError,
        ids::parse_user_id,
        list_window::{ListPage, last_in_window},
        prepared::Unprepared,
        read,
        schema::users,
        users::{
            administrators::{ADMINISTRATOR, IN_ADMINISTRATORS_INDEX},
            records::{UserRow, has_email},
        },
    },
};

impl Store {
    /// Users that meet all conditions, in the order of their ids: `size` at most, beginning after the user `after`.
    ///
    /// Indexes find an address and the administrators. With other conditions no more than `WINDOW` users are looked at; the page may then be short, or even
    /// empty, and have a next one. That goes for the time as well: an imported user has an id of the time of the import.
    pub async fn list_users(
        &self,
        after: Option<UserId>,
        conditions: &[UserCondition],
        size: u16,
    ) -> Result<ListPage<User, UserId>, StoreError> {
        let after = after.map_or_else(String::new, |id| id.to_string());
        let emails: Vec<_> = conditions
            .iter()
            .filter_map(|condition| match condition {
                UserCondition::Email(email) => Some((email.key(), email.legacy_key())),
                _ => None,
            })
            .collect();
        let of_administrators = conditions.iter().any(is_of_administrators);
        let is_bounded = emails.is_empty() && !of_administrators && !conditions.is_empty();
        let (rows, bound): (Vec<UserRow>, Option<String>) = read!(self, |conn| {
            let in_order = users::table.filter(users::id.gt(&after)).order(users::id);
            let bound = last_in_window!(conn, in_order, users::id, is_bounded);
            let mut query = in_order
                .limit(i64::from(size) + 1)
                .select(UserRow::as_select())
                .into_boxed();
            if let Some(bound) = &bound {
                query = query.filter(users::id.le(bound));
            }
            if of_administrators {
                query = query.filter(sql::<Bool>(IN_ADMINISTRATORS_INDEX));
            }
            for (key, legacy_key) in &emails {
                query = query.filter(has_email(key, legacy_key));
            }
            for condition in conditions {
                query = match condition {
                    UserCondition::Email(_) => query,
                    UserCondition::HasRole(role) => query.filter(
                        sql::<Bool>("replace(' ' || users.roles || ' ', ")
                            .bind::<Text, _>(format!(" {} ", role.as_str()))
                            .sql(", '') <> ' ' || users.roles || ' '"),
                    ),
                    UserCondition::Disabled(true) => query.filter(users::disabled_at.is_not_null()),
                    UserCondition::Disabled(false) => query.filter(users::disabled_at.is_null()),
                    UserCondition::EmailVerified(true) => {
                        query.filter(users::email_verified_at.is_not_null())
                    }
                    UserCondition::EmailVerified(false) => {
                        query.filter(users::email_verified_at.is_null())
                    }
                    UserCondition::Created(TimeBound::From(time)) => {
                        query.filter(users::created_at.ge(time.micros()))
                    }
                    UserCondition::Created(TimeBound::Before(time)) => {
                        query.filter(users::created_at.lt(time.micros()))
                    }
                };
            }
            Ok((Unprepared(query).load(conn).await?, bound))
        })?;
        let page = ListPage::of(rows, size, bound, UserRow::id, parse_user_id)?;
        let users: Result<Vec<User>, _> = page.items.into_iter().map(User::try_from).collect();
        Ok(ListPage {
            items: users?,
            next: page.next,
        })
    }
}

fn is_of_administrators(condition: &UserCondition) -> bool {
    matches!(condition, UserCondition::HasRole(role) if role.as_str() == ADMINISTRATOR)
}
