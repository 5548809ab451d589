//! The background task that takes mails from the outbox and sends them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    MailError, Templates,
    compose::Composer,
    retry::{Breaker, next_attempt},
    smtp::SEND_TIMEOUT,
    transport::Transport,
};
use crate::{
    clock::{Clock, Timestamp},
    config::MailSettings,
    domain::{MailKind, UserId},
    store::{AuditDetails, AuditEvent, AuditKind, ClaimedMail, Store, StoreError},
    tokens::DerivedKeys,
};

/// How often the outbox is looked at for mails of other replicas and for repeated attempts.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// How long an attempt may go on when the server stops.
const LAST_ATTEMPT: Duration = Duration::from_secs(3);
/// How long a claimed mail is this process's own: all of a claim, one after the other, with room.
const LEASE: Duration = Duration::from_secs(SEND_TIMEOUT.as_secs() * 10);

/// What the task needs.
pub struct MailWorkerParts {
    /// The database.
    pub store: Store,
    /// What tokens are derived from.
    pub keys: Arc<DerivedKeys>,
    /// The time.
    pub clock: Clock,
    /// The operator's settings.
    pub settings: MailSettings,
    /// The issuer of the tokens, named in the mails.
    pub issuer: String,
}

/// How much mail there is, as this process saw it last.
#[derive(Clone, Debug, Default)]
pub struct MailLoad(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    waiting: AtomicU64,
    failed: AtomicU64,
    sent: AtomicU64,
    errors: AtomicU64,
}

impl MailLoad {
    /// Mails in the outbox that are still to be sent.
    pub fn waiting(&self) -> u64 {
        self.0.waiting.load(Relaxed)
    }

    /// Mails in the outbox that were given up.
    pub fn failed(&self) -> u64 {
        self.0.failed.load(Relaxed)
    }

    /// Mails that this process has sent.
    pub fn sent(&self) -> u64 {
        self.0.sent.load(Relaxed)
    }

    /// Attempts of this process that failed.
    pub fn errors(&self) -> u64 {
        self.0.errors.load(Relaxed)
    }
}

/// Sends the mails of the outbox.
pub struct MailWorker {
    store: Store,
    keys: Arc<DerivedKeys>,
    clock: Clock,
    composer: Composer,
    transport: Transport,
    breaker: Breaker,
    load: MailLoad,
}

impl MailWorker {
    /// Reads the templates and prepares the transport.
    ///
    /// # Errors
    /// [`MailError::Settings`]: a template or a certificate cannot be used.
    pub fn new(parts: MailWorkerParts) -> Result<Self, MailError> {
        let templates = Templates::load(parts.settings.templates.as_deref())?;
        Ok(Self {
            transport: Transport::new(&parts.settings)?,
            composer: Composer {
                settings: parts.settings,
                issuer: parts.issuer,
                templates,
            },
            store: parts.store,
            keys: parts.keys,
            clock: parts.clock,
            breaker: Breaker::default(),
            load: MailLoad::default(),
        })
    }

    /// For metrics.
    pub fn load(&self) -> MailLoad {
        self.load.clone()
    }

