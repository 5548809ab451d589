//! Keycloak's realm export: `kc.sh export --realm NAME --users realm_file`, or the files of users beside it.

use std::io::BufRead;

use serde::Deserialize;

use super::{
    Entry, ReadError, Sink, SourceOptions,
    elements::{Place, each_element},
    roles,
};
use crate::{
    import::{Reason, Record, time},
    secret::Secret,
};

/// The members of a `UserRepresentation` that are used.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct User {
    username: Option<String>,
    email: Option<String>,
    email_verified: Option<bool>,
    enabled: Option<bool>,
    first_name: Option<String>,
    last_name: Option<String>,
    created_timestamp: Option<i64>,
    realm_roles: Option<Vec<String>>,
    credentials: Option<Vec<Credential>>,
    service_account_client_id: Option<String>,
}

/// A `CredentialRepresentation`: two of its members are JSON in strings.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Credential {
    r#type: Option<String>,
    secret_data: Option<String>,
    #[serde(rename = "credentialData")]
    parameters: Option<String>,
}

pub(super) fn read(
    reader: impl BufRead,
    options: SourceOptions,
    sink: Sink<'_>,
) -> Result<(), ReadError> {
    each_element(reader, Place::Member("users"), &mut |line, text| {
        let record = record(text, options);
        sink(Entry { line, record })
    })
}

fn record(text: &str, options: SourceOptions) -> Result<Record, Reason> {
    let user: User = serde_json::from_str(text)
        .map_err(|_| Reason::NotAnAccount("not the shape of a user of Keycloak"))?;
    if user.service_account_client_id.is_some() {
        return Err(Reason::NotAnAccount("the service account of a client"));
    }
    let (email, email_verified) = match user.email.filter(|email| !email.is_empty()) {
        Some(email) => (email, user.email_verified == Some(true)),
        // Realms in which the address is the name leave the address out.
        None => match user.username.filter(|name| name.contains('@')) {
            Some(name) => (name, false),
            None => return Err(Reason::NotAnAccount("an account without an e-mail address")),
        },
    };
    let names = [user.first_name, user.last_name];
    let names: Vec<String> = names.into_iter().flatten().collect();
    let password = user
        .credentials
        .into_iter()
        .flatten()
        .find(|credential| credential.r#type.as_deref() == Some("password"));
    let roles = user.realm_roles.unwrap_or_default();
    Ok(Record {
        email,
        display_name: names.join(" "),
        email_verified,
        roles: roles::kept(roles.iter().map(String::as_str), options),
        disabled: user.enabled == Some(false),
        create_time: user.created_timestamp.and_then(time::millis),
        password_hash: password.map(|password| Secret::new(credential(&password))),
        password_secret: None,
    })
}

/// The credential in the form in which hashes of Keycloak are read.
fn credential(password: &Credential) -> String {
    serde_json::json!({
        "type": "password",
        "secretData": password.secret_data,
        "credentialData": password.parameters,
    })
    .to_string()
}
