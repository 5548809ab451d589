//! Any other encoding of a valid token is refused, down to a single bit: caches and revocation lists of
//! other systems may identify a token by its text.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};

use super::{Attack, assert_all_refused, attack};
use crate::support::{Kind, TestDatabase, TestServer, forge::Forge};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_with_one_bit_flipped_is_refused() {
    for algorithm in ["EdDSA", "ES256", "RS256"] {
        let database = TestDatabase::create(Kind::Sqlite).await;
        let setting = [("COUNTERSIGN_SIGNING_ALGORITHM", algorithm)];
        let server = TestServer::start_with(&database, &setting).await;
        assert_flipped_bits_are_refused(&server).await;
    }
}

async fn assert_flipped_bits_are_refused(server: &TestServer) {
    let forge = Forge::of(server).await;
    let [header, payload, signature] = forge.parts();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let flipped = (0..signature.len() * 8).map(|bit| {
        let mut flipped = signature.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let flipped = URL_SAFE_NO_PAD.encode(flipped);
        attack(
            format!("bit {bit} flipped"),
            format!("{header}.{payload}.{flipped}"),
        )
    });
    let attacks: Vec<Attack> = flipped.collect();
    assert!(attacks.len() >= 512);
    // Before and after the valid token is in the cache.
    assert_all_refused(server, &attacks[..64]).await;
    server.validate(&forge.good).await.unwrap();
    assert_all_refused(server, &attacks).await;
    server.validate(&forge.good).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_with_one_character_replaced_is_refused() {
    let server = TestServer::start(&TestDatabase::create(Kind::Sqlite).await).await;
    let forge = Forge::of(&server).await;
    server.validate(&forge.good).await.unwrap();
    let replaced = forge.good.char_indices().map(|(at, c)| {
        let (before, after) = (&forge.good[..at], &forge.good[at + 1..]);
        let other = if c == 'A' { 'B' } else { 'A' };
        attack(
            format!("character {at} replaced"),
            format!("{before}{other}{after}"),
        )
    });
    let attacks: Vec<Attack> = replaced.collect();
    assert_all_refused(&server, &attacks).await;
    server.validate(&forge.good).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_encoding_of_a_valid_token_is_refused() {
    let server = TestServer::start(&TestDatabase::create(Kind::Sqlite).await).await;
    let forge = Forge::of(&server).await;
    for _ in 0..2 {
        // The second time, the valid token is in the cache.
        assert_all_refused(&server, &encodings(&forge)).await;
        server.validate(&forge.good).await.unwrap();
    }
}

/// Texts that a lenient decoder decodes to the same bytes.
fn encodings(forge: &Forge) -> Vec<Attack> {
    let mut attacks = Vec::new();
    let parts = forge.parts();
    for (at, part) in parts.into_iter().enumerate() {
        let mut add = |name: &str, text: String| {
            if text != part {
                let mut parts = parts.map(str::to_owned);
                parts[at] = text;
                attacks.push(attack(format!("part {at}: {name}"), parts.join(".")));
            }
        };
        let bytes = URL_SAFE_NO_PAD.decode(part).unwrap();
        add("padding", URL_SAFE.encode(&bytes));
        for padding in ["=", "==", "===", "%3D", "%3D%3D"] {
            add("padding", format!("{part}{padding}"));
            add("padding in front", format!("{padding}{part}"));
        }
        add("the other alphabet", STANDARD_NO_PAD.encode(&bytes));
        for space in [" ", "\t", "\n", "\r\n", "\u{a0}", "\u{200b}", "\0"] {
            let (front, back) = part.split_at(part.len() / 2);
            add("space in front", format!("{space}{part}"));
            add("space inside", format!("{front}{space}{back}"));
            add("space behind", format!("{part}{space}"));
        }
        for text in trailing_bits(part) {
            add("trailing bits", text);
        }
        add("a character more", format!("{part}A"));
    }
    // Signatures of Ed25519 and P-256 have 64 bytes: 4 bits of the last character are unused (2 bits with
    // RSA). Without unused bits in any part the test would be void.
    assert!(
        attacks
            .iter()
            .any(|attack| attack.name.contains("trailing bits"))
    );
    attacks
}

/// The encodings that differ only in the unused bits of the last character.
fn trailing_bits(part: &str) -> Vec<String> {
    let unused = match part.len() % 4 {
        2 => 4,
        3 => 2,
        _ => return Vec::new(),
    };
    let last = *part.as_bytes().last().unwrap();
    let value = ALPHABET.iter().position(|c| *c == last).unwrap();
    let others = (1..1 << unused).map(|bits| {
        let other = char::from(ALPHABET[value | bits]);
        format!("{}{other}", &part[..part.len() - 1])
    });
    others.collect()
}
