//! `countersign users import FILE`: reads an export in a thread of its own and writes it in batches.

use std::{
    error::Error,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use clap::{Args, ValueEnum};
use tokio::sync::mpsc;

use super::{Outcome, block_on, context, master_keys, users_import_report::Report};
use crate::{
    clock::Clock,
    config::Config,
    cores,
    import::{
        Batch, Importer, Preparer, Refused,
        sources::{Entry, HashConfig, PasswordHashes, Source, SourceOptions},
    },
    passwords::HashSealer,
    server::peppers,
    store::{AuditKind, Store},
    tokens::DerivedKeys,
};

/// How long a database that is away is waited for, once the import has begun.
const PATIENCE: Duration = Duration::from_secs(60);

/// Steps that the reader may be ahead: what is in memory besides the batch that is being written.
const STEPS_AHEAD: usize = 2;

/// Refused records in one step.
const REFUSED_AT_ONCE: usize = 1_000;

/// The largest file of hash parameters.
const MAX_HASH_CONFIG: u64 = 64 * 1024;

#[derive(Args)]
pub(super) struct ImportArguments {
    /// The file; - reads standard input
    file: PathBuf,
    /// What kind of file it is
    #[arg(long, value_enum, default_value_t = Format::Records)]
    from: Format,
    /// Keep the names of the roles, except admin and verifier (Keycloak's realm roles, WordPress)
    #[arg(long)]
    keep_roles: bool,
    /// Firebase: a file with the hash parameters of the project, as the console shows them
    #[arg(long, value_name = "FILE")]
    firebase_hash_config: Option<PathBuf>,
    /// Auth0: the dump of password hashes for the users of FILE
    #[arg(long, value_name = "FILE")]
    password_hashes: Option<PathBuf>,
    /// Report the records that would be refused, and write nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Records of docs/import.md, one JSON object a line
    Records,
    /// A realm export of Keycloak with its users
    Keycloak,
    /// The JSON of firebase auth:export
    Firebase,
    /// The user export of Auth0, or its dump of password hashes
    Auth0,
    /// manage.py dumpdata auth.user, as JSON or JSON lines
    Django,
    /// wp user list as CSV or JSON, or wp_users as CSV
    Wordpress,
}

pub(super) fn run(config: &Config, arguments: &ImportArguments) -> Outcome {
    if let Err(wrong) = fits(arguments) {
        eprintln!("countersign: {wrong}");
        return Outcome::BadUsage;
    }
    // Threads inherit it: a server on the same machine is served first.
    cores::lower_thread_priority();
    block_on(import(config, arguments))
}

/// Whether the options belong to the kind of file.
fn fits(arguments: &ImportArguments) -> Result<(), &'static str> {
    let from = arguments.from;
    match (from, &arguments.firebase_hash_config) {
        (Format::Firebase, None) => {
            return Err("--from firebase needs --firebase-hash-config FILE");
        }
        (Format::Firebase, Some(_)) | (_, None) => {}
        (_, Some(_)) => return Err("--firebase-hash-config is for --from firebase"),
    }
    if arguments.password_hashes.is_some() && from != Format::Auth0 {
        return Err("--password-hashes is for --from auth0");
    }
    if arguments.keep_roles && !matches!(from, Format::Keycloak | Format::Wordpress) {
        return Err("--keep-roles is for --from keycloak and --from wordpress");
    }
    Ok(())
}

async fn import(config: &Config, arguments: &ImportArguments) -> Result<(), Box<dyn Error>> {
    let source = source(arguments)?;
    let file = Input::open(&arguments.file)?;
    let (keys, mut importer) = if arguments.dry_run {
        let keys = DerivedKeys::derive(config.master_keys.load()?.as_slice());
        (keys, None)
    } else {
        let store = Store::open(&config.database)?;
        let keys = master_keys(config, &store).await?;
        let now = Clock::System.now();
        let event = context("users import").audit_event(AuditKind::UsersImported, now);
        let importer = Importer::new(store, Clock::System, event, PATIENCE);
        (keys, Some(importer))
    };
    let preparer = Preparer::new(HashSealer::new(&peppers(&keys))?, Clock::System);
    let mut report = Report::new(file.length);
    let (steps, mut read) = mpsc::channel(STEPS_AHEAD);
    let options = SourceOptions {
        keep_roles: arguments.keep_roles,
    };
    let reader = thread::Builder::new()
        .name("import".to_owned())
        .spawn(move || read_all(&source, file, options, &preparer, &steps))?;
    while let Some(step) = read.recv().await {
        let Step {
            batch,
            mut refused,
            records,
            bytes,
        } = step;
        if let Some(importer) = &mut importer {
            match importer.write(batch).await {
                Ok(taken) => refused.extend(taken),
                Err(error) => {
                    report.finish(importer.counts());
                    return Err(error.into());
                }
            }
        }
        refused.sort_by_key(|refused| refused.line);
        report.step(records, bytes, &refused);
    }
    let ended = reader.join().map_err(|_| "the reader has panicked")?;
    report.finish(
        importer
            .map(|importer| importer.counts())
            .unwrap_or_default(),
    );
    ended?;
    match report.refused() {
        0 => Ok(()),
        refused => Err(format!("{refused} records were refused").into()),
    }
}

