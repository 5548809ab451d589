//! `countersign backup FILE`: a consistent copy of the SQLite database while it is in use.

use std::path::{Path, PathBuf};

use super::{Outcome, block_on, say};
use crate::{
    config::{Config, DatabaseUrl},
    store::{BackupError, back_up_sqlite},
};

pub(super) fn run(config: &Config, file: &Path) -> Outcome {
    let database = match &config.database.url {
        DatabaseUrl::Sqlite(path) => path.clone(),
        DatabaseUrl::Postgres(_) => return point_at_pg_dump(config, file),
    };
    block_on(back_up(database, file.to_owned()))
}

async fn back_up(database: PathBuf, file: PathBuf) -> Result<(), BackupError> {
    back_up_sqlite(&database, &file).await?;
    say(format_args!(
        "countersign: {} is a copy of {}. The master keys are not in it: back them up apart from it, because it is useless without them",
        file.display(),
        database.display()
    ));
    Ok(())
}

/// PostgreSQL has a program for that, which has to be of the server's version.
fn point_at_pg_dump(config: &Config, file: &Path) -> Outcome {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    eprintln!("countersign: nothing was backed up: PostgreSQL is backed up by its own program:");
    say(format_args!(
        "pg_dump --format=custom --file={} {}",
        quoted(&file.to_string_lossy()),
        quoted(&config.database.url.describe())
    ));
    Outcome::Failed
}
