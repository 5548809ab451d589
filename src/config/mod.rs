//! The configuration: the only place that reads the environment, once, and reports every problem at once.

mod addresses;
mod assemble;
mod checks;
mod database_url;
mod duration;
mod factor_values;
mod factors;
mod files;
mod fill;
mod key_file;
mod key_source;
mod mail;
mod mail_values;
mod master_keys;
mod names;
mod postgres_parameters;
mod postgres_tls;
mod postgres_url;
mod problems;
mod profile;
mod refusal;
mod regular_file;
mod serving;
mod source;
mod tls;
mod types;
mod values;
mod variables;
mod verifier_names;
mod webauthn;
mod words;

#[cfg(test)]
mod postgres_url_tests;
#[cfg(test)]
mod production_tests;
#[cfg(test)]
mod tests;

pub use assemble::LONGEST_REFRESH_GRACE;
pub use database_url::DatabaseUrl;
pub use duration::duration_text;
pub use factor_values::{ENROLLMENT_AUDIENCE, SecondFactorPolicy};
pub use factors::FactorSettings;
pub use key_file::KeyFileError;
pub use key_source::MasterKeySource;
pub use mail::{MailRoute, MailSettings};
pub use mail_values::{SmtpServer, SmtpTls};
pub use master_keys::{MasterKey, MasterKeys};
pub use postgres_tls::{PostgresTls, TlsMode};
pub use postgres_url::{Keepalive, Place, PostgresHost, PostgresUrl, TargetServer};
pub use problems::{ConfigError, Problem};
pub use profile::Profile;
pub use refusal::Refusal;
pub use regular_file::{
    demand_regular, open_regular, open_with, read_regular, read_regular_text, read_up_to,
};
pub use serving::ServingSettings;
pub use tls::{TlsClients, TlsFiles};
pub use types::{
    Argon2Settings, Config, DatabaseSettings, LimitSettings, PasswordSettings, Rate,
    RevocationSettings, SigningAlgorithm, SigningSettings, TelemetrySettings, TokenSettings,
};
pub use values::{LogFormat, Registration, StalePolicy, Tls};
pub use variables::{DefaultValue, Variable};
pub use webauthn::WebauthnSettings;
