//! The bare loops: the same cryptography with nothing around it, on every core.

use std::{sync::Arc, thread, time::Duration};

use argon2::{Algorithm, Params, Version};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
        UnparsedPublicKey,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign::{
    clock::monotonic_now,
    passwords::{Argon2Input, HashingBackend, HashingMemory},
};

use super::{driver::float, error::Result};

/// The service's own default cost.
const COST: (u32, u32, u32) = (19_456, 2, 1);

/// Argon2id hashes per second: default parameters, a secret, memory that is used again.
pub fn argon2(duration: Duration, backend: HashingBackend) -> Result<f64> {
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, Some(32))?;
    on_every_core(move |_| {
        let mut memory = HashingMemory::new(backend);
        let input = Argon2Input {
            algorithm: Algorithm::Argon2id,
            version: Version::V0x13,
            params: &params,
            password: b"a mill that weaves algebra",
            salt: &[3; 16],
            secret: &[7; 32],
        };
        counted(duration, || memory.hash(input, &mut [0; 32]).is_ok())
    })
}

/// The same at the priority of the service's workers, until the process is terminated.
pub fn argon2_for_ever() -> Result<()> {
    rustix::process::nice(19)?;
    argon2(Duration::MAX, HashingBackend::detect()).map(drop)
}

/// ES256 verifications per second, one after the other over these tokens.
pub fn es256(duration: Duration, public_key: &str, tokens: &[String]) -> Result<f64> {
    let key = Arc::new(URL_SAFE_NO_PAD.decode(public_key)?);
    let tokens: Arc<[String]> = tokens.into();
    on_every_core(move |core| {
        let mut next = core;
        counted(duration, || {
            next += 1;
            signed_by(&key, &tokens[next % tokens.len()])
        })
    })
}

/// ES256 as a token service needs it for one call: so many signatures verified, and one made.
pub struct Signatures {
    /// How many are verified.
    pub verifications: u32,
    pair: EcdsaKeyPair,
    signature: Vec<u8>,
}

/// As long as the header and payload of an access token.
const MESSAGE: [u8; 700] = [b'x'; 700];

impl Signatures {
    /// With a new key.
    ///
    /// # Panics
    /// When there is no randomness.
    pub fn of(verifications: u32) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a new key");
        let signature = pair
            .sign(&SystemRandom::new(), &MESSAGE)
            .expect("a signature");
        Self {
            verifications,
            signature: signature.as_ref().to_vec(),
            pair,
        }
    }

    /// The work of one call.
    pub fn work(&self) -> bool {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref());
        let verify = |_| key.verify(&MESSAGE, &self.signature).is_ok();
        let signed = self.pair.sign(&SystemRandom::new(), &MESSAGE);
        (0..self.verifications).all(verify) && signed.is_ok()
    }
}

/// How often a second the work of such a call is done, with no call around it.
pub fn signatures(duration: Duration, verifications: u32) -> Result<f64> {
    on_every_core(move |_| {
        let signatures = Signatures::of(verifications);
        counted(duration, || signatures.work())
    })
}

/// Whether a token is signed by an ES256 key; nothing else is looked at.
pub fn signed_by(key: &[u8], token: &str) -> bool {
    let Some((message, signature)) = token.rsplit_once('.') else {
        return false;
    };
    URL_SAFE_NO_PAD.decode(signature).is_ok_and(|signature| {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key)
            .verify(message.as_bytes(), &signature)
            .is_ok()
    })
}

/// How often a second that goes well. The last time ends after `duration`, so the time is taken anew.
fn counted(duration: Duration, mut work: impl FnMut() -> bool) -> f64 {
    let begin = monotonic_now();
    let mut count = 0;
    while begin.elapsed() < duration {
        count += u64::from(work());
    }
    float(count) / begin.elapsed().as_secs_f64()
}

fn on_every_core(work: impl Fn(usize) -> f64 + Clone + Send + 'static) -> Result<f64> {
    let cores = thread::available_parallelism()?.get();
    let start = |core| {
        let work = work.clone();
        thread::spawn(move || work(core))
    };
    let threads: Vec<_> = (0..cores).map(start).collect();
    let mut total = 0.0;
    for thread in threads {
        total += thread.join().map_err(|_| "a loop panicked")?;
    }
    Ok(total)
}
