//! A service to measure: its folder, its database, its settings, and tokens that it accepts.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use countersign::{
    auth::{NewServiceAccount, RequestContext, ServiceAccounts},
    clock::Clock,
    config::Config,
    domain::{DisplayName, Roles, ServiceAccountName, SessionId, UserId},
    grpc::pb,
    server::{access_profile, signing_policy},
    store::Store,
    tokens::{AccessProfile, DerivedKeys, Keyring, Subject},
};
use prost::Message as _;
use tempfile::TempDir;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
};

use super::{
    driver::{Client, Source, frame},
    error::Result,
    process::Process,
};

/// `ValidateToken`, which most of this is about.
pub const VALIDATE: &str = "/countersign.auth.v1.AuthService/ValidateToken";
/// `Login`.
pub const LOGIN: &str = "/countersign.auth.v1.AuthService/Login";
/// `Refresh`.
pub const REFRESH: &str = "/countersign.auth.v1.AuthService/Refresh";
/// `Logout`.
pub const LOGOUT: &str = "/countersign.auth.v1.AuthService/Logout";
/// `WatchRevocations`.
pub const WATCH: &str = "/countersign.auth.v1.VerifierService/WatchRevocations";
/// `IssueToken`.
pub const ISSUE: &str = "/countersign.auth.v1.TokenService/IssueToken";
/// `ExchangeToken`.
pub const EXCHANGE: &str = "/countersign.auth.v1.TokenService/ExchangeToken";
/// Envoy's `Check`.
pub const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// `Register`.
pub const REGISTER: &str = "/countersign.auth.v1.AuthService/Register";
const PASSWORD: &str = "a mill that weaves algebra";

/// Hashes that cost next to nothing, for measurements that are not about hashing.
pub const CHEAP_HASHES: &[(&str, &str)] = &[
    ("COUNTERSIGN_ARGON2_MEMORY_KIB", "64"),
    ("COUNTERSIGN_ARGON2_ITERATIONS", "1"),
];

/// Where a service keeps its data, and how it is configured.
pub struct Fixture {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

/// Makes access tokens that the service of a fixture accepts, without asking it.
pub struct Mint {
    keyring: Keyring,
    profile: AccessProfile,
    roles: Roles,
}

impl Fixture {
    /// On a SQLite file.
    pub fn sqlite(variables: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let url = format!("sqlite://{}/countersign.db", folder.path().display());
        Ok(Self::at(folder, &url, variables))
    }

    /// On the database with that URL.
    pub fn on(url: &str, variables: &[(&str, &str)]) -> Result<Self> {
        Ok(Self::at(tempfile::tempdir()?, url, variables))
    }

