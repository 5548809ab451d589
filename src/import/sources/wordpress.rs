//! WordPress: `wp user list --fields=user_email,display_name,user_registered,roles,user_pass` as CSV or JSON, or the table
//! `wp_users` as CSV with the names of its columns in the first line.

use std::io::BufRead;

use csv::{ReaderBuilder, StringRecord};
use serde::Deserialize;

use super::{
    Entry, ReadError, Sink, SourceOptions,
    budget::{Budget, Budgeted},
    elements::{Place, each_element},
    roles,
};
use crate::{
    import::{Reason, Record, time},
    secret::Secret,
};

const EMAIL: &str = "user_email";
const HASH: &str = "user_pass";

/// One user. In JSON all values are text as well.
#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    #[serde(rename = "user_email")]
    email: String,
    #[serde(rename = "user_pass")]
    hash: String,
    display_name: String,
    #[serde(rename = "user_registered")]
    registered: String,
    roles: String,
}

pub(super) fn read(
    mut reader: impl BufRead,
    options: SourceOptions,
    sink: Sink<'_>,
) -> Result<(), ReadError> {
    if !reader.fill_buf()?.trim_ascii_start().starts_with(b"[") {
        return read_csv(reader, options, sink);
    }
    each_element(reader, Place::Document, &mut |line, text| {
        let user = serde_json::from_str(text)
            .map_err(|_| Reason::NotAnAccount("not the shape of a user of WordPress"));
        let record = user.and_then(|user| record(user, options));
        sink(Entry { line, record })
    })
}

fn read_csv(reader: impl BufRead, options: SourceOptions, sink: Sink<'_>) -> Result<(), ReadError> {
    let budget = Budget::default();
    budget.begin();
    // Rows of another length than the first are refused one by one.
    let mut reader = ReaderBuilder::new()
        .flexible(true)
        .from_reader(Budgeted::new(reader, budget.clone()));
    let columns = reader.headers().map_err(into_io)?.clone();
    for needed in [EMAIL, HASH] {
        if !columns.iter().any(|name| name == needed) {
            return Err(ReadError::Column(needed));
        }
    }
    let mut row = csv::ByteRecord::new();
    loop {
        budget.begin();
        if !reader.read_byte_record(&mut row).map_err(into_io)? {
            return Ok(());
        }
        let line = row.position().map_or(0, csv::Position::line);
        let record = StringRecord::from_byte_record(row.clone())
            .map_err(|_| Reason::NotUtf8)
            .and_then(|row| {
                let malformed = Reason::NotAnAccount("not a row with a value for each column");
                if row.len() != columns.len() {
                    return Err(malformed);
                }
                row.deserialize(Some(&columns)).map_err(|_| malformed)
            })
            .and_then(|user| record(user, options));
        if sink(Entry { line, record }).is_break() {
            return Ok(());
        }
    }
}

fn into_io(error: csv::Error) -> ReadError {
    ReadError::Io(error.into())
}

fn record(user: User, options: SourceOptions) -> Result<Record, Reason> {
    if user.email.is_empty() {
        return Err(Reason::NotAnAccount("an account without an e-mail address"));
    }
    let names = user.roles.split(',').map(str::trim);
    Ok(Record {
        roles: roles::kept(names, options),
        email: user.email,
        display_name: user.display_name,
        // WordPress does not know.
        email_verified: false,
        disabled: false,
        create_time: time::loose(&user.registered),
        password_hash: Some(Secret::new(user.hash)),
        password_secret: None,
    })
}
