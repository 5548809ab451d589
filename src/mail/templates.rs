//! The texts of mails: built in, or files of the operator.
//!
//! Each kind of mail has three templates in Jinja's language: `KIND.subject.txt`, `KIND.txt` and `KIND.html`; values are
//! escaped in the last. A folder of the operator may hold some of them; the others stay the built-in ones.

use std::{fs, path::Path};

use minijinja::{Environment, UndefinedBehavior, context};

use super::MailError;
use crate::{config::read_regular_text, domain::MailKind};

/// The parts of a mail, in the order of [`Rendered`]'s fields.
const PARTS: [&str; 3] = ["subject.txt", "txt", "html"];

macro_rules! built_in {
    ($($kind:ident $name:literal)*) => {
        /// The built-in templates: name of the file, and text.
        const BUILT_IN: &[(&str, &str)] = &[$(
            (concat!($name, ".subject.txt"), include_str!(concat!("templates/", $name, ".subject.txt"))),
            (concat!($name, ".txt"), include_str!(concat!("templates/", $name, ".txt"))),
            (concat!($name, ".html"), include_str!(concat!("templates/", $name, ".html"))),
        )*];
    };
}

built_in! {
    PasswordReset "password_reset"
    EmailVerification "email_verification"
    PasswordChanged "password_changed"
    FactorAdded "factor_added"
    FactorRemoved "factor_removed"
    NewDevice "new_device"
    Invitation "invitation"
    RegistrationAttempt "registration_attempt"
}

/// The texts of one mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rendered {
    /// One line.
    pub(super) subject: String,
    /// Plain text.
    pub(super) text: String,
    /// HTML.
    pub(super) html: String,
}

/// What templates may use.
#[derive(Clone, Debug)]
pub(super) struct Values<'a> {
    /// The user's address.
    pub(super) email: &'a str,
    /// The user's name; may be empty.
    pub(super) display_name: &'a str,
    /// The issuer of the tokens: who sends the mail.
    pub(super) issuer: &'a str,
    /// The address of the application, or nothing.
    pub(super) app_url: &'a str,
    /// The one-time token, or nothing.
    pub(super) token: &'a str,
    /// How long the token is good, such as `30m`, or nothing.
    pub(super) valid_for: &'a str,
    /// Where the request came from, or nothing.
    pub(super) client_ip: &'a str,
}

impl Values<'_> {
    fn context(&self) -> minijinja::Value {
        context! {
            email => self.email,
            display_name => self.display_name,
            issuer => self.issuer,
            app_url => self.app_url,
            token => self.token,
            valid_for => self.valid_for,
            client_ip => self.client_ip,
        }
    }
}

/// All templates.
pub struct Templates(Environment<'static>);

impl Templates {
    /// Reads the templates: those of the folder, and the built-in ones for what it does not hold.
    ///
    /// # Errors
    /// A file cannot be read, has another name, or is no template; or a template uses a value that there is not.
    pub fn load(folder: Option<&Path>) -> Result<Self, MailError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        for (name, text) in BUILT_IN {
            add(&mut environment, name, (*text).to_owned())?;
        }
        if let Some(folder) = folder {
            add_folder(&mut environment, folder)?;
        }
        let templates = Self(environment);
        for kind in MailKind::ALL {
            templates.render(kind, &EXAMPLE)?;
        }
        Ok(templates)
    }

    pub(super) fn render(
        &self,
        kind: MailKind,
        values: &Values<'_>,
    ) -> Result<Rendered, MailError> {
        let [subject, text, html] = PARTS.map(|part| {
            let name = format!("{}.{part}", kind.as_str());
            let template = self.0.get_template(&name);
            let rendered = template.and_then(|template| template.render(values.context()));
            rendered.map_err(|error| wrong(&name, &error))
        });
        let subject = subject?;
        Ok(Rendered {
            // A header is one line (RFC 5322 section 2.2).
            subject: subject.split_whitespace().collect::<Vec<_>>().join(" "),
            text: text?,
            html: html?,
        })
    }
}

