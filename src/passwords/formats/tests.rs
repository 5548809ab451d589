//! The vectors that real libraries made, and what no reader may do with any text.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::passwords::HashingBackend;

const VECTORS: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/vectors/password-hashes.jsonl"
));

/// One line; see `tests/vectors/README.md`.
#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the members of the file")]
struct Line {
    source: String,
    algorithm: String,
    password: String,
    hash: String,
    matches: bool,
    #[serde(default)]
    rejects: bool,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    weak: bool,
    cost: Option<String>,
    pepper: Option<String>,
    secret: Option<String>,
    signer_key: Option<String>,
    salt: Option<String>,
    salt_separator: Option<String>,
    rounds: Option<u32>,
    mem_cost: Option<u32>,
    iterations: Option<String>,
    salt_bytes: Option<String>,
    prf: Option<String>,
}

impl Line {
    /// The text that an importer is given: `docs/import.md` says how to put what stands beside a hash into it.
    fn text(&self) -> String {
        let secret = self.pepper.as_ref().or(self.secret.as_ref());
        let with_secret = |secret: &[u8], hash: &str| {
            format!("$with-secret${}{hash}", STANDARD_NO_PAD.encode(secret))
        };
        match self {
            Self {
                mem_cost: Some(n),
                rounds: Some(r),
                ..
            } => {
                let part = |part: &Option<String>| part.clone().unwrap();
                let (separator, key) = (part(&self.salt_separator), part(&self.signer_key));
                let (salt, hash) = (part(&self.salt), &self.hash);
                format!("$fbscrypt$v=1,n={n},r={r},p=1,ss={separator},sk={key}${salt}${hash}")
            }
            Self {
                signer_key: Some(key),
                ..
            } => with_secret(&text::base64_padded(key).unwrap(), &self.hash),
            Self {
                prf: Some(prf),
                iterations: Some(i),
                salt_bytes: Some(s),
                hash,
                ..
            } => {
                let digest = prf.strip_prefix("hmac-").unwrap();
                let encoder = format!("$spring-pbkdf2$h={digest},i={i},s={s}${hash}");
                secret.map_or(encoder.clone(), |secret| {
                    with_secret(secret.as_bytes(), &encoder)
                })
            }
            Self { hash, .. } if self.algorithm == "md5 hex" => format!("$md5-hex${hash}"),
            Self { hash, .. } => match secret {
                Some(secret) => with_secret(secret.as_bytes(), hash),
                None => hash.clone(),
            },
        }
    }

    /// One of the formats that are left out; `docs/import.md` names them.
    fn is_left_out(&self) -> bool {
        let left_out = ["$gy$", "$1$", "$md5,"];
        self.optional && left_out.iter().any(|start| self.hash.starts_with(start))
    }
}

