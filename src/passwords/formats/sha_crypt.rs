//! SHA-crypt (Drepper, "Unix crypt using SHA-256 and SHA-512"): `$5$` and `$6$`.

use aws_lc_rs::digest::{self, Context, SHA256, SHA512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{
    Refusal,
    text::{bounded, crypt64, to_crypt64},
    work::{Function, Work},
};

/// When the string names none.
const DEFAULT_ROUNDS: u32 = 5_000;

const MIN_ROUNDS: u32 = 1_000;

/// Above, one hash takes seconds.
const MAX_ROUNDS: u32 = 10_000_000;

const MAX_SALT: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Digest {
    Sha256,
    Sha512,
}

impl Digest {
    const fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &SHA256,
            Self::Sha512 => &SHA512,
        }
    }

    fn hash<'a>(self, parts: impl IntoIterator<Item = &'a [u8]>) -> digest::Digest {
        let mut context = Context::new(self.algorithm());
        parts.into_iter().for_each(|part| context.update(part));
        context.finish()
    }
}

/// A hash of SHA-crypt.
pub(super) struct ShaCrypt {
    digest: Digest,
    rounds: u32,
    salt: String,
    hash: String,
    canonical: String,
}

impl ShaCrypt {
    /// `$6$[rounds=N$]<salt>$<hash>`.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let malformed = |reason| Refusal::malformed(format!("sha-crypt: {reason}"));
        let (digest, rest, bytes) = match text.as_bytes() {
            [b'$', b'5', b'$', ..] => (Digest::Sha256, &text[3..], 32),
            [b'$', b'6', b'$', ..] => (Digest::Sha512, &text[3..], 64),
            _ => return Err(malformed("not its form")),
        };
        let (rounds, rest) = match rest.strip_prefix("rounds=") {
            None => (DEFAULT_ROUNDS, rest),
            Some(rest) => {
                let (rounds, rest) = rest
                    .split_once('$')
                    .ok_or_else(|| malformed("no salt and no hash"))?;
                let name = "the number of rounds of sha-crypt";
                (bounded(rounds, name, MIN_ROUNDS, MAX_ROUNDS)?, rest)
            }
        };
        let (salt, hash) = rest.split_once('$').ok_or_else(|| malformed("no hash"))?;
        let legible = |byte: u8| byte.is_ascii_graphic() && !b"$:*!\\".contains(&byte);
        if salt.is_empty() || salt.len() > MAX_SALT || !salt.bytes().all(legible) {
            return Err(malformed("the salt must have 1 to 16 visible characters"));
        }
        if crypt64(hash).is_none_or(|decoded| decoded.len() != bytes) {
            return Err(malformed("the hash is cut or not crypt(3)'s Base64"));
        }
        Ok(Self {
            digest,
            rounds,
            salt: salt.to_owned(),
            hash: hash.to_owned(),
            canonical: text.to_owned(),
        })
    }

    pub fn canonical(&self) -> String {
        self.canonical.clone()
    }

    pub fn work(&self) -> Work {
        Work {
            function: match self.digest {
                Digest::Sha256 => Function::Sha256Crypt,
                Digest::Sha512 => Function::Sha512Crypt,
            },
            amount: self.rounds.into(),
        }
    }

    pub fn verify(&self, password: &[u8]) -> bool {
        let computed = compute(self.digest, password, self.salt.as_bytes(), self.rounds);
        computed.as_bytes().ct_eq(self.hash.as_bytes()).into()
    }
}

/// The specification's steps, with its names for the digests.
fn compute(digest: Digest, password: &[u8], salt: &[u8], rounds: u32) -> String {
    let length = password.len();
    let b = digest.hash([password, salt, password]);
    let b_stretched = stretched(b.as_ref(), length);
    let bits = (0..usize::BITS - length.leading_zeros()).map(|n| length >> n & 1 == 1);
    let by_bits = bits.map(|bit| if bit { b.as_ref() } else { password });
    let mut c = digest.hash([password, salt, &b_stretched].into_iter().chain(by_bits));
    let dp = digest.hash(std::iter::repeat_n(password, length));
    let ds = digest.hash(std::iter::repeat_n(salt, 16 + usize::from(c.as_ref()[0])));
    let (p, s) = (
        stretched(dp.as_ref(), length),
        stretched(ds.as_ref(), salt.len()),
    );
    for round in 0..rounds {
        let is_odd = round % 2 == 1;
        let (first, last) = if is_odd {
            (&p[..], c.as_ref())
        } else {
            (c.as_ref(), &p[..])
        };
        let s = if round % 3 == 0 { &[] } else { &s[..] };
        let p = if round % 7 == 0 { &[] } else { &p[..] };
        c = digest.hash([first, s, p, last]);
    }
    encoded(digest, c.as_ref())
}

/// The bytes again and again, up to this length.
fn stretched(bytes: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(bytes.iter().copied().cycle().take(length).collect())
}

/// The hash as it is written: three bytes at a time, in the order of the specification's last step.
fn encoded(digest: Digest, hash: &[u8]) -> String {
    let (first, last): (_, &[usize]) = match digest {
        Digest::Sha256 => ([0, 10, 20], &[30, 31]),
        Digest::Sha512 => ([0, 21, 42], &[63]),
    };
    let next = |&[a, b, c]: &[usize; 3]| {
        Some(match digest {
            Digest::Sha256 => [c + 1, a + 1, b + 1],
            Digest::Sha512 => [b + 1, c + 1, a + 1],
        })
    };
    let groups = std::iter::successors(Some(first), next).take(hash.len() / 3);
    // The first of a group holds the highest bits, and the lowest are written first.
    let order = groups.flat_map(|[a, b, c]| [c, b, a]);
    let bytes: Vec<u8> = order.chain(last.iter().copied()).map(|n| hash[n]).collect();
    to_crypt64(&bytes)
}

/// Spends `amount` rounds.
pub(super) fn discard(digest: Digest, amount: u64, password: &[u8]) {
    let rounds = u32::try_from(amount).unwrap_or(MAX_ROUNDS);
    std::hint::black_box(compute(digest, password, b"0123456789abcdef", rounds));
}
