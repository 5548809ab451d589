//! The published cases, `vectors/verifier/*.json`: tokens made by another library, and what a verifier must say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use countersign_verifier::{Demand, Id, LocalVerifier, VerifyError};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct File {
    format: u32,
    issuer: String,
    audiences: Vec<String>,
    time_ms: u64,
    leeway_seconds: u64,
    jwks: Value,
    cases: Vec<Case>,
}

/// What is absent is as the file says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    source: String,
    #[serde(default)]
    rfc: Vec<String>,
    token: String,
    expect: String,
    audiences: Option<Vec<String>>,
    time_ms: Option<u64>,
    leeway_seconds: Option<u64>,
    jwks: Option<Value>,
    #[serde(default = "yes")]
    keys_are_current: bool,
    #[serde(default)]
    revocations: Vec<Revocation>,
    #[serde(default)]
    demand: Demanded,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revocation {
    session_id: Option<String>,
    user_id: Option<String>,
    not_before_time_ms: Option<u64>,
    expire_time_ms: u64,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Demanded {
    audience: Option<String>,
    required_roles: Vec<String>,
    max_auth_age_seconds: Option<u64>,
    acceptable_acrs: Vec<String>,
    client_certificate_sha256: Option<String>,
}

const fn yes() -> bool {
    true
}

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../vectors/verifier")
}

fn files() -> Vec<(String, File)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let is_json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        if is_json && name != "keys.json" {
            let text = fs::read_to_string(&path).unwrap();
            let file =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            files.push((name, file));
        }
    }
    files
}

fn demand(demanded: &Demanded) -> Demand {
    let mut demand = Demand::new();
    if let Some(audience) = &demanded.audience {
        demand = demand.audience(audience);
    }
    for role in &demanded.required_roles {
        demand = demand.role(role);
    }
    if let Some(seconds) = demanded.max_auth_age_seconds {
        demand = demand.max_auth_age(Duration::from_secs(seconds));
    }
    for acr in &demanded.acceptable_acrs {
        demand = demand.acceptable_acr(acr);
    }
    if let Some(hex) = &demanded.client_certificate_sha256 {
        let byte = |i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap();
        demand = demand.client_certificate_sha256(std::array::from_fn(byte));
    }
    demand
}

fn verdict(file: &File, case: &Case) -> &'static str {
    let audiences = case.audiences.as_ref().unwrap_or(&file.audiences);
    let leeway = case.leeway_seconds.unwrap_or(file.leeway_seconds);
    let mut verifier =
        LocalVerifier::new(&file.issuer, &audiences[0]).leeway(Duration::from_secs(leeway));
    for audience in &audiences[1..] {
        verifier = verifier.audience(audience);
    }
    let jwks = case.jwks.as_ref().unwrap_or(&file.jwks);
    verifier.set_jwks(&jwks.to_string()).unwrap();
    for one in &case.revocations {
        let end = time(one.expire_time_ms);
        let [session, user] = [&one.session_id, &one.user_id]
            .map(|id| id.as_ref().map(|id| id.parse::<Id>().unwrap()));
        match (session, user, one.not_before_time_ms) {
            (Some(id), None, None) => verifier.revoke_session(id, end),
            (None, Some(id), Some(from)) => verifier.revoke_user(id, time(from), end),
            _ => panic!("{}: a revocation is of a session or of a user", case.name),
        }
    }
    let now = time(case.time_ms.unwrap_or(file.time_ms));
    let demand = demand(&case.demand);
    let verdicts = [(); 2].map(|()| match verifier.verify_at(&case.token, &demand, now) {
        Ok(_) => "ACCEPT",
        // The feed tells of every key.
        Err(VerifyError::KeyUnknown) if case.keys_are_current => VerifyError::TokenInvalid.reason(),
        Err(error) => error.reason(),
    });
    assert_eq!(
        verdicts[0], verdicts[1],
        "{}: the second time, from the cache",
        case.name
    );
    verdicts[0]
}

#[test]
fn every_published_case_is_judged_as_published() {
    let mut wrong = Vec::new();
    for (name, file) in files() {
        assert_eq!(file.format, 1, "{name}");
        for case in &file.cases {
            let verdict = verdict(&file, case);
            if verdict != case.expect {
                let Case {
                    name: title,
                    source,
                    expect,
                    ..
                } = case;
                wrong.push(format!(
                    "{name}: {title} ({source}): {verdict}, not {expect}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn there_are_at_least_200_published_cases_and_every_verdict_is_among_them() {
    let cases: Vec<Case> = files()
        .into_iter()
        .flat_map(|(_, file)| file.cases)
        .collect();
    assert!(cases.len() >= 200, "{}", cases.len());
    let verdicts: BTreeSet<&str> = cases.iter().map(|case| case.expect.as_str()).collect();
    let expected = [
        "ACCEPT",
        "INSUFFICIENT_ROLE",
        "REVOCATION_STATE_STALE",
        "STEP_UP_REQUIRED",
        "TOKEN_EXPIRED",
        "TOKEN_INVALID",
        "TOKEN_MISSING",
        "TOKEN_REVOKED",
    ];
    assert_eq!(verdicts, BTreeSet::from(expected));
}

/// The rules in the table of README, each with the files that it names.
fn rules() -> BTreeMap<String, BTreeSet<String>> {
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    let rows = readme.lines().filter(|line| line.starts_with("| RFC "));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let names = cells[2]
            .split(',')
            .map(|name| format!("{}.json", name.trim()));
        (cells[0].to_owned(), names.collect())
    })
    .collect()
}

#[test]
fn every_rule_of_rfc_8725_section_3_and_rfc_9068_section_4_has_cases_and_stands_in_readme() {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut refused = BTreeSet::new();
    for (name, file) in files() {
        for case in file.cases {
            for rule in case.rfc {
                if case.expect != "ACCEPT" {
                    refused.insert(rule.clone());
                }
                found.entry(rule).or_default().insert(name.clone());
            }
        }
    }
    let rules = rules();
    for section in 1..=12 {
        let rule = format!("RFC 8725 3.{section}");
        assert!(rules.contains_key(&rule), "{rule} is not in README.md");
    }
    assert_eq!(rules, found, "README.md, and the cases");
    assert!(
        refused.iter().eq(rules.keys()),
        "no token is refused for one of {:?}",
        rules.keys()
    );
}
