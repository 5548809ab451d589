//! Logins by passkey, `BeginPasskeyLogin` and `FinishPasskeyLogin`, against logins by password at the default cost, in turn
//! on one service. Its users have many sessions, so that neither side ends old ones.

use std::{
    fmt::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign::{
    clock::{Clock, monotonic_now},
    domain::{FactorId, UserId},
    grpc::pb,
};
use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Bench;
use crate::{
    driver::{Caller, Client, Load, OK, Source, float, frame, in_turn},
    error::Result,
    fixture::{Fixture, LOGIN, REGISTER, logins, registration},
    measured::Bound,
    rounds::Rounds,
};

const GROUP: &str = "passkeys";
const BEGIN: &str = "/countersign.auth.v1.AuthService/BeginPasskeyLogin";
const FINISH: &str = "/countersign.auth.v1.AuthService/FinishPasskeyLogin";
const STREAMS: usize = 32;
const RP_ID: &str = "localhost";
const ORIGIN: &str = "http://localhost:5173";

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let rounds = bench.choose(3, 7);
    let duration = Duration::from_secs(bench.choose(2, 5));
    let fixture = Fixture::sqlite(&[("COUNTERSIGN_MAX_SESSIONS_PER_USER", "100000")])?;
    let process = fixture.start().await?;
    let client = Client::connect(process.address, 4).await?;
    let by_password = Load {
        path: LOGIN,
        source: Source::clone(&in_turn(logins(&client, 64).await?)),
        streams: STREAMS,
        duration,
        pace: None,
    };
    let mut holders = Vec::new();
    for number in 0..STREAMS {
        let email = format!("holder-{number}@example.org");
        let answer: pb::RegisterResponse = client.call(REGISTER, &registration(&email)).await?;
        let user = answer.user.ok_or("no user")?.user_id.parse()?;
        holders.push(Arc::new(Holder::new(user)?));
    }
    insert(fixture.folder(), &holders)?;
    let measured = Rounds::measure(
        rounds,
        async || Ok(vec![passkey_logins(&client, &holders, duration).await?]),
        async || {
            let sample = client.drive(&by_password).await?;
            sample.all_good()?;
            Ok(vec![sample.rate()])
        },
    )
    .await?;
    bench.report.compare(
        GROUP,
        "logins per second",
        "by password",
        measured.medians(0),
        Some(Bound::AtLeast(5.0)),
    );
    Ok(())
}

/// A user's authenticator, which does not count.
struct Holder {
    user: UserId,
    key: EcdsaKeyPair,
}

impl Holder {
    fn new(user: UserId) -> Result<Self> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING);
        let key = key.map_err(|_| "no key")?;
        Ok(Self { user, key })
    }

    /// The COSE key: {1: 2, 3: -7, -1: 1, -2: x, -3: y}.
    fn public_key(&self) -> Vec<u8> {
        let point = self.key.public_key().as_ref();
        let head = [0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21, 0x58, 32];
        [&head, &point[1..33], &[0x22, 0x58, 32], &point[33..]].concat()
    }

    /// What `PublicKeyCredential.toJSON` returns for these options.
    fn answer(&self, options: &str) -> Result<String> {
        let options: Value = serde_json::from_str(options)?;
        let client_data = json!({
            "type": "webauthn.get",
            "challenge": options["challenge"],
            "origin": ORIGIN,
            "crossOrigin": false,
        })
        .to_string();
        // User present and verified; the counter is 0.
        let data = [digest(&SHA256, RP_ID.as_bytes()).as_ref(), &[5, 0, 0, 0, 0]].concat();
        let signed = [&data, digest(&SHA256, client_data.as_bytes()).as_ref()].concat();
        let signature = self.key.sign(&SystemRandom::new(), &signed);
        let signature = signature.map_err(|_| "no signature")?;
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let id = encode(self.user.as_bytes());
        Ok(json!({
            "id": &id,
            "rawId": &id,
            "type": "public-key",
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": encode(client_data.as_bytes()),
                "authenticatorData": encode(&data),
                "signature": encode(signature.as_ref()),
                "userHandle": &id,
            },
        })
        .to_string())
    }
}

/// Stores the passkeys as if they had been registered. The id of each is that of its user.
fn insert(folder: &Path, holders: &[Arc<Holder>]) -> Result<()> {
    let file = folder.join("countersign.db");
    let mut connection = SqliteConnection::establish(&file.to_string_lossy())?;
    connection.batch_execute("PRAGMA busy_timeout = 5000")?;
    let now = Clock::System.now();
    for holder in holders {
        let (user, factor) = (holder.user, FactorId::generate(now));
        let (id, key) = (hex(user.as_bytes()), hex(&holder.public_key()));
        let (aaguid, now) = (hex(&[0; 16]), now.micros());
        connection.batch_execute(&format!(
            "INSERT INTO passkeys (id, user_id, credential_id, public_key, sign_count, backup_eligible, backed_up, \
             aaguid, transports, label, created_at) \
             VALUES ('{factor}', '{user}', x'{id}', x'{key}', 0, 0, 0, x'{aaguid}', '', '', {now}); \
             UPDATE users SET factor_kinds = 'passkey' WHERE id = '{user}'"
        ))?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Logs in by passkey on all streams at once; logins per second.
async fn passkey_logins(
    client: &Client,
    holders: &[Arc<Holder>],
    duration: Duration,
) -> Result<f64> {
    let begin = monotonic_now();
    let end = begin + duration;
    let mut streams = JoinSet::new();
    for (number, holder) in holders.iter().enumerate() {
        let callers = [client.caller(BEGIN, number), client.caller(FINISH, number)];
        streams.spawn(keep_logging_in(Arc::clone(holder), callers, end));
    }
    let mut logins = 0;
    while let Some(stream) = streams.join_next().await {
        logins += stream??;
    }
    Ok(float(logins) / (monotonic_now() - begin).as_secs_f64())
}

async fn keep_logging_in(
    holder: Arc<Holder>,
    [mut begin, mut finish]: [Caller; 2],
    end: Instant,
) -> Result<u64> {
    let mut logins = 0;
    while monotonic_now() < end {
        let request = frame(&pb::BeginPasskeyLoginRequest::default());
        let answer = begin.call(request).await?;
        let begun = pb::BeginPasskeyLoginResponse::decode(answer.message)?;
        let request = pb::FinishPasskeyLoginRequest {
            challenge_token: begun.challenge_token,
            passkey_response_json: holder.answer(&begun.request_options_json)?,
            device_label: "Ada's phone".to_owned(),
            ..Default::default()
        };
        let answer = finish.call(frame(&request)).await?;
        if answer.code != OK {
            return Err(format!(
                "{FINISH} failed with {}: {}",
                answer.code, answer.explanation
            )
            .into());
        }
        logins += 1;
    }
    Ok(logins)
}