    fn at(folder: TempDir, url: &str, variables: &[(&str, &str)]) -> Self {
        let common = [
            ("COUNTERSIGN_GRPC_ADDR", "127.0.0.1:0"),
            ("COUNTERSIGN_HTTP_ADDR", "127.0.0.1:0"),
            ("COUNTERSIGN_DATABASE_URL", url),
            (
                "COUNTERSIGN_MASTER_KEYS",
                "v1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            ),
            ("COUNTERSIGN_CREDENTIAL_RATE_PER_SECOND", "0"),
        ];
        let all = common.iter().chain(variables);
        let variables = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self {
            folder,
            variables: variables.collect(),
        }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its settings, as variables of the environment.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.variables.iter();
        pairs.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Starts the service.
    pub async fn start(&self) -> Result<Process> {
        self.start_program(Path::new(env!("CARGO_BIN_EXE_countersign")))
            .await
    }

    /// Starts another build of the service.
    pub async fn start_program(&self, program: &Path) -> Result<Process> {
        Process::countersign(program, self.folder(), &self.variables).await
    }

    /// Makes that many service accounts, which may act for users, and returns a key of each. The service must have been
    /// started once, and does not run.
    pub async fn service_keys(&self, count: usize) -> Result<Vec<String>> {
        let config = Config::from_vars(self.variables.iter().cloned())?;
        let derived = DerivedKeys::derive(config.master_keys.load()?.as_slice());
        let audiences = config.tokens.audiences.clone();
        let (life, leeway) = (config.tokens.access_ttl, config.tokens.leeway);
        let store = Store::open(&config.database)?;
        let accounts =
            ServiceAccounts::standalone(store, Clock::System, audiences.clone(), life, leeway);
        let context = RequestContext::default();
        let expires_at = Clock::System.now() + Duration::from_secs(86_400);
        let mut keys = Vec::new();
        for number in 0..count {
            let name = ServiceAccountName::parse("name", &format!("service-{number}"));
            let new = NewServiceAccount {
                name: name.map_err(|violation| violation.description)?,
                display_name: DisplayName::from_stored(String::new()),
                roles: Roles::from_stored("reader"),
                audiences: audiences.clone(),
                act_for_users_at: audiences.clone(),
            };
            let account = accounts.create(new, &context).await?;
            let key = accounts
                .create_key(account.id, expires_at, &derived, &context)
                .await?;
            keys.push(key.0.expose().clone());
        }
        Ok(keys)
    }

    /// A mint with the service's own keys. The service must have been started once.
    pub async fn mint(&self) -> Result<Mint> {
        let config = Config::from_vars(self.variables.iter().cloned())?;
        let store = Store::open(&config.database)?;
        let now = Clock::System.now();
        let derived = DerivedKeys::derive(config.master_keys.load()?.as_slice());
        Ok(Mint {
            keyring: Keyring::load(&store, &derived, signing_policy(&config), now).await?,
            profile: access_profile(&config),
            roles: Roles::from_stored("member"),
        })
    }
}

impl Mint {
    /// The access token of a session that nobody ever opened.
    pub fn token(&self) -> Result<String> {
        self.token_with(&self.roles)
    }

    /// The same of one who may watch revocations.
    pub fn verifier_token(&self) -> Result<String> {
        self.token_with(&Roles::from_stored("verifier"))
    }

    fn token_with(&self, roles: &Roles) -> Result<String> {
        let now = Clock::System.now();
        let subject = Subject {
            user_id: UserId::generate(now),
            session_id: SessionId::generate(now),
            roles,
            audiences: &self.profile.audiences,
            authenticated_at: now,
            methods: &["pwd".to_owned()],
            acr: "urn:countersign:acr:1",
            issued_after: now,
        };
        let issued = self.profile.issue(&self.keyring, &subject, now);
        Ok(issued.ok_or("signing failed")?.token.expose().clone())
    }

    /// Requests to validate that many tokens.
    pub fn requests(&self, count: usize) -> Result<Vec<Bytes>> {
        (0..count)
            .map(|_| Ok(frame(&validate(self.token()?))))
            .collect()
    }

    /// The ES256 public key as an uncompressed point (SEC 1, section 2.3.3), in base64url.
    pub fn public_key(&self) -> Result<String> {
        let signer = self.keyring.signer(Clock::System.now()).ok_or("no key")?;
        let jwk = serde_json::to_value(signer.jwk())?;
        let mut point = vec![4];
        for coordinate in ["x", "y"] {
            let text = jwk[coordinate].as_str().ok_or("not an ES256 key")?;
            point.extend(URL_SAFE_NO_PAD.decode(text)?);
        }
        Ok(URL_SAFE_NO_PAD.encode(point))
    }
}

/// The request to validate a token.
pub fn validate(access_token: String) -> pb::ValidateTokenRequest {
    pb::ValidateTokenRequest {
        access_token,
        ..pb::ValidateTokenRequest::default()
    }
}

/// Registers a user.
pub async fn register(client: &Client, email: &str) -> Result<()> {
    let _: pb::RegisterResponse = client.call(REGISTER, &registration(email)).await?;
    Ok(())
}

/// The request to register a user.
pub fn registration(email: &str) -> pb::RegisterRequest {
    pb::RegisterRequest {
        email: email.to_owned(),
        password: PASSWORD.to_owned(),
        display_name: "Ada".to_owned(),
    }
}

/// The request to log a user in.
pub fn login(email: &str) -> pb::LoginRequest {
    pb::LoginRequest {
        email: email.to_owned(),
        password: PASSWORD.to_owned(),
        device_label: "Ada's phone".to_owned(),
        ..pb::LoginRequest::default()
    }
}

/// Opens that many sessions of one user and returns their refresh tokens.
async fn sessions(client: &Client, count: usize) -> Result<Vec<String>> {
    let email = format!("busy-{}@example.org", UserId::generate(Clock::System.now()));
    register(client, &email).await?;
    let mut refresh_tokens = Vec::new();
    for _ in 0..count {
        let answer: pb::LoginResponse = client.call(LOGIN, &login(&email)).await?;
        let tokens = answer.tokens.ok_or("a login without tokens")?;
        refresh_tokens.push(tokens.refresh_token);
    }
    Ok(refresh_tokens)
}

/// Opens that many sessions and returns the requests that end them.
pub async fn logouts(client: &Client, count: usize) -> Result<Vec<Bytes>> {
    let requests = sessions(client, count).await?.into_iter();
    let requests = requests.map(|refresh_token| frame(&pb::LogoutRequest { refresh_token }));
    Ok(requests.collect())
}

/// Opens that many sessions and returns the requests that refresh them: on each stream, one session's
/// newest token, over as many loads as may be.
pub async fn refreshes(client: &Client, count: usize) -> Result<Source> {
    let newest: Vec<_> = sessions(client, count)
        .await?
        .into_iter()
        .map(Mutex::new)
        .collect();
    Ok(Arc::new(move |stream, last| {
        let mut newest = newest[stream].lock().ok()?;
        if let Some(last) = last {
            *newest = pb::RefreshResponse::decode(last)
                .ok()?
                .tokens?
                .refresh_token;
        }
        Some(frame(&pb::RefreshRequest {
            refresh_token: newest.clone(),
            ..Default::default()
        }))
    }))
}

/// Waits until the health service answers SERVING.
pub async fn serving(client: &Client) -> Result<()> {
    let request = HealthCheckRequest::default();
    let answer: HealthCheckResponse = client.call(HEALTH, &request).await?;
    match answer.status() {
        ServingStatus::Serving => Ok(()),
        other => Err(format!("health answers {other:?}").into()),
    }
}

/// Registers users and returns the requests to log each of them in again on the same device, as most logins are.
pub async fn logins(client: &Client, users: usize) -> Result<Vec<Bytes>> {
    let mut requests = Vec::new();
    for user in 0..users {
        let email = format!("user-{user}@example.org");
        register(client, &email).await?;
        let first: pb::LoginResponse = client.call(LOGIN, &login(&email)).await?;
        requests.push(frame(&pb::LoginRequest {
            device_token: first.device_token,
            ..login(&email)
        }));
    }
    Ok(requests)
}