/// What every template is tried with when it is loaded.
const EXAMPLE: Values<'static> = Values {
    email: "ada@example.org",
    display_name: "Ada",
    issuer: "https://auth.example.org",
    app_url: "https://app.example.org",
    token: "cso_example",
    valid_for: "30m",
    client_ip: "192.0.2.1",
};

fn add(environment: &mut Environment<'static>, name: &str, text: String) -> Result<(), MailError> {
    environment
        .add_template_owned(name.to_owned(), text)
        .map_err(|error| wrong(name, &error))
}

fn add_folder(environment: &mut Environment<'static>, folder: &Path) -> Result<(), MailError> {
    let unreadable = |path: &Path, error: std::io::Error| {
        let path = path.display();
        MailError::Settings(format!(
            "COUNTERSIGN_MAIL_TEMPLATES: cannot read {path}: {error}"
        ))
    };
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let name = entry
            .map_err(|error| unreadable(folder, error))?
            .file_name();
        let name = name.to_string_lossy();
        // Editors and Kubernetes leave files like that.
        if name.starts_with('.') {
            continue;
        }
        if !BUILT_IN.iter().any(|(known, _)| *known == name) {
            let known: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            return Err(MailError::Settings(format!(
                "COUNTERSIGN_MAIL_TEMPLATES: {name:?} in {} is not the template of a mail; the templates are {}",
                folder.display(),
                known.join(", ")
            )));
        }
        let path = folder.join(&*name);
        let text = read_regular_text(&path).map_err(|error| unreadable(&path, error))?;
        add(environment, &name, text)?;
    }
    Ok(())
}

fn wrong(name: &str, error: &minijinja::Error) -> MailError {
    let line = error
        .line()
        .map_or_else(String::new, |line| format!(", line {line}"));
    MailError::Settings(format!("the template {name}{line} cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_mail_has_its_texts_with_token_and_link() {
        let templates = Templates::load(None).unwrap();
        for kind in MailKind::ALL {
            let mail = templates.render(kind, &EXAMPLE).unwrap();
            assert!(
                !mail.subject.is_empty() && mail.text.contains("Ada"),
                "{mail:?}"
            );
            let has_token = matches!(
                kind,
                MailKind::PasswordReset
                    | MailKind::EmailVerification
                    | MailKind::Invitation
                    | MailKind::RegistrationAttempt
            );
            // A slash may be escaped in an attribute; readers undo that.
            for text in [&mail.text, &mail.html.replace("&#x2f;", "/")] {
                assert_eq!(text.contains("cso_example"), has_token, "{text}");
                assert_eq!(
                    text.contains("https://app.example.org/"),
                    has_token,
                    "{text}"
                );
            }
            let without_app = Values {
                app_url: "",
                ..EXAMPLE
            };
            let mail = templates.render(kind, &without_app).unwrap();
            assert_eq!(mail.text.contains("cso_example"), has_token);
            assert!(!mail.html.contains("href"), "{}", mail.html);
        }
    }

    #[test]
    fn values_are_escaped_in_html_and_a_subject_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let subject = folder.path().join("password_changed.subject.txt");
        fs::write(subject, "Hello {{ display_name }},\r\nBcc: x").unwrap();
        let templates = Templates::load(Some(folder.path())).unwrap();
        let values = Values {
            display_name: "<b>Ada</b>\r\nBcc: y",
            ..EXAMPLE
        };
        let mail = templates
            .render(MailKind::PasswordChanged, &values)
            .unwrap();
        assert!(!mail.html.contains("<b>Ada"), "{}", mail.html);
        assert_eq!(mail.subject, "Hello <b>Ada</b> Bcc: y, Bcc: x");
    }

    #[test]
    fn a_template_that_cannot_be_used_is_refused_by_name() {
        for (name, text) in [
            ("password_reset.txt", "{% if %}"),
            ("password_reset.txt", "{{ no_such_value }}"),
            ("passwordreset.txt", "Hello"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(name), text).unwrap();
            let error = Templates::load(Some(folder.path())).err().unwrap();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
