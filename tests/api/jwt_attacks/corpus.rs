//! The forged tokens, by kind. Some need only what every caller has: a valid token, the public keys, keys
//! of their own. Others are signed with the server's key, as a bug elsewhere might do.

use aws_lc_rs::hmac::{HMAC_SHA256, HMAC_SHA384, HMAC_SHA512};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Attack, attack};
use crate::support::forge::{Forge, Key, message};

/// All forged tokens.
pub fn all(forge: &Forge) -> Vec<Attack> {
    [
        public_key_as_mac_secret(forge),
        unsigned(forge),
        wrong_algorithms(forge),
        foreign_keys(forge),
        wrong_key_ids(forge),
        headers(forge),
        claims(forge),
        numbers(forge),
        payloads(forge),
        shapes(forge),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The public key used as the secret of a MAC (RFC 8725 section 2.1).
fn public_key_as_mac_secret(forge: &Forge) -> Vec<Attack> {
    let macs = [
        ("HS256", HMAC_SHA256),
        ("HS384", HMAC_SHA384),
        ("HS512", HMAC_SHA512),
    ];
    let mut attacks = Vec::new();
    for (name, algorithm) in macs {
        for (form, secret) in forge.key.public_as_secrets().iter().enumerate() {
            for called in [name, forge.algorithm()] {
                let header = forge.header_with(&json!({"alg": called}));
                let token = forge.mac(algorithm, secret, &header);
                attacks.push(attack(
                    format!("{name} called {called}, secret {form}"),
                    token,
                ));
            }
        }
        let header = forge.header_with(&json!({"alg": name}));
        let token = forge.mac(algorithm, forge.kid.as_bytes(), &header);
        attacks.push(attack(format!("{name} with the kid as secret"), token));
    }
    attacks
}

fn unsigned(forge: &Forge) -> Vec<Attack> {
    let [header, payload, signature] = forge.parts();
    let mut attacks = vec![
        attack("no signature", format!("{header}.{payload}.")),
        attack("no signature, no dot", format!("{header}.{payload}")),
        attack(
            "zeros for a signature",
            format!("{header}.{payload}.{}", "A".repeat(signature.len())),
        ),
        attack(
            "half a signature",
            format!("{header}.{payload}.{}", &signature[..signature.len() / 2]),
        ),
        attack(
            "two signatures",
            format!("{header}.{payload}.{signature}{signature}"),
        ),
    ];
    // Every combination of upper and lower case, and look-alikes.
    let variants = (0..16_u8).map(|bits| {
        let letters = "none".char_indices();
        letters
            .map(|(i, c)| {
                if bits >> i & 1 == 1 {
                    c.to_ascii_uppercase()
                } else {
                    c
                }
            })
            .collect::<String>()
    });
    let others = [
        "",
        " none",
        "none ",
        "none\0",
        "n\u{f8}ne",
        "\u{ff4e}one",
        "null",
        "undefined",
        "plain",
    ];
    for variant in variants.chain(others.map(str::to_owned)) {
        let changed = forge.header_with(&json!({"alg": variant}));
        let message = forge.message(&changed);
        attacks.push(attack(
            format!("alg {variant:?}, empty signature"),
            format!("{message}."),
        ));
        attacks.push(attack(format!("alg {variant:?}, no dot"), message.clone()));
        attacks.push(attack(
            format!("alg {variant:?}, old signature"),
            format!("{message}.{signature}"),
        ));
        let signed = forge.sign(changed, &forge.claims);
        attacks.push(attack(format!("alg {variant:?}, signed by us"), signed));
    }
    attacks
}

/// Another algorithm in the header than that of the key (RFC 8725 section 3.1).
fn wrong_algorithms(forge: &Forge) -> Vec<Attack> {
    const NAMES: [&str; 27] = [
        "HS256",
        "HS384",
        "HS512",
        "RS1",
        "RS256",
        "RS384",
        "RS512",
        "PS256",
        "PS384",
        "PS512",
        "ES256",
        "ES256K",
        "ES384",
        "ES512",
        "EdDSA",
        "Ed25519",
        "Ed448",
        "ESP256",
        "ML-DSA-44",
        "RSA-OAEP",
        "dir",
        "A256GCMKW",
        "eddsa",
        "ed25519",
        "EDDSA",
        "EdDSA ",
        "EdDSA\0",
    ];
    let mut attacks = Vec::new();
    for name in NAMES
        .iter()
        .filter(|name| !forge.key.names().contains(name))
    {
        let header = forge.header_with(&json!({"alg": name}));
        attacks.push(attack(
            format!("our key called {name:?}"),
            forge.sign(header, &forge.claims),
        ));
    }
    let mistyped = [
        json!([forge.algorithm()]),
        json!({"alg": forge.algorithm()}),
        json!(1),
        json!(true),
    ];
    for alg in mistyped.into_iter().chain([Value::Null]) {
        let header = forge.header_with(&json!({"alg": alg}));
        attacks.push(attack(
            format!("alg {alg}"),
            forge.sign(header, &forge.claims),
        ));
    }
    attacks
}

fn foreign_keys(forge: &Forge) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for algorithm in ["EdDSA", "ES256", "RS256", "PS256"] {
        let theirs = Key::of_an_attacker(algorithm);
        for called in [algorithm, forge.algorithm()] {
            for (name, changes) in [
                ("our kid", json!({})),
                ("a kid of their own", json!({"kid": "attacker"})),
                ("no kid", json!({"kid": null})),
                ("jwk", json!({"jwk": theirs.jwk()})),
                ("jwk, no kid", json!({"jwk": theirs.jwk(), "kid": null})),
                ("jku", json!({"jku": "https://attacker.example/jwks.json"})),
                ("x5u", json!({"x5u": "https://attacker.example/cert.pem"})),
                (
                    "x5c",
                    json!({"x5c": ["MIIBszCCAVmgAwIBAgIUQ"], "x5t#S256": "AA"}),
                ),
            ] {
                let mut header = forge.header_with(&changes);
                header["alg"] = json!(called);
                let token = forge.sign_with(&theirs, algorithm, &header);
                attacks.push(attack(
                    format!("{algorithm} called {called}, {name}"),
                    token,
                ));
            }
        }
    }
    attacks
}

/// Signed with our key: only the `kid` is wrong.
fn wrong_key_ids(forge: &Forge) -> Vec<Attack> {
    let kid = &forge.kid;
    let names = [
        json!(""),
        json!("' OR '1'='1"),
        json!("' UNION SELECT 'key' --"),
        json!("x'; DROP TABLE signing_keys; --"),
        json!("%"),
        json!("_"),
        json!("*"),
        json!("../../../../etc/passwd"),
        json!("/dev/null"),
        json!("file:///dev/null"),
        json!("http://attacker.example/key"),
        json!("|id"),
        json!("$(id)"),
        json!("`id`"),
        json!("{{7*7}}"),
        json!("\0"),
        json!(format!("{kid}\0")),
        json!(format!(" {kid}")),
        json!(format!("{kid} ")),
        json!(format!("{kid}=")),
        json!(format!("./{kid}")),
        json!(kid.to_lowercase()),
        json!(&kid[1..]),
        json!(format!("{kid}{kid}")),
        json!("0"),
        json!(0),
        json!(1),
        json!([kid]),
        json!({"kid": kid}),
        json!(true),
        json!(null),
        json!("\u{202e}"),
        json!("k".repeat(4_000)),
    ];
    let names = names.into_iter().map(|name| {
        let header = forge.header_with(&json!({"kid": name}));
        attack(format!("kid {name}"), forge.sign(header, &forge.claims))
    });
    names.collect()
}

/// Signed with our key: the header is not that of an access token.
fn headers(forge: &Forge) -> Vec<Attack> {
    let mut attacks = Vec::new();
    let types = [
        json!("JWT"),
        json!("jwt"),
        json!("AT+JWT"),
        json!("At+Jwt"),
        json!("at+jwt "),
        json!("application/at+jwt"),
        json!("id+jwt"),
        json!("logout+jwt"),
        json!("dpop+jwt"),
        json!("secevent+jwt"),
        json!("refresh+jwt"),
        json!(""),
        json!(["at+jwt"]),
        json!(1),
        json!(null),
    ];
    for typ in types {
        let header = forge.header_with(&json!({"typ": typ}));
        attacks.push(attack(
            format!("typ {typ}"),
            forge.sign(header, &forge.claims),
        ));
    }
    for changes in [
        json!({"crit": []}),
        json!({"crit": ["exp"]}),
        json!({"crit": ["b64"], "b64": false}),
        json!({"crit": "exp"}),
        json!({"crit": ["alg"]}),
        json!({"crit": {}}),
        json!({"crit": false}),
        json!({"crit": ["http://attacker.example"], "http://attacker.example": true}),
    ] {
        let header = forge.header_with(&changes);
        attacks.push(attack(
            format!("header {changes}"),
            forge.sign(header, &forge.claims),
        ));
    }
    let (header, claims) = (forge.header.to_string(), forge.claims.to_string());
    let inner = &header[1..header.len() - 1];
    let (alg, kid) = (forge.algorithm(), &forge.kid);
    for text in [
        format!("{{{inner},\"crit\":null}}"),
        format!("{{\"alg\":\"none\",{inner}}}"),
        format!("{{{inner},\"alg\":\"{alg}\"}}"),
        format!("{{{inner},\"kid\":\"{kid}\"}}"),
        format!("{{{inner},\"typ\":\"JWT\"}}"),
        format!("{{{inner},\"\\u0061lg\":\"none\"}}"),
        format!("[\"{alg}\",\"at+jwt\",\"{kid}\"]"),
        format!("[\"{alg}\",\"at+jwt\",\"{kid}\",null]"),
        format!("[{header}]"),
        format!("\"{}\"", header.replace('"', "\\\"")),
        format!("{header}{header}"),
        format!("{header},"),
        format!("{header}\0"),
        format!("\u{feff}{header}"),
        header.replace('"', "'"),
        header.replace(':', "="),
        format!("{{{inner},}}"),
        format!("{{{inner},\"x\":NaN}}"),
        format!("{{{inner},\"x\":{}", "[".repeat(4_000)),
        format!("{{{inner},\"x\":{}", "{\"x\":".repeat(500)),
        format!("/* */{header}"),
        "{}".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "true".to_owned(),
        "0".to_owned(),
        "\"\"".to_owned(),
        String::new(),
        "{".to_owned(),
        "[".repeat(4_000),
        "{\"a\":".repeat(800),
    ] {
        attacks.push(attack(
            format!("header {}", excerpt(&text)),
            forge.sign(text, &claims),
        ));
    }
    attacks
}

/// Signed with our key: the claims are not those of an access token.
fn claims(forge: &Forge) -> Vec<Attack> {
    let mut attacks = Vec::new();
    let mut changed = |changes: Value| {
        let payload = forge.claims_with(&changes);
        attacks.push(attack(
            format!("claims {changes}"),
            forge.sign(&forge.header, payload),
        ));
    };
    for name in [
        "iss",
        "sub",
        "aud",
        "exp",
        "iat",
        "jti",
        "sid",
        "roles",
        "client_id",
    ] {
        changed(json!({name: null}));
        for wrong in [
            json!({}),
            json!({"x": 1}),
            json!(true),
            json!(1.5),
            json!([1]),
            json!([[]]),
            json!([null]),
        ] {
            changed(json!({name: wrong}));
        }
    }
    for name in ["iss", "sub", "jti", "sid", "client_id"] {
        changed(json!({name: 1}));
        changed(json!({name: [forge.claims[name]]}));
    }
    for name in ["sub", "jti", "sid"] {
        let id = forge.claims[name].as_str().unwrap();
        let plain = id.replace('-', "");
        for shape in [
            "",
            "0",
            "admin",
            "ada@example.org",
            "' OR 1=1 --",
            "\0",
            &format!("{{{id}}}"),
            &format!("urn:uuid:{id}"),
            &plain,
            &format!(" {id}"),
            &format!("{id}\0"),
            &id[1..],
            &format!("{id}0"),
            &id.replace('0', "g"),
            &"x".repeat(3_000),
        ] {
            changed(json!({name: shape}));
        }
    }
    for foreign in [
        json!({"iss": ""}),
        json!({"iss": "https://attacker.example"}),
        json!({"iss": "HTTP://LOCALHOST:50051"}),
        json!({"iss": "http://localhost:50051/"}),
        json!({"iss": "http://localhost:50051\0"}),
        json!({"aud": ""}),
        json!({"aud": []}),
        json!({"aud": "somebody"}),
        json!({"aud": ["somebody", "else"]}),
        json!({"aud": "Countersign"}),
        json!({"aud": "countersign "}),
        json!({"aud": [["countersign"]]}),
        json!({"aud": {"countersign": true}}),
        json!({"aud": ["countersign", 1]}),
        json!({"roles": "admin"}),
        json!({"roles": {"admin": true}}),
        json!({"roles": ["admin", 1]}),
        json!({"exp": "1800000900"}),
        json!({"exp": u64::MAX}),
        json!({"exp": [1]}),
        json!({"iat": "0"}),
    ] {
        changed(foreign);
    }
    attacks
}

/// Signed with our key: values of `exp` that are no valid NumericDate.
fn numbers(forge: &Forge) -> Vec<Attack> {
    let mut attacks = Vec::new();
    let (header, good) = (forge.header.to_string(), forge.claims.to_string());
    let exp = forge.claims["exp"].to_string();
    for number in [
        "1e400",
        "-1e400",
        "1e10",
        "9223372036854775808",
        "-9223372036854775809",
        "1.0",
        "NaN",
        "Infinity",
        "-",
        "0x7fffffff",
        "01",
        "+1",
        "1_000",
        "",
        &"9".repeat(4_000),
        &format!("1e{}", "9".repeat(400)),
    ] {
        let payload = good.replace(&exp, number);
        attacks.push(attack(
            format!("exp {}", excerpt(number)),
            forge.sign(&header, payload),
        ));
    }
    attacks
}

/// Signed with our key: the payload is not a JSON object with unique members.
fn payloads(forge: &Forge) -> Vec<Attack> {
    let mut attacks = Vec::new();
    let (header, good) = (forge.header.to_string(), forge.claims.to_string());
    let exp = forge.claims["exp"].to_string();
    let inner = &good[1..good.len() - 1];
    let values: Vec<String> = forge
        .claims
        .as_object()
        .unwrap()
        .values()
        .map(ToString::to_string)
        .collect();
    for text in [
        format!("{{{inner},\"exp\":{exp}}}"),
        format!("{{{inner},\"sub\":{}}}", forge.claims["sub"]),
        format!("{{{inner},\"\\u0073ub\":{}}}", forge.claims["sub"]),
        format!("{{\"aud\":[],{inner}}}"),
        format!("{{\"iss\":\"https://attacker.example\",{inner}}}"),
        format!("{{{inner},\"roles\":[\"admin\"]}}"),
        // The order in which the server's type has them, and the order of their names.
        format!(
            "[{},{},{},{},{},{},{},{},{}]",
            forge.claims["iss"],
            forge.claims["sub"],
            forge.claims["aud"],
            forge.claims["exp"],
            forge.claims["iat"],
            forge.claims["jti"],
            forge.claims["sid"],
            forge.claims["roles"],
            forge.claims["client_id"]
        ),
        format!("[{}]", values.join(",")),
        format!("[{good}]"),
        format!("{good}{good}"),
        format!("{good} x"),
        format!("{good}\0"),
        format!("\u{feff}{good}"),
        good.replace('"', "'"),
        format!("{{{inner},\"x\":{}", "[".repeat(4_000)),
        good.replace(
            "[\"countersign\"]",
            &format!("{}{}", "[".repeat(2_000), "]".repeat(2_000)),
        ),
        format!("{{{inner},\"x\":\"\\ud800\"}}").replace("\"sub\"", "\"\\ud800\""),
        "{}".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        String::new(),
        "[".repeat(4_000),
        "{\"a\":".repeat(800),
        good.clone() + &" ".repeat(8_000),
    ] {
        attacks.push(attack(
            format!("payload {}", excerpt(&text)),
            forge.sign(&header, text),
        ));
    }
    let mut bytes = good.clone().into_bytes();
    bytes.splice(2..2, [0xff, 0xfe]);
    let ignored = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.splice(1..1, *b"\"x\":\"\xff\",");
        bytes
    };
    for (name, header, payload) in [
        (
            "payload that is not UTF-8",
            header.clone().into_bytes(),
            bytes,
        ),
        (
            "ignored claim that is not UTF-8",
            header.clone().into_bytes(),
            ignored(&good),
        ),
        (
            "ignored header member that is not UTF-8",
            ignored(&header),
            good.into_bytes(),
        ),
    ] {
        let message = message(&header, &payload);
        let signature = forge.key.sign(forge.algorithm(), message.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature);
        attacks.push(attack(name, format!("{message}.{signature}")));
    }
    attacks
}

