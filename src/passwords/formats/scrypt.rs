//! scrypt (RFC 7914): the strings of passlib, crypt(3)'s `$7$`, Spring Security and better-auth, and Firebase's variant.
//! Django's and Werkzeug's are read in their own files and end here.

use aws_lc_rs::cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use scrypt::Params;
use subtle::ConstantTimeEq;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::{
    Refusal,
    text::{
        base64, base64_padded, bounded, crypt_digit, crypt64, fields, hex, number, parameters,
        to_base64, within,
    },
    work::{Function, Work, ask_for_memory, powers_of_two},
};
use crate::passwords::error::HashingError;

/// N = 2^17.
const MAX_LOG_N: u32 = 17;

/// The largest block size of all forms but crypt(3)'s.
const MAX_R: u32 = 16;

/// What crypt(3) writes by default.
const MAX_R_OF_CRYPT: u32 = 32;

const MAX_P: u32 = 10;

/// N times r: 256 MiB, as much as a stored Argon2 hash may take.
const MAX_MEMORY: u64 = 1 << 21;

/// N times r times p: about two seconds.
const MAX_WORK: u64 = 1 << 22;

const MAX_SALT: usize = 256;

/// The block size of the padding of failed logins.
const LOG_R_OF_PADDING: u32 = 3;

/// What our own forms begin with.
pub(super) const CANONICAL: [&str; 3] = [
    Form::Plain.prefix(),
    Form::Nfkc.prefix(),
    Form::Firebase.prefix(),
];

/// What is done beside scrypt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Nothing.
    Plain,
    /// The password is normalised first (NFKC).
    Nfkc,
    /// The stored hash is the signer key, encrypted with AES-256-CTR under scrypt's output. Encryption is an
    /// exclusive-or with a key stream, so the key stream is kept and the signer key is not.
    Firebase,
}

impl Form {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Plain => "$cs-scrypt$",
            Self::Nfkc => "$cs-scrypt-nfkc$",
            Self::Firebase => "$cs-scrypt-firebase$",
        }
    }
}

/// log₂ N, r and p.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    log_n: u32,
    r: u32,
    p: u32,
}

impl Cost {
    pub fn new(log_n: u32, r: u32, p: u32) -> Result<Self, Refusal> {
        within(r, "r of scrypt", 1, MAX_R)?;
        Self::of_crypt(log_n, r, p)
    }

    fn of_crypt(log_n: u32, r: u32, p: u32) -> Result<Self, Refusal> {
        within(log_n, "log2(N) of scrypt", 1, MAX_LOG_N)?;
        within(r, "r of scrypt", 1, MAX_R_OF_CRYPT)?;
        within(p, "p of scrypt", 1, MAX_P)?;
        let cost = Self { log_n, r, p };
        if cost.memory() > MAX_MEMORY || cost.work() > MAX_WORK {
            return Err(Refusal::too_costly(
                "scrypt: N, r and p together ask for too much",
            ));
        }
        Ok(cost)
    }

    /// From decimal text, with N itself.
    pub fn of_text(n: &str, r: &str, p: &str) -> Result<Self, Refusal> {
        let n = number(n).filter(|n| n.is_power_of_two());
        let n = n.ok_or_else(|| Refusal::malformed("scrypt: N is not a power of two"))?;
        Self::of_text_with_log(&n.ilog2().to_string(), r, p)
    }

    fn of_text_with_log(log_n: &str, r: &str, p: &str) -> Result<Self, Refusal> {
        Self::new(
            bounded(log_n, "log2(N) of scrypt", 1, MAX_LOG_N)?,
            bounded(r, "r of scrypt", 1, MAX_R)?,
            bounded(p, "p of scrypt", 1, MAX_P)?,
        )
    }

    fn work(self) -> u64 {
        (u64::from(self.r) * u64::from(self.p)) << self.log_n
    }

    fn memory(self) -> u64 {
        u64::from(self.r) << self.log_n
    }

