//! `countersign users create`, `list` and `show`. `create` needs no administrator's token, so it also makes the first
//! administrator.

use std::error::Error;

use super::{password_prompt::read_password, say};
use crate::{
    auth::{AuthError, NewUser, RequestContext, Users},
    config::Config,
    domain::{Email, User, UserCondition, user_conditions},
    server::{read_breached_passwords, start_passwords},
    tokens::DerivedKeys,
};

/// Users read at once.
const PAGE: u16 = 1_000;

/// Creates a user with a password that is asked for, or read from standard input.
pub(super) async fn create(
    users: &Users,
    config: &Config,
    keys: &DerivedKeys,
    new: NewUser,
    context: &RequestContext,
) -> Result<User, Box<dyn Error>> {
    let password = read_password()?;
    let personal = vec![
        new.email.as_str().to_owned(),
        new.display_name.as_str().to_owned(),
    ];
    // The workers end when it is dropped.
    let passwords = start_passwords(config, keys, read_breached_passwords(config)?)?;
    let place = passwords.reserve(None)?;
    let hashed = place.hash_new("password", password, personal).await;
    let hash = hashed.map_err(|error| super::in_words(error.into()))?;
    users
        .create(new, &hash, context)
        .await
        .map_err(super::in_words)
}

/// Creates a user who gets a mail; a running server sends it.
pub(super) async fn invite(
    users: &Users,
    new: NewUser,
    context: &RequestContext,
) -> Result<User, Box<dyn Error>> {
    users.invite(new, context).await.map_err(super::in_words)
}

/// Prints the users that a filter chooses, one on each line.
pub(super) async fn list(users: &Users, filter: &str) -> Result<(), Box<dyn Error>> {
    let conditions: Vec<UserCondition> = user_conditions("--filter", filter)
        .map_err(|violation| super::in_words(AuthError::InvalidFields(vec![violation])))?;
    let mut after = None;
    loop {
        let page = users.list(after, &conditions, PAGE).await?;
        for user in &page.items {
            say(format_args!("{}", line(user)));
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Prints one user.
pub(super) async fn show(users: &Users, email: &Email) -> Result<(), Box<dyn Error>> {
    let user = users.find_by_email(email).await?;
    say(format_args!("{}", line(&user)));
    Ok(())
}

fn line(user: &User) -> String {
    format!(
        "user_id={} email={} display_name={:?} roles=\"{}\" email_verified={} disabled={} created={} updated={}",
        user.id,
        user.email.as_str(),
        user.display_name.as_str(),
        user.roles.to_stored(),
        user.email_verified_at.is_some(),
        user.disabled_at.is_some(),
        user.created_at,
        user.updated_at,
    )
}
