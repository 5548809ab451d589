//! The use cases: what the service does, in domain types, without protobuf and SQL.

mod accounts;
mod audit_trail;
mod change_password;
mod claimant;
mod complete_login;
mod current_roles;
mod email_verification;
mod error;
mod exchange;
mod factor_attempts;
mod factor_policy;
mod factors;
mod freshness;
mod import_users;
mod in_flight;
mod issue;
mod issue_service_token;
mod keys;
mod login;
mod login_challenge;
mod logout;
mod passkey_registration;
mod passkeys;
mod reauthenticate;
mod recovery;
mod refresh;
mod refusal_log;
mod refusals;
mod register;
mod revoked;
mod service_accounts;
mod service_keys;
mod service_metrics;
mod sessions;
mod throttle;
mod totp_enrollment;
mod user_places;
mod users;
mod validate;
mod watch;
mod write_locks;

use std::{
    future::Future,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

pub use accounts::NewUser;
pub use audit_trail::{AuditExport, ExportError, ExportedEvent};
pub use change_password::ChangePasswordCommand;
pub use complete_login::CompleteLoginCommand;
pub use error::{AuthError, CredentialRefusal};
pub use exchange::{ExchangeCommand, ExchangedToken};
pub use factor_attempts::SecondFactor;
pub use factors::AddedFactor;
pub use import_users::UserImport;
pub use issue::TokenPair;
pub use issue_service_token::{ClientCredential, IssuedServiceToken};
pub use login::{LoggedIn, LoginCommand, LoginOutcome};
pub use login_challenge::LoginChallenge;
pub use passkey_registration::PasskeyRegistrationCommand;
pub use passkeys::{PasskeyCeremony, PasskeyLoginCommand};
pub use reauthenticate::{ReauthenticateCommand, ReauthenticationProof};
pub use register::RegisterCommand;
pub use revoked::Revoked;
pub use service_accounts::{NewServiceAccount, Page, ServiceAccounts};
pub use service_metrics::ServiceMetrics;
pub use sessions::SessionPage;
pub use totp_enrollment::TotpEnrollment;
pub use users::Users;
pub use validate::{ClientCertificate, ValidateQuery, Validated};
pub use watch::Watcher;

use in_flight::InFlight;
use refusal_log::RefusalLog;

use crate::{
    clock::{Clock, Timestamp},
    config::{FactorSettings, Registration},
    domain::{MailKind, NewMail, PositionedRevocation, Recipient, Revocation, SessionId, UserId},
    factors::passkeys::RelyingParty,
    mail::MailLoad,
    passwords::Passwords,
    revocation::{Feed, RevocationIndex},
    store::{AuditDetails, AuditEvent, AuditKind, Store},
    tokens::{AccessProfile, DerivedKeys, Keyring, VerifiedTokens},
    workloads::{Directory, issuers::TrustedIssuers},
};

use user_places::UserPlaces;
use write_locks::{WriteLocks, Writer};

/// Live revocations are remembered this much longer than the last token they concern, and keys that
/// signed it are accepted so much longer, for replicas whose clocks run behind.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The rules that an operator can set.
#[derive(Clone, Debug)]
pub struct AuthSettings {
    /// How long a refresh token is good when it is not used.
    pub refresh_token_ttl: Duration,
    /// How long a session lasts, however busy it is.
    pub session_max_lifetime: Duration,
    /// How long after a rotation the token before it may ask for the same successor.
    pub refresh_grace: Duration,
    /// How many live sessions a user may have.
    pub max_sessions_per_user: NonZeroU32,
    /// How many streams of `WatchRevocations` there may be.
    pub max_watchers: NonZeroU32,
    /// How many failed logins an account has before it is slowed down.
    pub account_failure_limit: NonZeroU32,
    /// How old the knowledge of revocations may grow.
    pub max_staleness: Duration,
    /// Whether validation is refused once it is older.
    pub reject_when_stale: bool,
    /// How long the access token of a service is good.
    pub service_token_ttl: Duration,
    /// How long a call may take that waits for knowledge.
    pub request_timeout: Duration,
    /// Who may register, and whether an address must be verified before the first login.
    pub registration: Registration,
    /// What holds for second factors.
    pub factors: FactorSettings,
}

/// Who asks, and until when an answer is of use.
#[derive(Clone, Debug, Default)]
pub struct RequestContext {
    /// Names the request in logs and audit events.
    pub request_id: String,
    /// The client's address, as text.
    pub client_ip: String,
    /// What the client calls itself.
    pub user_agent: String,
    /// The user or service account that asks, where the call needs a bearer.
    pub actor: Option<UserId>,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
}

/// Everything the use cases need. Cheap to clone.
#[derive(Clone)]
pub struct Auth {
    parts: Arc<AuthParts>,
    in_flight: Arc<InFlight>,
    locks: WriteLocks,
    watcher_places: UserPlaces,
    waiting_places: UserPlaces,
    refusals: Arc<RefusalLog>,
    import_places: UserPlaces,
}

/// What [`Auth`] is made of.
pub struct AuthParts {
    /// The database.
    pub store: Store,
    /// Hashing, on its own threads.
    pub passwords: Passwords,
    /// The keys of refresh tokens.
    pub derived_keys: Arc<DerivedKeys>,
    /// The keys of access tokens.
    pub keyring: Arc<Keyring>,
    /// What all access tokens have in common.
    pub profile: AccessProfile,
    /// Access tokens verified lately.
    pub verified: VerifiedTokens,
    /// The issuers whose tokens are accepted as assertions of services.
    pub issuers: TrustedIssuers,
    /// The service accounts and their keys.
    pub directory: Arc<Directory>,
    /// What is revoked.
    pub revocations: Arc<RevocationIndex>,
    /// What watchers are told.
    pub feed: Feed,
    /// For which name passkeys are made, and which pages may use them.
    pub relying_party: RelyingParty,
    /// The outbox, for metrics.
    pub mails: MailLoad,
    /// The time.
    pub clock: Clock,
    /// The operator's rules.
    pub settings: AuthSettings,
}

impl Auth {
    /// Puts the parts together.
    pub fn new(parts: AuthParts) -> Self {
        Self {
            locks: WriteLocks::default(),
            watcher_places: UserPlaces::new(watch::places(parts.settings.max_watchers)),
            waiting_places: UserPlaces::new(freshness::PLACES),
            import_places: UserPlaces::new(import_users::PLACES),
            parts: Arc::new(parts),
            in_flight: Arc::default(),
            refusals: Arc::default(),
        }
    }

    /// Revokes a session in the database and on this replica.
    ///
    /// It runs in a task of its own: a caller that goes away between the commit and the note in the
    /// index must not leave this replica believing in the session.
    async fn revoke_session(
        &self,
        session_id: SessionId,
        kind: AuditKind,
        writer: Writer,
        context: &RequestContext,
        now: Timestamp,
    ) -> Result<Revoked<()>, AuthError> {
        let locks = &self.locks.sessions;
        let lock = locks.lock(session_id, writer, context.deadline).await?;
        let parts = Arc::clone(&self.parts);
        let event = context.audit_event(kind, now);
        let work = async move {
            let _lock = lock;
            let remember = parts.remember();
            let written = parts
                .store
                .revoke_session(session_id, now, remember, &event)
                .await?;
            // Also when another call was first: its replica may not be this one.
            let revocation = written.unwrap_or(PositionedRevocation {
                position: 0,
                revocation: Revocation::of_session(session_id, now, now + remember),
            });
            parts.revocations.learn(&[revocation]);
            Ok(Revoked::new((), &[revocation]))
        };
        in_its_own_task(work).await
    }
}

impl AuthParts {
    /// How long a revocation has to be known.
    fn remember(&self) -> Duration {
        self.profile.longest_life() + CLOCK_SKEW
    }
}

impl RequestContext {
    /// An audit event of this request, about nobody yet.
    pub fn audit_event(&self, kind: AuditKind, now: Timestamp) -> AuditEvent {
        AuditEvent {
            kind,
            actor_id: self.actor,
            user_id: None,
            session_id: None,
            client_ip: self.client_ip.clone(),
            request_id: self.request_id.clone(),
            at: now,
            details: AuditDetails::None,
        }
    }
}

impl RequestContext {
    /// A mail that this request causes.
    fn mail(&self, kind: MailKind, recipient: Recipient, now: Timestamp) -> NewMail {
        NewMail {
            kind,
            recipient,
            slot: None,
            request_id: self.request_id.clone(),
            client_ip: self.client_ip.clone(),
            created_at: now,
        }
    }
}

/// A caller that goes away between the commit and the note in the index must not leave this replica
/// believing in what is revoked.
async fn in_its_own_task<T: Send + 'static>(
    work: impl Future<Output = Result<T, AuthError>> + Send + 'static,
) -> Result<T, AuthError> {
    tokio::spawn(work)
        .await
        .unwrap_or_else(|panic| Err(AuthError::Internal(panic.to_string())))
}