    /// Sends mails until `stop`. A mail that is being sent then is finished, within three seconds.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pause = Duration::ZERO;
        loop {
            let queued = self.store.mail_queued();
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause.max(POLL_INTERVAL)) => {}
                // While the server is away, a new mail is no reason to try it sooner.
                () = queued, if pause.is_zero() => {}
            }
            pause = self.send_due(&stop).await;
            self.count().await;
        }
    }

    /// Sends what is due. Returns how long the server is left alone.
    async fn send_due(&mut self, stop: &CancellationToken) -> Duration {
        loop {
            let claimed = self.store.claim_mails(self.clock.now(), LEASE).await;
            let claimed = match claimed {
                Ok(claimed) if claimed.is_empty() => return Duration::ZERO,
                Ok(claimed) => claimed,
                // An outage of the database is logged by the health publisher.
                Err(error) => {
                    tracing::debug!(%error, "the outbox could not be read");
                    return Duration::ZERO;
                }
            };
            let mut pause = Duration::ZERO;
            for mail in claimed {
                if stop.is_cancelled() || !pause.is_zero() {
                    self.release(&mail).await;
                } else {
                    pause = self.send(&mail, stop).await;
                }
            }
            if stop.is_cancelled() || !pause.is_zero() {
                return pause;
            }
        }
    }

    /// Sends one mail and records how that went. Returns how long the server is left alone.
    async fn send(&mut self, mail: &ClaimedMail, stop: &CancellationToken) -> Duration {
        let now = self.clock.now();
        let cut_off = async {
            stop.cancelled().await;
            sleep(LAST_ATTEMPT).await;
        };
        let result = tokio::select! {
            result = self.attempt(mail, now) => result,
            () = cut_off => {
                self.release(mail).await;
                return Duration::ZERO;
            }
        };
        let (recorded, pause) = match result {
            Ok(recipient) => {
                self.breaker.close();
                if recipient.is_some() {
                    self.load.0.sent.fetch_add(1, Relaxed);
                }
                let event = recipient.and_then(|user| sent_event(mail, user, now));
                let finished = self.store.finish_mail(mail, now, event.as_ref());
                (finished.await, Duration::ZERO)
            }
            Err(error) => self.failed(mail, &error, now).await,
        };
        if let Err(error) = recorded {
            // The lease ends, and the mail is sent again: twice rather than never.
            tracing::warn!(mail = mail.id, %error, "whether a mail was sent could not be recorded");
        }
        pause
    }

    /// Returns whom it went to; `None`: it is for nobody.
    async fn attempt(
        &self,
        mail: &ClaimedMail,
        now: Timestamp,
    ) -> Result<Option<UserId>, AttemptError> {
        if matches!(self.transport, Transport::Off) {
            return Ok(None);
        }
        let Some(subject) = Composer::find_recipient(&self.store, mail).await? else {
            return Ok(None);
        };
        let message = self.composer.compose(mail, &subject, &self.keys, now)?;
        self.transport.send(&mail.id, &message).await?;
        tracing::info!(
            mail = mail.id,
            kind = mail.kind.as_str(),
            user_id = %subject.user.id,
            request_id = mail.request_id,
            "mail sent"
        );
        Ok(Some(subject.user.id))
    }

    async fn failed(
        &mut self,
        mail: &ClaimedMail,
        error: &AttemptError,
        now: Timestamp,
    ) -> (Result<(), StoreError>, Duration) {
        let error = match error {
            AttemptError::Mail(error) => error,
            AttemptError::Store(error) => {
                tracing::debug!(%error, "the recipient of a mail could not be looked up");
                return (self.store.unclaim_mail(mail, now, "").await, Duration::ZERO);
            }
        };
        self.load.0.errors.fetch_add(1, Relaxed);
        let pause = match error {
            MailError::Unreachable(_) | MailError::Unwilling(_) | MailError::InDoubt(_) => {
                self.breaker.fail(random())
            }
            MailError::Deferred(_) | MailError::Rejected(_) | MailError::Settings(_) => {
                Duration::ZERO
            }
        };
        let text = error.to_string();
        let next = next_attempt(mail.created_at, mail.attempts, now, random());
        let recorded = match (error, next) {
            (MailError::Rejected(_), _) | (_, None) => {
                tracing::error!(mail = mail.id, kind = mail.kind.as_str(), %error, "a mail could not be delivered and is not retried");
                self.store.give_up_mail(mail, now, &text).await
            }
            (MailError::Unreachable(_) | MailError::Unwilling(_), Some(_)) => {
                tracing::warn!(mail = mail.id, %error, pause = ?pause, "mails wait");
                // Not the mail's fault: it is among the first when the server is back, and its own pauses stay short.
                self.store.unclaim_mail(mail, now + pause, &text).await
            }
            // In doubt as well, with pauses that grow with each attempt: each may make another copy.
            (_, Some(due)) => {
                tracing::warn!(mail = mail.id, kind = mail.kind.as_str(), %error, "a mail could not be sent; it is retried later");
                self.store.postpone_mail(mail, due, &text).await
            }
        };
        (recorded, pause)
    }

    /// Lets any replica take a claimed mail at once.
    async fn release(&self, mail: &ClaimedMail) {
        if let Err(error) = self.store.unclaim_mail(mail, self.clock.now(), "").await {
            tracing::debug!(%error, "a mail could not be released; its lease expires soon");
        }
    }

    async fn count(&self) {
        if let Ok(counts) = self.store.count_mails().await {
            self.load.0.waiting.store(counts.waiting, Relaxed);
            self.load.0.failed.store(counts.failed, Relaxed);
        }
    }
}

enum AttemptError {
    Store(StoreError),
    Mail(MailError),
}

impl From<StoreError> for AttemptError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<MailError> for AttemptError {
    fn from(error: MailError) -> Self {
        Self::Mail(error)
    }
}

/// What is recorded once the mail is on its way.
fn sent_event(mail: &ClaimedMail, user: UserId, now: Timestamp) -> Option<AuditEvent> {
    let resets = matches!(
        mail.kind,
        MailKind::PasswordReset | MailKind::RegistrationAttempt
    );
    resets.then(|| AuditEvent {
        kind: AuditKind::PasswordResetMailed,
        actor_id: None,
        user_id: Some(user),
        session_id: None,
        client_ip: mail.client_ip.clone(),
        request_id: mail.request_id.clone(),
        at: now,
        details: AuditDetails::None,
    })
}

/// From 0 to 1. Without randomness pauses are the shortest allowed.
fn random() -> f64 {
    let mut bytes = [0; 4];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}
