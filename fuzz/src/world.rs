//! The fixed keys that the targets use: the tokens of the committed corpus stay valid, and a target can sign
//! any input.

use std::sync::LazyLock;

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign::{
    clock::Timestamp,
    config::{Config, MasterKey},
    secret::Secret,
    store::{Store, StoredSigningKey},
    tokens::{AccessProfile, DerivedKeys, Keyring, SigningPolicy},
};

/// The moment at which everything happens.
pub const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// The name of the signing key: its RFC 7638 thumbprint, which follows from [`SEED`].
pub const KID: &str = "nEArpjG3kYMcxbdzInyGlBEYQUw7RfAfe3Tw1fZvAA0";

const SEED: [u8; 32] = [0x42; 32];

/// The parts of the service that read tokens.
pub static WORLD: LazyLock<World> = LazyLock::new(World::build);

/// See [`WORLD`].
pub struct World {
    /// One key, called [`KID`].
    pub keyring: Keyring,
    /// What access tokens have in common.
    pub profile: AccessProfile,
    /// The keys of refresh tokens.
    pub derived_keys: DerivedKeys,
    pair: Ed25519KeyPair,
}

impl World {
    fn build() -> Self {
        let master = MasterKey {
            version: 1,
            key: Secret::new([7; 32]),
        };
        let derived_keys = DerivedKeys::derive([&master]);
        let pair = Ed25519KeyPair::from_seed_unchecked(&SEED).expect("any 32 bytes are a seed");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime starts");
        let keyring = runtime.block_on(load(&derived_keys, &pair));
        let world = Self {
            keyring,
            profile: AccessProfile {
                issuer: "https://auth.example".to_owned(),
                audiences: vec!["api".to_owned(), "billing".to_owned()],
                client_id: "countersign".to_owned(),
                ttl: std::time::Duration::from_secs(900),
                leeway: std::time::Duration::ZERO,
            },
            derived_keys,
            pair,
        };
        world.check_corpus();
        world
    }

    /// A corpus whose good tokens are no longer good leads nowhere.
    fn check_corpus(&self) {
        let access = include_str!("../corpus/access_token/good");
        let refresh = include_str!("../corpus/refresh_token/good");
        let claims = self.profile.verify(&self.keyring, access, NOW);
        assert!(
            claims.is_ok(),
            "the good access token of the corpus is refused"
        );
        let parsed = self.derived_keys.parse_refresh_token(refresh);
        assert!(
            parsed.is_ok(),
            "the good refresh token of the corpus is refused"
        );
    }

    /// A token with this header and payload, signed by the key of the keyring.
    pub fn sign(&self, header: &[u8], payload: &[u8]) -> String {
        let encode = |part| URL_SAFE_NO_PAD.encode(part);
        let message = format!("{}.{}", encode(header), encode(payload));
        let signature = self.pair.sign(message.as_bytes());
        format!("{message}.{}", encode(signature.as_ref()))
    }

    /// Whether the signature of `message` is that of the key of the keyring.
    pub fn is_signature(&self, message: &str, signature: &[u8]) -> bool {
        let public = self.pair.public_key().as_ref();
        aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, public)
            .verify(message.as_bytes(), signature)
            .is_ok()
    }
}

/// The keyring reads its keys from a database and from nowhere else, so it gets one.
async fn load(keys: &DerivedKeys, pair: &Ed25519KeyPair) -> Keyring {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("sqlite://{}/fuzz.db", folder.path().display());
    let variables = [
        ("COUNTERSIGN_DATABASE_URL".to_owned(), url),
        (
            "COUNTERSIGN_SIGNING_ALGORITHM".to_owned(),
            "EdDSA".to_owned(),
        ),
    ];
    let config = Config::from_vars(variables).expect("the configuration is good");
    let store = Store::open_or_create(&config.database).expect("the database opens");
    store.migrate().await.expect("the database is migrated");
    let pkcs8: Pkcs8V1Der<'_> = pair.as_der().expect("the key can be encoded");
    let master = keys.active();
    let planted = StoredSigningKey {
        kid: KID.to_owned(),
        ordinal: 1,
        algorithm: "EdDSA".to_owned(),
        sealed_private_key: master.seal(KID, pkcs8.as_ref()),
        sealed_by: master.version,
        created_at: NOW,
        activates_at: NOW,
        revoked_at: None,
    };
    store
        .insert_signing_key(&planted, None)
        .await
        .expect("the key is planted");
    let policy = SigningPolicy {
        algorithm: config.signing.algorithm,
        rotation: config.signing.rotation,
        lead: config.signing.lead,
        jwks_max_age: config.signing.jwks_max_age,
        poll_interval: config.revocation.poll_interval,
        token_life: config.tokens.access_ttl,
    };
    Keyring::load(&store, keys, policy, NOW)
        .await
        .expect("the keyring loads")
}