    fn params(self) -> Option<Params> {
        Params::new(u8::try_from(self.log_n).ok()?, self.r, self.p).ok()
    }
}

/// A scrypt hash.
pub(super) struct Scrypt {
    form: Form,
    cost: Cost,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Scrypt {
    /// A hash of exactly `length` bytes; `None` is a part that could not be decoded.
    pub fn new(
        form: Form,
        cost: Cost,
        salt: Option<Vec<u8>>,
        hash: Option<Vec<u8>>,
        length: usize,
    ) -> Result<Self, Refusal> {
        let (Some(salt), Some(hash)) = (salt, hash) else {
            return Err(Refusal::malformed(
                "scrypt: the salt or the hash is not encoded as it must be",
            ));
        };
        if salt.is_empty() || salt.len() > MAX_SALT {
            return Err(Refusal::malformed("scrypt: the salt is empty or too long"));
        }
        if hash.len() != length {
            return Err(Refusal::malformed(format!(
                "scrypt: the hash must have {length} bytes"
            )));
        }
        Ok(Self {
            form,
            cost,
            salt,
            hash,
        })
    }

    /// passlib: `$scrypt$ln=16,r=8,p=1$<salt>$<hash>`.
    pub fn parse_passlib(text: &str) -> Result<Self, Refusal> {
        let malformed = || Refusal::malformed("scrypt: not the PHC form");
        let [_, _, cost, salt, hash] = fields(text, '$').ok_or_else(malformed)?;
        let [log_n, r, p] = parameters(cost, ["ln", "r", "p"]).ok_or_else(malformed)?;
        let cost = Cost::of_text_with_log(log_n, r, p)?;
        Self::new(Form::Plain, cost, base64(salt), base64(hash), 32)
    }

    /// crypt(3): `$7$`, one character of log₂ N, five of r, five of p, the salt as it is, `$` and the hash.
    pub fn parse_crypt(text: &str) -> Result<Self, Refusal> {
        let malformed = || Refusal::malformed("scrypt: not the form of crypt(3)");
        let [_, _, setting, hash] = fields(text, '$').ok_or_else(malformed)?;
        let (cost, salt) = setting.split_at_checked(11).ok_or_else(malformed)?;
        let number = |text: &[u8]| {
            let digit = |n: u32, c: &u8| Some(n << 6 | crypt_digit(*c)?);
            text.iter().rev().try_fold(0, digit)
        };
        let cost = cost.as_bytes();
        let [log_n, r, p] = [&cost[..1], &cost[1..6], &cost[6..]].map(number);
        let cost = Cost::of_crypt(
            log_n.ok_or_else(malformed)?,
            r.ok_or_else(malformed)?,
            p.ok_or_else(malformed)?,
        )?;
        let salt = Some(salt.as_bytes().to_vec());
        Self::new(Form::Plain, cost, salt, crypt64(hash), 32)
    }

    /// Spring Security: `$e0801$<salt>$<hash>`; the hexadecimal number is log₂ N, r and p, the last two of one byte each.
    pub fn parse_spring(text: &str) -> Result<Self, Refusal> {
        let malformed = || Refusal::malformed("scrypt: not the form of Spring Security");
        let [_, cost, salt, hash] = fields(text, '$').ok_or_else(malformed)?;
        let number = u32::from_str_radix(cost, 16).ok();
        let number = number.filter(|number| format!("{number:x}") == cost);
        let number = number.ok_or_else(malformed)?;
        let cost = Cost::new(number >> 16, number >> 8 & 255, number & 255)?;
        Self::new(
            Form::Plain,
            cost,
            base64_padded(salt),
            base64_padded(hash),
            32,
        )
    }

    /// better-auth: `<32 hexadecimal digits, which are the salt as text>:<128 of hash>`.
    pub fn parse_better_auth(salt: &str, hash: &str) -> Result<Self, Refusal> {
        let digits = salt.len() == 32 && hex(salt).is_some();
        let salt = digits.then(|| salt.as_bytes().to_vec());
        Self::new(Form::Nfkc, Cost::new(14, 16, 1)?, salt, hex(hash), 64)
    }

    /// One of our own forms: `$cs-scrypt$ln=16,r=8,p=1$<salt>$<hash>`.
    pub fn parse_canonical(text: &str) -> Result<Self, Refusal> {
        let malformed = || Refusal::malformed("cs-scrypt: not its form");
        let forms = [Form::Plain, Form::Nfkc, Form::Firebase];
        let read = |form: Form| Some((form, text.strip_prefix(form.prefix())?));
        let (form, rest) = forms.into_iter().find_map(read).ok_or_else(malformed)?;
        let [cost, salt, hash] = fields(rest, '$').ok_or_else(malformed)?;
        let [log_n, r, p] = parameters(cost, ["ln", "r", "p"]).ok_or_else(malformed)?;
        let cost = Cost::of_crypt(
            bounded(log_n, "log2(N) of scrypt", 1, MAX_LOG_N)?,
            bounded(r, "r of scrypt", 1, MAX_R_OF_CRYPT)?,
            bounded(p, "p of scrypt", 1, MAX_P)?,
        )?;
        let hash = base64(hash).ok_or_else(malformed)?;
        let length = match (form, hash.len()) {
            (Form::Plain, 32) => 32,
            _ => 64,
        };
        Self::new(form, cost, base64(salt), Some(hash), length)
    }

    pub fn canonical(&self) -> String {
        let Cost { log_n, r, p } = self.cost;
        let [salt, hash] = [&self.salt, &self.hash].map(|bytes| to_base64(bytes));
        let prefix = self.form.prefix();
        format!("{prefix}ln={log_n},r={r},p={p}${salt}${hash}")
    }

    pub fn work(&self) -> Work {
        Work {
            function: Function::Scrypt,
            amount: self.cost.work(),
        }
    }

    pub fn verify(&self, password: &str) -> Result<bool, HashingError> {
        let normalised: Zeroizing<String> = Zeroizing::new(password.nfkc().collect());
        let password = match self.form {
            Form::Nfkc => normalised.as_bytes(),
            Form::Plain | Form::Firebase => password.as_bytes(),
        };
        let mut output = Zeroizing::new(vec![0; self.hash.len()]);
        if self.form == Form::Firebase {
            let mut key = Zeroizing::new([0; 32]);
            compute(self.cost, password, &self.salt, &mut *key)?;
            key_stream(&key, &mut output)?;
        } else {
            compute(self.cost, password, &self.salt, &mut output)?;
        }
        Ok(output.ct_eq(&self.hash).into())
    }
}

fn compute(
    cost: Cost,
    password: &[u8],
    salt: &[u8],
    output: &mut [u8],
) -> Result<(), HashingError> {
    ask_for_memory(cost.memory())?;
    let params = cost.params().ok_or(HashingError::Unreadable)?;
    scrypt::scrypt(password, salt, &params, output).map_err(|_| HashingError::Unreadable)
}

/// AES-256-CTR from the counter zero, applied to zeros.
fn key_stream(key: &[u8; 32], zeros: &mut [u8]) -> Result<(), HashingError> {
    let failed = |_| HashingError::Unreadable;
    let key = UnboundCipherKey::new(&AES_256, key).map_err(failed)?;
    let key = EncryptingKey::ctr(key).map_err(failed)?;
    let counter = EncryptionContext::Iv128([0; 16].into());
    key.less_safe_encrypt(zeros, counter).map_err(failed)?;
    Ok(())
}

/// Spends N times r times p = `amount`, with a block size of 8.
pub(super) fn discard(amount: u64, password: &[u8]) -> Result<(), HashingError> {
    for log_n in powers_of_two(amount >> LOG_R_OF_PADDING, 1, MAX_LOG_N) {
        let cost = Cost {
            log_n,
            r: 1 << LOG_R_OF_PADDING,
            p: 1,
        };
        let mut output = [0; 32];
        compute(cost, password, &[0; 16], &mut output)?;
        std::hint::black_box(output);
    }
    Ok(())
}
