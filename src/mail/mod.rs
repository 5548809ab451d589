//! Mails: taken from the outbox in the database, composed from templates, and sent by SMTP or written to files.
//!
//! A mail is queued in the transaction of the change that it reports. Any replica sends it: it claims the row, looks the
//! user up, derives the token and sends the mail (`worker.rs`). Callers never wait for the SMTP server:
//! attempts are repeated with growing pauses for a day (`retry.rs`). Undeliverable mails are kept for an administrator
//! (`countersign mails`).

mod compose;
mod error;
mod retry;
mod smtp;
mod templates;
mod transport;
mod worker;

use crate::config::MailSettings;

pub use error::MailError;
pub use templates::Templates;
pub use worker::{MailLoad, MailWorker, MailWorkerParts};

/// Whether templates and certificates can be used, without sending anything.
///
/// # Errors
/// [`MailError::Settings`].
pub fn check(settings: &MailSettings) -> Result<(), MailError> {
    Templates::load(settings.templates.as_deref())?;
    transport::Transport::new(settings).map(drop)
}
