//! Argon2 of other systems (RFC 9106): PHC strings in any order of parameters, with every parameter written out before
//! any library reads them, because libraries fill in what is missing.

use argon2::{Algorithm, AssociatedData, Params, Version};
use subtle::ConstantTimeEq;

use super::{
    Refusal,
    application_secret::{Secret, with_secret},
    text::{base64, bounded, to_base64, within},
};
use crate::passwords::{
    Argon2Cost, MAX_STORED_MEMORY_KIB, MAX_STORED_WORK_KIB,
    argon2id::{Argon2Input, HashingMemory},
    error::HashingError,
};

const MAX_ITERATIONS: u32 = 10;
const MAX_PARALLELISM: u32 = 16;
const SALT_BYTES: std::ops::RangeInclusive<usize> = 8..=48;
const HASH_BYTES: [usize; 6] = [16, 20, 24, 32, 48, 64];
const MAX_DATA: usize = 32;

/// An Argon2 hash without our pepper, possibly with a foreign one.
pub(super) struct Argon2Hash {
    algorithm: Algorithm,
    version: Version,
    params: Params,
    salt: Vec<u8>,
    hash: Vec<u8>,
    secret: Option<Secret>,
}

/// The parts of a hash before they are checked against each other.
pub(super) struct Fields {
    /// `argon2d`, `argon2i` or `argon2id`.
    pub variant: String,
    /// 16 or 19.
    pub version: u32,
    pub memory_kib: u32,
    pub iterations: u32,
    pub parallelism: u32,
    pub data: Vec<u8>,
    pub salt: Option<Vec<u8>>,
    pub hash: Option<Vec<u8>>,
}

impl Argon2Hash {
    /// `$argon2id$v=19$m=65536,t=3,p=4$<salt>$<hash>`. Without `v=` the version is 0x10, as in the reference decoder.
    pub fn parse(text: &str, secret: Option<Secret>) -> Result<Self, Refusal> {
        let malformed = |reason| Refusal::malformed(format!("argon2: {reason}"));
        let mut fields: Vec<&str> = text.split('$').skip(1).collect();
        let version = match fields.get(1).and_then(|field| field.strip_prefix("v=")) {
            None | Some("16") => 16,
            Some("19") => 19,
            Some(_) => return Err(malformed("an unknown version")),
        };
        if fields.get(1).is_some_and(|field| field.starts_with("v=")) {
            fields.remove(1);
        }
        let [variant, cost, salt, hash] = fields[..] else {
            return Err(malformed("a field is missing or too many"));
        };
        let mut values = [None; 4];
        for field in cost.split(',') {
            let (name, value) = field
                .split_once('=')
                .ok_or_else(|| malformed("a garbled parameter"))?;
            let n = ["m", "t", "p", "data"]
                .iter()
                .position(|&known| known == name);
            let n =
                n.ok_or_else(|| malformed("an unknown parameter, or the key id of a pepper"))?;
            if values[n].replace(value).is_some() {
                return Err(malformed("a parameter is given twice"));
            }
        }
        let [Some(memory), Some(iterations), Some(parallelism), data] = values else {
            return Err(malformed("a parameter is missing"));
        };
        let fields = Fields {
            variant: variant.to_owned(),
            version,
            memory_kib: bounded(
                memory,
                "the memory of argon2 in KiB",
                8,
                MAX_STORED_MEMORY_KIB,
            )?,
            iterations: bounded(iterations, "the passes of argon2", 1, MAX_ITERATIONS)?,
            parallelism: bounded(parallelism, "the lanes of argon2", 1, MAX_PARALLELISM)?,
            data: base64(data.unwrap_or_default())
                .filter(|bytes| data.is_none() || !bytes.is_empty())
                .ok_or_else(|| malformed("the associated data is not Base64"))?,
            salt: base64(salt),
            hash: base64(hash),
        };
        Self::new(fields, secret)
    }

    pub fn new(fields: Fields, secret: Option<Secret>) -> Result<Self, Refusal> {
        let malformed = |reason| Refusal::malformed(format!("argon2: {reason}"));
        let algorithm = match fields.variant.as_str() {
            "argon2d" => Algorithm::Argon2d,
            "argon2i" => Algorithm::Argon2i,
            "argon2id" => Algorithm::Argon2id,
            _ => return Err(malformed("an unknown variant")),
        };
        let version = Version::try_from(fields.version);
        let version = version.map_err(|_| malformed("an unknown version"))?;
        let cost = Argon2Cost {
            memory_kib: within(
                fields.memory_kib,
                "the memory of argon2 in KiB",
                8,
                MAX_STORED_MEMORY_KIB,
            )?,
            iterations: within(fields.iterations, "the passes of argon2", 1, MAX_ITERATIONS)?,
            parallelism: within(
                fields.parallelism,
                "the lanes of argon2",
                1,
                MAX_PARALLELISM,
            )?,
        };
        if cost.memory_kib < 8 * cost.parallelism {
            return Err(malformed("less than 8 KiB of memory for each lane"));
        }
        if cost.work_kib() > MAX_STORED_WORK_KIB {
            return Err(Refusal::too_costly(
                "argon2: memory times passes is above 1 GiB",
            ));
        }
        let salt = fields.salt.filter(|salt| SALT_BYTES.contains(&salt.len()));
        let salt = salt.ok_or_else(|| malformed("the salt is not Base64 of 8 to 48 bytes"))?;
        let hash = fields.hash.filter(|hash| HASH_BYTES.contains(&hash.len()));
        let hash = hash.ok_or_else(|| malformed("the hash is cut or not canonical Base64"))?;
        if fields.data.len() > MAX_DATA {
            return Err(malformed("the associated data is too long"));
        }
        let data = AssociatedData::new(&fields.data);
        let params = cost
            .builder()
            .data(data.map_err(|_| malformed("the associated data is too long"))?)
            .output_len(hash.len())
            .build()
            .map_err(|_| malformed("parameters that Argon2 does not accept"))?;
        Ok(Self {
            algorithm,
            version,
            params,
            salt,
            hash,
            secret,
        })
    }

    pub fn canonical(&self) -> String {
        let (algorithm, version) = (self.algorithm.as_str(), u32::from(self.version));
        let Argon2Cost {
            memory_kib,
            iterations,
            parallelism,
        } = self.cost();
        let [salt, hash] = [&self.salt, &self.hash].map(|bytes| to_base64(bytes));
        let data = match self.params.data() {
            [] => String::new(),
            data => format!(",data={}", to_base64(data)),
        };
        let phc = format!(
            "${algorithm}$v={version}$m={memory_kib},t={iterations},p={parallelism}{data}${salt}${hash}"
        );
        match &self.secret {
            None => phc,
            Some(secret) => with_secret(secret, &phc),
        }
    }

    pub const fn cost(&self) -> Argon2Cost {
        Argon2Cost::of(&self.params)
    }

    pub fn verify(
        &self,
        password: &[u8],
        memory: &mut HashingMemory,
    ) -> Result<bool, HashingError> {
        let mut output = vec![0; self.hash.len()];
        let input = Argon2Input {
            algorithm: self.algorithm,
            version: self.version,
            params: &self.params,
            password,
            salt: &self.salt,
            secret: self.secret.as_ref().map_or(&[], |secret| secret.expose()),
        };
        memory.hash(input, &mut output)?;
        Ok(output.ct_eq(&self.hash).into())
    }
}
