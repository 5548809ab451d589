//! `countersign keys`: list the signing keys, rotate them, encrypt them under a new master key.

use clap::Subcommand;

use super::{Outcome, block_on, context, master_keys, say};
use crate::{
    clock::{Clock, Timestamp},
    config::{Config, duration_text},
    factors::reseal_totp_secrets,
    passwords::PasswordHash,
    server::{StartError, signing_policy},
    store::{AuditKind, Store},
    tokens::{Keyring, SigningKeyInfo, describe, reseal},
};

#[derive(Subcommand)]
pub(super) enum KeysCommand {
    /// List the signing keys, the oldest first
    List,
    /// Publish a new signing key; it signs once every verifier has had time to fetch it
    Rotate {
        /// Revoke every key at once, with all access tokens, and sign with a new one from now on
        #[arg(long)]
        emergency: bool,
    },
    /// Encrypt the signing keys and TOTP secrets with the first master key, and report what still depends on another
    Rewrap,
}

pub(super) fn run(config: &Config, command: &KeysCommand) -> Outcome {
    block_on(async {
        let store = Store::open(&config.database)?;
        let now = Clock::System.now();
        match command {
            KeysCommand::List => list(config, &store, now).await,
            KeysCommand::Rotate { emergency } => rotate(config, &store, now, *emergency).await,
            KeysCommand::Rewrap => rewrap(config, &store).await,
        }
    })
}

async fn list(config: &Config, store: &Store, now: Timestamp) -> Result<(), StartError> {
    let rows = store.signing_keys().await?;
    let widths = [43, 9, 9, 20, 10];
    row(
        widths,
        ["KID", "ALGORITHM", "STATE", "SIGNS FROM", "MASTER KEY"],
    );
    for key in describe(&rows, &signing_policy(config), now) {
        let state = match key.revoked_at {
            Some(_) => "revoked",
            None => key.state.name(),
        };
        let (signs_from, master_key) = (key.activates_at.to_string(), version(key.sealed_by));
        row(
            widths,
            [&key.kid, &key.algorithm, state, &signs_from, &master_key],
        );
    }
    Ok(())
}

async fn rotate(
    config: &Config,
    store: &Store,
    now: Timestamp,
    emergency: bool,
) -> Result<(), StartError> {
    let keys = master_keys(config, store).await?;
    let (keyring, _) = Keyring::open(store, &keys, signing_policy(config), now).await?;
    let event = context("keys rotate").audit_event(AuditKind::SigningKeyRotated, now);
    let rotated = match emergency {
        true => keyring.rotate_in_emergency(store, &keys, event, now).await,
        false => keyring.rotate(store, &keys, event, now).await,
    };
    let SigningKeyInfo {
        kid,
        algorithm,
        activates_at,
        ..
    } = rotated?;
    match emergency {
        true => say(format_args!(
            "countersign: every earlier signing key is revoked; {kid} ({algorithm}) signs from now on"
        )),
        false => say(format_args!(
            "countersign: signing key {kid} ({algorithm}) is published and signs from {activates_at}"
        )),
    }
    Ok(())
}

async fn rewrap(config: &Config, store: &Store) -> Result<(), StartError> {
    let keys = master_keys(config, store).await?;
    let rows = store.signing_keys().await?;
    let resealed = reseal(store, &keys, &rows).await?;
    let first = version(keys.active().version);
    say(format_args!(
        "countersign: {resealed} signing keys encrypted again with master key {first}"
    ));
    let secrets = reseal_totp_secrets(store, &keys).await?;
    say(format_args!(
        "countersign: {secrets} secrets of authenticator apps encrypted again with master key {first}"
    ));
    let rows = store.signing_keys().await?;
    let hashes = |version| {
        let mark = PasswordHash::mark_of_pepper(version);
        async move { store.count_password_hashes(&mark).await }
    };
    let mut of_other_keys = hashes(None).await?;
    let (mut secrets_of_other_keys, mut codes_of_other_keys) = (
        store.count_totp_secrets(None).await?,
        store.count_recovery_codes(None).await?,
    );
    let widths = [10, 12, 9, 12, 14];
    row(
        widths,
        [
            "MASTER KEY",
            "SIGNING KEYS",
            "PASSWORDS",
            "TOTP SECRETS",
            "RECOVERY CODES",
        ],
    );
    for set in keys.all() {
        let sealed = rows
            .iter()
            .filter(|row| row.revoked_at.is_none() && row.sealed_by == set.version);
        let passwords = hashes(Some(set.version)).await?;
        let secrets = store.count_totp_secrets(Some(set.version)).await?;
        let codes = store.count_recovery_codes(Some(set.version)).await?;
        of_other_keys -= passwords;
        secrets_of_other_keys -= secrets;
        codes_of_other_keys -= codes;
        let sealed = i64::try_from(sealed.count()).unwrap_or(i64::MAX);
        row_of(&version(set.version), [sealed, passwords, secrets, codes]);
    }
    if of_other_keys + secrets_of_other_keys + codes_of_other_keys > 0 {
        let counts = [0, of_other_keys, secrets_of_other_keys, codes_of_other_keys];
        row_of("not given", counts);
    }
    let refresh_ttl = duration_text(config.tokens.refresh_ttl);
    say(format_args!(
        "A password moves to {first} when its user logs in, recovery codes when they are replaced. A refresh token moves when it is used; an unused \
         one expires {refresh_ttl} after the last server stopped that did not have {first} in the first \
         place. Remove an older master key when nothing depends on it any more."
    ));
    Ok(())
}

fn version(version: u8) -> String {
    format!("v{version}")
}

fn row_of(master_key: &str, counts: [i64; 4]) {
    let [keys, passwords, secrets, codes] = counts.map(|count| count.to_string());
    row(
        [10, 12, 9, 12, 14],
        [master_key, &keys, &passwords, &secrets, &codes],
    );
}

fn row<const N: usize>(widths: [usize; N], cells: [&str; N]) {
    let cells = cells.iter().zip(widths);
    let padded: Vec<String> = cells
        .map(|(cell, width)| format!("{cell:<width$}"))
        .collect();
    say(format_args!("{}", padded.join("  ").trim_end()));
}
