//! How mails are sent: an SMTP server, or files for development.

use std::{path::PathBuf, time::Duration};

use super::{
    mail_values::{SMTP_HINT, SmtpServer, SmtpUrl},
    problems::Problems,
    profile::Profile,
    variables::Values,
};

/// How mails are sent, and what is in them.
#[derive(Clone, Debug)]
pub struct MailSettings {
    /// Where they go.
    pub route: MailRoute,
    /// Certificates of the authorities that the SMTP server's certificate is checked against, in PEM; `None`: those of
    /// the system.
    pub smtp_ca: Option<PathBuf>,
    /// The sender, as `name@example.org` or `Name <name@example.org>`.
    pub from: String,
    /// A folder of the operator's templates; `None`: the built-in ones.
    pub templates: Option<PathBuf>,
    /// The address of the application whose pages take the tokens, without a slash at the end.
    pub app_url: Option<String>,
    /// How long a token to reset a password is good.
    pub reset_ttl: Duration,
    /// How long a token to verify an address is good.
    pub verification_ttl: Duration,
    /// How long a token that sets the first password is good.
    pub invitation_ttl: Duration,
}

/// Where mails go.
#[derive(Clone, Debug)]
pub enum MailRoute {
    /// To an SMTP server.
    Smtp(SmtpServer),
    /// Into a folder, one file each.
    Folder(PathBuf),
    /// Nowhere.
    Off,
}

/// The sender where mails become files.
const LOCAL_SENDER: &str = "Countersign <countersign@localhost>";

pub(super) fn settings(values: &Values, problems: &mut Problems) -> MailSettings {
    const URL: &str = "COUNTERSIGN_SMTP_URL";
    const FROM: &str = "COUNTERSIGN_MAIL_FROM";
    problems.demand(
        &[URL],
        values.profile != Profile::Production || values.smtp_url.is_some(),
        "it is not set, and production does not write mails to files",
        SMTP_HINT,
    );
    problems.demand(
        &[FROM, URL],
        !matches!(&values.smtp_url, Some(SmtpUrl(Some(_)))) || values.mail_from.is_some(),
        "it is not set, and mails go to an SMTP server",
        "use the address that mails come from, such as Accounts <accounts@example.org>",
    );
    problems.demand(
        &["COUNTERSIGN_APP_URL"],
        values.profile != Profile::Production
            || !values
                .app_url
                .as_ref()
                .is_some_and(|url| url.0.starts_with("http:")),
        "production does not send tokens over plain HTTP",
        "use an https URL",
    );
    MailSettings {
        route: match values.smtp_url.clone() {
            Some(SmtpUrl(Some(server))) => MailRoute::Smtp(server),
            Some(SmtpUrl(None)) => MailRoute::Off,
            None => MailRoute::Folder(values.mail_folder.0.clone()),
        },
        smtp_ca: values.smtp_ca_file.clone().map(|path| path.0),
        from: values
            .mail_from
            .clone()
            .map_or_else(|| LOCAL_SENDER.to_owned(), |from| from.0),
        templates: values.mail_templates.clone().map(|path| path.0),
        app_url: values.app_url.clone().map(|url| url.0),
        reset_ttl: values.password_reset_ttl.0,
        verification_ttl: values.email_verification_ttl.0,
        invitation_ttl: values.invitation_ttl.0,
    }
}