fn source(arguments: &ImportArguments) -> Result<Source, Box<dyn Error>> {
    Ok(match arguments.from {
        Format::Records => Source::Records,
        Format::Keycloak => Source::Keycloak,
        Format::Django => Source::Django,
        Format::Wordpress => Source::WordPress,
        Format::Auth0 => Source::Auth0(match &arguments.password_hashes {
            None => None,
            Some(path) => {
                let reader = BufReader::new(File::open(path).map_err(|error| at(path, &error))?);
                let hashes = PasswordHashes::read(reader);
                Some(hashes.map_err(|(line, why)| format!("{}:{line}: {why}", path.display()))?)
            }
        }),
        Format::Firebase => {
            let path = arguments.firebase_hash_config.as_deref();
            let path = path.ok_or("--from firebase needs --firebase-hash-config FILE")?;
            if fs::metadata(path).map_err(|error| at(path, &error))?.len() > MAX_HASH_CONFIG {
                return Err(format!("{}: too long for hash parameters", path.display()).into());
            }
            let text = fs::read_to_string(path).map_err(|error| at(path, &error))?;
            let config = HashConfig::parse(&text);
            Source::Firebase(config.map_err(|wrong| format!("{}: {wrong}", path.display()))?)
        }
    })
}

fn at(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// The file to import, and how much of it has been read.
struct Input {
    reader: Box<dyn Read + Send>,
    /// `None` for a pipe.
    length: Option<u64>,
}

impl Input {
    fn open(path: &Path) -> Result<Self, String> {
        if path == Path::new("-") {
            return Ok(Self {
                reader: Box::new(io::stdin()),
                length: None,
            });
        }
        let file = File::open(path).map_err(|error| at(path, &error))?;
        let metadata = file.metadata().map_err(|error| at(path, &error))?;
        if metadata.is_dir() {
            return Err(format!("{}: is a folder", path.display()));
        }
        Ok(Self {
            length: metadata.is_file().then_some(metadata.len()),
            reader: Box::new(file),
        })
    }
}

/// Counts the bytes that are read.
struct Counted<R> {
    reader: R,
    bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.reader.read(buffer)?;
        self.bytes.fetch_add(bytes as u64, Relaxed);
        Ok(bytes)
    }
}

/// What the reader hands over at once.
#[derive(Default)]
struct Step {
    batch: Batch,
    refused: Vec<Refused>,
    /// Records read since the step before.
    records: u64,
    /// Bytes of the file read so far.
    bytes: u64,
}

/// Reads the whole file, checks every record and encrypts its hash.
fn read_all(
    source: &Source,
    input: Input,
    options: SourceOptions,
    preparer: &Preparer,
    steps: &mpsc::Sender<Step>,
) -> Result<(), String> {
    let bytes = Arc::new(AtomicU64::new(0));
    let counted = Counted {
        reader: input.reader,
        bytes: Arc::clone(&bytes),
    };
    let reader: &mut dyn BufRead = &mut BufReader::with_capacity(1 << 16, counted);
    let mut step = Step::default();
    let mut failure = None;
    let send = |mut step: Step| {
        step.bytes = bytes.load(Relaxed);
        steps.blocking_send(step).is_ok()
    };
    let read = source.read(reader, options, &mut |entry| {
        let Entry { line, record } = entry;
        step.records += 1;
        let prepared = match record.map(|record| preparer.prepare(&record)) {
            Ok(Ok(prepared)) => prepared,
            Err(reason) => Err(reason),
            Ok(Err(error)) => {
                failure = Some(error.to_string());
                return ControlFlow::Break(());
            }
        };
        match prepared {
            Ok(prepared) => step.batch.push(line, prepared),
            Err(reason) => step.refused.push(Refused { line, reason }),
        }
        let is_full = step.batch.is_full() || step.refused.len() >= REFUSED_AT_ONCE;
        if is_full && !send(std::mem::take(&mut step)) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    // What was read before a failure is imported: the next run skips it.
    send(step);
    match failure {
        Some(failure) => Err(failure),
        None => read.map_err(|error| error.to_string()),
    }
}