fn lines() -> Vec<Line> {
    VECTORS
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn memory() -> HashingMemory {
    HashingMemory::new(HashingBackend::detect())
}

/// The number of the line and enough to find the format; never the hash.
fn named(n: usize, line: &Line) -> String {
    format!("line {}: {}, {}", n + 1, line.source, line.algorithm)
}

#[test]
fn every_line_is_accepted_or_refused_as_it_says() {
    let mut faults = Vec::new();
    let lines = lines();
    assert_eq!(lines.len(), 465);
    for (n, line) in lines.iter().enumerate() {
        match accept(&line.text()) {
            Err(refusal) if !line.rejects && !line.is_left_out() => {
                faults.push(format!("{}: refused: {refusal}", named(n, line)));
            }
            Err(refusal) => assert!(refusal.to_string().len() > 10, "{}", named(n, line)),
            Ok(_) if line.rejects || line.is_left_out() => {
                faults.push(format!("{}: accepted", named(n, line)));
            }
            Ok(stored) => {
                assert!(
                    !line.weak || stored.is_weak(),
                    "{}: not weak",
                    named(n, line)
                );
                let again = accept(stored.canonical().expose()).unwrap();
                assert_eq!(
                    again.canonical().expose(),
                    stored.canonical().expose(),
                    "{}",
                    named(n, line)
                );
                assert_eq!(again.effort(), stored.effort(), "{}", named(n, line));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_password_is_judged_as_the_library_judges_it_that_made_the_hash() {
    let lines = lines();
    let accepted: Vec<_> = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| !line.rejects && !line.is_left_out())
        .collect();
    let judge = |part: &[(usize, &Line)]| {
        let mut memory = memory();
        let mut faults = Vec::new();
        for (n, line) in part {
            let stored = accept(&line.text()).unwrap();
            // What is stored is verified, not what was imported.
            let stored = accept(stored.canonical().expose()).unwrap();
            let matches = stored.verify(&line.password, &mut memory).unwrap();
            if matches != line.matches {
                faults.push(named(*n, line));
            }
        }
        faults
    };
    let faults: Vec<_> = std::thread::scope(|scope| {
        let parts = accepted.chunks(accepted.len().div_ceil(2));
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || judge(part))).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_wrong_password_never_matches() {
    let (mut memory, mut seen) = (memory(), BTreeSet::new());
    for (n, line) in lines().iter().enumerate() {
        let cheap = !line.rejects
            && !line.is_left_out()
            && line.cost.is_none()
            && seen.insert(line.algorithm.clone());
        if cheap {
            let stored = accept(&line.text()).unwrap();
            let wrong = stored
                .verify("not the password of anyone", &mut memory)
                .unwrap();
            assert!(!wrong, "{}", named(n, line));
        }
    }
}

#[test]
fn a_refusal_never_repeats_the_hash() {
    for line in lines()
        .iter()
        .filter(|line| line.rejects && line.hash.len() > 20)
    {
        let refusal = accept(&line.text()).unwrap_err().to_string();
        let salt = line.hash.split('$').next_back().unwrap();
        assert!(salt.len() < 8 || !refusal.contains(salt), "{refusal}");
    }
}

#[test]
fn a_refusal_tells_its_kind() {
    for (text, kind) in [
        ("", RefusalKind::NoPassword),
        ("!", RefusalKind::NoPassword),
        ("*", RefusalKind::NoPassword),
        ("!$6$saltsalt$abc", RefusalKind::NoPassword),
        ("********", RefusalKind::NoPassword),
        ("{noop}swordfish", RefusalKind::PlainText),
        ("{foo}bar", RefusalKind::Unknown),
        ("null", RefusalKind::Unknown),
        ("9cc2ae8a1ba7a93da39b46fc1019c481", RefusalKind::Unknown),
        ("$1$saltsalt$abc", RefusalKind::NotSupported),
        (
            "$2b$16$k53lZqEDFgctLxUgSv4o7egyQSus8aoKpJkLslcuup6TAcQc99/fS",
            RefusalKind::TooCostly,
        ),
        (
            "$2b$04$k53lZqEDFgctLxUgSv4o7egyQSus8aoKpJkLslcuup6TAcQc99/f",
            RefusalKind::Malformed,
        ),
    ] {
        assert_eq!(accept(text).unwrap_err().kind, kind, "{text}");
    }
}

#[test]
fn debug_is_redacted() {
    let stored = accept("$2b$04$k53lZqEDFgctLxUgSv4o7egyQSus8aoKpJkLslcuup6TAcQc99/fS").unwrap();
    assert_eq!(format!("{stored:?}"), "StoredHash([redacted])");
}

#[test]
fn own_work_and_padding_add_up_to_the_most_expensive_work() {
    let mut most = MostWork::default();
    let bcrypt = |amount| Work {
        function: Function::Bcrypt,
        amount,
    };
    let pbkdf2 = Work {
        function: Function::Pbkdf2Sha256,
        amount: 29_000,
    };
    most.note(bcrypt(1 << 10));
    most.note(bcrypt(1 << 12));
    most.note(bcrypt(1 << 4));
    most.note(pbkdf2);
    assert_eq!(most.remaining(None), [bcrypt(1 << 12), pbkdf2]);
    assert_eq!(most.remaining(Some(pbkdf2)), [bcrypt(1 << 12)]);
    let rest = bcrypt((1 << 12) - (1 << 10));
    assert_eq!(most.remaining(Some(bcrypt(1 << 10))), [rest, pbkdf2]);
    assert_eq!(work::powers_of_two(rest.amount, 4, 15), [11, 10]);
    most.note(bcrypt(1 << 15));
    assert_eq!(
        most.remaining(None)[0],
        bcrypt(1 << 14),
        "above what everybody pays"
    );
}

#[test]
fn every_function_has_a_name_and_can_be_padded() {
    for name in [
        "bcrypt",
        "pbkdf2-sha1",
        "pbkdf2-sha256",
        "pbkdf2-sha512",
        "scrypt",
        "sha256-crypt",
        "sha512-crypt",
        "phpass-md5",
        "phpass-sha512",
        "yescrypt",
    ] {
        let function = Function::of_name(name).unwrap();
        assert_eq!(function.name(), name);
        for amount in [0, 1, 1_000, 1_100] {
            discard(Work { function, amount }, "a password").unwrap();
        }
    }
    assert_eq!(Function::of_name("rot13"), None);
}

/// A line of the vectors with a few characters changed, cut or doubled.
fn damaged() -> impl Strategy<Value = String> {
    let texts: Vec<String> = lines().iter().map(Line::text).collect();
    let change = (any::<prop::sample::Index>(), 0..3_u8, "[ -~é]");
    (
        prop::sample::select(texts),
        prop::collection::vec(change, 1..4),
    )
        .prop_map(|(text, changes)| {
            let mut characters: Vec<char> = text.chars().collect();
            for (place, kind, new) in changes {
                if characters.is_empty() {
                    break;
                }
                let place = place.index(characters.len());
                match kind {
                    0 => characters[place] = new.chars().next().unwrap_or('$'),
                    1 => characters.truncate(place),
                    _ => characters.insert(place, characters[place]),
                }
            }
            characters.into_iter().collect()
        })
}

#[test]
fn a_name_without_a_hash_behind_it_is_refused() {
    for name in [
        "2a",
        "2y",
        "argon2id",
        "f_scrypt",
        "spring-pbkdf2",
        "wp",
        "bcrypt-sha256",
        "pbkdf2",
        "pbkdf2-sha256",
        "scrypt",
        "7",
        "fbscrypt",
        "5",
        "6",
        "y",
        "P",
        "H",
        "S",
        "md5-hex",
        "sha1-hex",
        "sha256-hex",
        "sha512-hex",
        "e0801",
        "1",
        "",
    ] {
        for text in [
            format!("${name}"),
            format!("${name}$"),
            format!("${name}$$"),
        ] {
            assert!(accept(&text).is_err(), "{text}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_reader_never_panics_and_a_hash_has_one_spelling(text in prop_oneof![damaged(), "\\PC{0,80}", "[$a-z0-9=,./{}:]{0,80}"]) {
        if let Ok(stored) = accept(&text) {
            let canonical = stored.canonical();
            let again = accept(canonical.expose()).expect("its own spelling").canonical();
            prop_assert_eq!(again.expose(), canonical.expose());
        }
    }
}