/// Texts that are not the compact serialisation of a JWS at all.
fn shapes(forge: &Forge) -> Vec<Attack> {
    let good = &forge.good;
    let [header, payload, signature] = forge.parts();
    let raw_payload = forge.claims.to_string();
    let detached = forge.header_with(&json!({"b64": false, "crit": ["b64"]}));
    let encoded_detached = URL_SAFE_NO_PAD.encode(detached.to_string());
    let unencoded = |payload: &str| {
        let message = format!("{encoded_detached}.{payload}");
        let signature = forge.key.sign(forge.algorithm(), message.as_bytes());
        URL_SAFE_NO_PAD.encode(signature)
    };
    // An encrypted token has five parts (RFC 7516); ours is put into each.
    let encrypted =
        json!({"alg": "dir", "enc": "A256GCM", "zip": "DEF", "kid": forge.kid, "typ": "at+jwt"});
    let encrypted = URL_SAFE_NO_PAD.encode(encrypted.to_string());
    let signatures = json!([{"protected": header, "signature": signature}]);
    let mut texts = vec![
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        "....".to_owned(),
        ".".repeat(9_000),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
        format!("{payload}.{header}.{signature}"),
        format!("{good}.{good}"),
        format!("{good}."),
        format!(".{good}"),
        format!("{header}.{header}.{payload}.{signature}"),
        format!("{encrypted}..AAAAAAAAAAAAAAAA.{payload}.AAAAAAAAAAAAAAAAAAAAAA"),
        format!("{encrypted}.{header}.AAAAAAAAAAAAAAAA.{payload}.{signature}"),
        format!("{header}.{payload}.{signature}.AAAA.AAAA"),
        json!({"protected": header, "payload": payload, "signature": signature}).to_string(),
        json!({"payload": payload, "signatures": signatures}).to_string(),
        format!(
            "{encoded_detached}.{raw_payload}.{}",
            unencoded(&raw_payload)
        ),
        format!("{encoded_detached}..{}", unencoded(&raw_payload)),
        format!("{encoded_detached}.{payload}.{}", unencoded(payload)),
        format!("Bearer {good}"),
        format!("bearer:{good}"),
        format!("\"{good}\""),
        format!("{good},{good}"),
        format!("{good}\0"),
        format!("\0{good}"),
        good.replace('.', "\u{3002}"),
        good.replace('.', "\u{2024}"),
        good.replace('.', "%2E"),
        good.replace('e', "\u{435}"),
        good.to_uppercase(),
        good.to_lowercase(),
        good.chars().rev().collect(),
        "\u{1f511}".repeat(100),
        "\u{202e}\u{feff}".to_owned(),
        format!("{header}.{}.{signature}", "A".repeat(8_000)),
        format!("{}.{payload}.{signature}", "A".repeat(1 << 15)),
        format!("{good}{}", "A".repeat(1 << 15)),
        good.repeat((1 << 15) / good.len()),
        "\u{fdfa}".repeat(15_000),
        "\0".repeat(1 << 15),
    ];
    let key = &forge.kid;
    texts.extend([
        key.clone(),
        format!("{key}.{key}.{key}"),
        "null".to_owned(),
        "undefined".to_owned(),
    ]);
    let named = texts
        .into_iter()
        .map(|text| attack(format!("shape {}", excerpt(&text)), text));
    named.collect()
}

/// The beginning and the end of a text.
fn excerpt(text: &str) -> String {
    let (first, last): (String, String) = (
        text.chars().take(30).collect(),
        text.chars().rev().take(30).collect(),
    );
    let last: String = last.chars().rev().collect();
    format!("{first:?} … {last:?} ({} bytes)", text.len())
}
