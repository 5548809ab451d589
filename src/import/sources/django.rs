//! Django: `manage.py dumpdata auth.user`, as one JSON document or as JSON lines. A model of one's own is read as well,
//! where it has the fields of Django's.

use std::io::BufRead;

use serde::Deserialize;

use super::{
    Entry, ReadError, Sink, each_line,
    elements::{Place, each_element},
};
use crate::{
    import::{Reason, Record, time},
    secret::Secret,
};

#[derive(Deserialize)]
struct Object {
    fields: Fields,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    email: Option<String>,
    username: Option<String>,
    password: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    is_active: Option<bool>,
    date_joined: Option<String>,
}

pub(super) fn read(mut reader: impl BufRead, sink: Sink<'_>) -> Result<(), ReadError> {
    let is_list = reader.fill_buf()?.trim_ascii_start().starts_with(b"[");
    if !is_list {
        return Ok(each_line(reader, sink, record)?);
    }
    each_element(
        reader,
        Place::Document,
        &mut |line, text| match record(text) {
            Some(record) => sink(Entry { line, record }),
            None => std::ops::ControlFlow::Continue(()),
        },
    )
}

/// The account of an object; `None` for an object of another model.
fn record(text: &str) -> Option<Result<Record, Reason>> {
    let Ok(Object { fields }) = serde_json::from_str(text) else {
        let reason = Reason::NotAnAccount("not the shape of an object of dumpdata");
        return Some(Err(reason));
    };
    let password = fields.password?;
    let address = |text: &String| text.contains('@');
    let email = fields.email.filter(address);
    let Some(email) = email.or_else(|| fields.username.filter(address)) else {
        let reason = Reason::NotAnAccount("an account without an e-mail address");
        return Some(Err(reason));
    };
    let names = [fields.first_name, fields.last_name];
    let names: Vec<String> = names
        .into_iter()
        .flatten()
        .filter(|name| !name.is_empty())
        .collect();
    Some(Ok(Record {
        email,
        display_name: names.join(" "),
        // Django does not know.
        email_verified: false,
        roles: Vec::new(),
        disabled: fields.is_active == Some(false),
        create_time: fields.date_joined.as_deref().and_then(time::loose),
        password_hash: Some(Secret::new(password)),
        password_secret: None,
    }))
}
