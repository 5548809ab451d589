//! `cargo bench --bench hot_path`: what the parts of a call cost by themselves.

use std::{hint::black_box, sync::Arc, time::Duration};

use argon2::{Algorithm, Params, Version};
use countersign::{
    clock::{Clock, Timestamp},
    config::Config,
    domain::{PositionedRevocation, Revocation, RevokedSubject, Roles, SessionId, UserId},
    passwords::{Argon2Input, HashingBackend, HashingMemory},
    revocation::RevocationIndex,
    server::{access_profile, signing_policy},
    store::Store,
    tokens::{AccessProfile, DerivedKeys, Keyring, Subject, VerifiedClaims, VerifiedTokens},
};
use criterion::{Criterion, criterion_group, criterion_main};

/// The allocator of the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The keys of a new service, and what its tokens have in common.
struct Parts {
    keyring: Keyring,
    derived: DerivedKeys,
    profile: AccessProfile,
    roles: Roles,
    now: Timestamp,
}

impl Parts {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = Config::from_vars([
            (
                "COUNTERSIGN_DATABASE_URL".to_owned(),
                format!("sqlite://{}/countersign.db", folder.path().display()),
            ),
            (
                "COUNTERSIGN_MASTER_KEYS".to_owned(),
                "v1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned(),
            ),
        ])
        .expect("a good configuration");
        let master_keys = config.master_keys.load().expect("the keys are given");
        let derived = DerivedKeys::derive(master_keys.as_slice());
        let now = Clock::System.now();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let keyring = runtime.block_on(async {
            let store = Store::open_or_create(&config.database).expect("SQLite opens");
            store.migrate().await.expect("a fresh file can be migrated");
            let keyring = Keyring::load(&store, &derived, signing_policy(&config), now).await;
            keyring.expect("a fresh keyring")
        });
        Self {
            keyring,
            derived,
            profile: access_profile(&config),
            roles: Roles::from_stored("user"),
            now,
        }
    }

    fn token(&self) -> String {
        let subject = Subject {
            user_id: UserId::generate(self.now),
            session_id: SessionId::generate(self.now),
            roles: &self.roles,
            audiences: &self.profile.audiences,
            authenticated_at: self.now,
            methods: &["pwd".to_owned()],
            acr: "urn:countersign:acr:1",
            issued_after: self.now,
        };
        let issued = self.profile.issue(&self.keyring, &subject, self.now);
        issued.expect("signing works").token.expose().clone()
    }

    fn verified(&self, token: &str) -> VerifiedClaims {
        let claims = self.profile.verify(&self.keyring, token, self.now);
        VerifiedClaims::new(claims.expect("our own token"))
    }
}

fn access_tokens(criterion: &mut Criterion) {
    let parts = Parts::new();
    let token = parts.token();
    criterion.bench_function("access token: sign", |bench| bench.iter(|| parts.token()));
    criterion.bench_function("access token: verify, cold", |bench| {
        bench.iter(|| parts.verified(black_box(&token)));
    });

    let cache = VerifiedTokens::new();
    let epoch = parts.keyring.epoch();
    for _ in 0..1_000 {
        let token = parts.token();
        let claims = Arc::new(parts.verified(&token));
        cache.insert(&token, claims, epoch);
    }
    let claims = Arc::new(parts.verified(&token));
    cache.insert(&token, claims, epoch);
    criterion.bench_function("access token: verify, cached", |bench| {
        bench.iter(|| {
            let claims = cache.get(black_box(&token), epoch);
            let claims = claims.expect("it was put there");
            parts.profile.check_expiry(&claims, parts.now)
        });
    });
}

fn refresh_tokens(criterion: &mut Criterion) {
    let parts = Parts::new();
    let session = SessionId::generate(parts.now);
    criterion.bench_function("refresh token: make", |bench| {
        bench.iter(|| parts.derived.refresh_token(black_box(session), 7));
    });
    let token = parts.derived.refresh_token(session, 7);
    criterion.bench_function("refresh token: check", |bench| {
        bench.iter(|| parts.derived.parse_refresh_token(black_box(token.expose())));
    });
}

fn revocations(criterion: &mut Criterion) {
    let parts = Parts::new();
    let claims = parts.verified(&parts.token());
    for count in [0, 100_000] {
        let index = index_of(count, parts.now);
        criterion.bench_function(&format!("revocation index: look up in {count}"), |bench| {
            bench.iter(|| index.is_revoked(black_box(&claims)));
        });
    }
}

fn index_of(count: i64, now: Timestamp) -> RevocationIndex {
    let index = RevocationIndex::default();
    let revocations: Vec<_> = (1..=count)
        .map(|position| PositionedRevocation {
            position,
            revocation: Revocation {
                subject: RevokedSubject::Session(SessionId::generate(now)),
                not_before: now,
                created_at: now,
                expires_at: now + Duration::from_secs(1_800),
            },
        })
        .collect();
    index.learn(&revocations);
    index
}

fn passwords(criterion: &mut Criterion) {
    let params = Params::new(19_456, 2, 1, Some(32)).expect("the defaults");
    let input = Argon2Input {
        algorithm: Algorithm::Argon2id,
        version: Version::V0x13,
        params: &params,
        password: b"a mill that weaves algebra",
        salt: &[3; 16],
        secret: &[7; 32],
    };
    let mut group = criterion.benchmark_group("argon2id");
    group.sample_size(30);
    for backend in [HashingBackend::detect(), HashingBackend::Portable] {
        let mut memory = HashingMemory::new(backend);
        let mut output = [0; 32];
        group.bench_function(backend.name(), |bench| {
            bench.iter(|| memory.hash(input, &mut output).expect("enough memory"));
        });
    }
    group.finish();
}

criterion_group!(parts, access_tokens, refresh_tokens, revocations, passwords);
criterion_main!(parts);
