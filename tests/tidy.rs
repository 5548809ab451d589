//! Checks the invariants of the architecture: which layer may use what, and that documents match the code.
//!
//! The tests read the sources as text, with comments and literals blanked: they are quick, and their
//! messages name a file and a line. To change a rule, change the constants beside it.

mod tidy_support;

use std::collections::{BTreeMap, BTreeSet};

use countersign::{
    config::{Config, DefaultValue, Variable},
    grpc::Reason,
};
use tidy_support::{Source, documents, imports::Imports, read, sources};

/// The layers, top to bottom. A layer may use those below it and no other.
const LAYERS: &[&str] = &[
    "main",
    "cli",
    "server",
    "grpc",
    "http",
    "tls",
    "auth",
    "import",
    "mail",
    "revocation",
    "workloads",
    "factors",
    "tokens",
    "passwords",
    "store",
    "domain",
    "telemetry",
    "config",
    "clock",
    "cores",
    "secret",
];

/// The only layers that `domain` may use of those below it.
const BELOW_DOMAIN: &[&str] = &["clock", "secret"];

/// Names that may be used only in certain layers.
const RESERVED: &[(&[&str], &[&str])] = &[
    (
        &[
            "tonic",
            "tonic_health",
            "tonic_prost",
            "tonic_reflection",
            "tonic_types",
            "prost",
            "prost_types",
            "pb",
        ],
        &["grpc", "server"],
    ),
    (&["diesel", "diesel_async", "diesel_migrations"], &["store"]),
    (&["std::env", "env::", "dotenvy", "envy"], &["config"]),
    (&["SystemTime::now", "Instant::now", "Utc::now"], &["clock"]),
];

/// Types that hold a secret, besides every type with a `Secret` inside.
const SECRETS: &[&str] = &[
    "Secret",
    "Password",
    "PasswordHash",
    "MasterKey",
    "MasterKeys",
    "DerivedKeys",
    "SigningKey",
    "RefreshToken",
    "Email",
];

const MAX_LINES: usize = 400;

#[test]
fn a_name_that_belongs_to_one_layer_is_used_in_no_other() {
    let mut broken = Vec::new();
    for source in sources(&["src"]) {
        for (names, layers) in RESERVED
            .iter()
            .filter(|(_, layers)| !layers.contains(&source.layer()))
        {
            for name in *names {
                let allowed = layers.join(" and ");
                broken.extend(
                    source
                        .lines_with(name)
                        .map(|place| format!("{place}: `{name}` belongs to {allowed}")),
                );
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn a_layer_uses_only_layers_below_it() {
    let height = |layer: &str| LAYERS.iter().position(|name| *name == layer);
    let mut broken = Vec::new();
    for source in sources(&["src"])
        .iter()
        .filter(|source| source.layer() != "lib")
    {
        let layer = source.layer();
        let Some(own) = height(layer) else {
            broken.push(format!(
                "{}: `{layer}` is not in LAYERS: add it at its height",
                source.path
            ));
            continue;
        };
        for (place, used) in source.crate_paths() {
            let allowed = used == layer
                || height(&used).is_some_and(|used| used > own)
                    && (layer != "domain" || BELOW_DOMAIN.contains(&used.as_str()));
            if !allowed {
                broken.push(format!("{place}: `{layer}` may not use `crate::{used}`"));
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn no_imports_between_files_form_a_cycle() {
    let mut cycles = Vec::new();
    for root in ["src", "verifier/src", "benches/load"] {
        let imports = Imports::of(root, &sources(&[root]));
        assert!(!imports.is_empty(), "no import was found in {root}");
        cycles.extend(imports.cycles());
    }
    assert_none(&cycles);
}

#[test]
fn no_file_has_unsafe_code() {
    let mut places: Vec<_> = sources(&[
        "src", "tests", "benches", "examples", "build.rs", "verifier",
    ])
    .iter()
    .flat_map(|source| {
        ["unsafe", "unsafe_code"].map(|name| source.lines_with(name).collect::<Vec<_>>())
    })
    .flatten()
    .collect();
    places.dedup();
    assert_none(&places);
}

#[test]
fn every_file_begins_with_its_purpose_and_has_at_most_400_lines() {
    let mut broken = Vec::new();
    let folders = [
        "src", "tests", "benches", "examples", "build.rs", "verifier",
    ];
    for source in sources(&folders) {
        if !source.text.starts_with("//!") {
            broken.push(format!(
                "{}: the first line should be `//! Why this file exists.`",
                source.path
            ));
        }
        let lines = source.text.lines().count();
        let is_product =
            source.path.starts_with("src/") || source.path.starts_with("verifier/src/");
        if is_product && lines > MAX_LINES {
            broken.push(format!(
                "{}: {lines} lines; split it by meaning ({MAX_LINES} at most)",
                source.path
            ));
        }
    }
    assert_none(&broken);
}

#[test]
fn every_file_belongs_to_a_module() {
    let sources = sources(&["src"]);
    let mut broken = Vec::new();
    for source in &sources {
        let module = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
        let Some((folder, name)) = module.rsplit_once('/') else {
            continue;
        };
        let (declared, by_path) = (format!("mod {name};"), format!("\"{name}.rs\""));
        let is_named = sources.iter().any(|other| {
            let beside = other
                .path
                .rsplit_once('/')
                .is_some_and(|(path, _)| path == folder);
            beside && (other.text.contains(&declared) || other.text.contains(&by_path))
        });
        if !is_named && !matches!(name, "main" | "lib") {
            broken.push(format!("{}: no `mod` names it", source.path));
        }
    }
    assert_none(&broken);
}

#[test]
fn no_secret_can_be_printed_or_serialised() {
    let sources = sources(&["src"]);
    let mut secrets: BTreeSet<String> = SECRETS.iter().map(ToString::to_string).collect();
    let mut broken = Vec::new();
    for item in sources.iter().flat_map(Source::types) {
        if item.body.contains("Secret<") {
            secrets.insert(item.name.clone());
        }
        if secrets.contains(&item.name) && item.attributes.contains("Serialize") {
            broken.push(format!(
                "{}: `{}` holds a secret and derives Serialize",
                item.place, item.name
            ));
        }
    }
    for source in &sources {
        for (name, forbidden) in secrets
            .iter()
            .flat_map(|name| [(name, "Display"), (name, "Serialize")])
        {
            let implementation = format!("{forbidden} for {name}");
            let places = source.lines_with(&implementation);
            broken.extend(places.map(|place| format!("{place}: a secret must not be {forbidden}")));
        }
    }
    assert_none(&broken);
}

#[test]
fn env_example_lists_every_variable_with_its_default() {
    let text = read(".env.example");
    let mut listed = Vec::new();
    let mut above = "";
    for line in text.lines() {
        let assignment = line
            .strip_prefix("# ")
            .and_then(|line| line.split_once('='));
        if let Some((name, value)) = assignment.filter(|(name, _)| is_name(name)) {
            assert!(
                above.starts_with("# "),
                "{name} in .env.example needs a comment on the line above it"
            );
            listed.push((name, value));
        }
        above = line;
    }
    let expected: Vec<_> = Config::VARIABLES
        .iter()
        .map(|variable| (variable.name, default_text(variable)))
        .collect();
    assert_eq!(
        listed, expected,
        ".env.example (left) and Config::VARIABLES (right) differ"
    );
}

#[test]
fn env_example_uncommented_is_the_default_configuration() {
    let text: String = read(".env.example")
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|line| is_assignment(line))
                .unwrap_or(line)
                .to_owned()
                + "\n"
        })
        .collect();
    let vars: Vec<(String, String)> = dotenvy::from_read_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .expect(".env.example is well-formed");
    assert_eq!(vars.len(), Config::VARIABLES.len());
    let configured = Config::from_vars(vars).expect("the defaults are accepted");
    let default = Config::from_vars([]).expect("every variable has a default");
    assert_eq!(format!("{configured:?}"), format!("{default:?}"));
}

#[test]
fn the_table_in_configuration_md_lists_every_variable_with_its_default() {
    let page = read("docs/configuration.md");
    let documented: BTreeMap<String, String> = page
        .lines()
        .filter(|line| line.starts_with("| `COUNTERSIGN_"))
        .map(|line| {
            let mut cells = line
                .split('|')
                .skip(1)
                .map(|cell| cell.replace('`', "").trim().to_owned());
            (
                cells.next().unwrap_or_default(),
                cells.next().unwrap_or_default(),
            )
        })
        .collect();
    let ours = || {
        Config::VARIABLES
            .iter()
            .filter(|variable| variable.name.starts_with("COUNTERSIGN_"))
    };
    let expected: BTreeMap<String, String> = ours()
        .map(|variable| {
            let (DefaultValue::Text(default) | DefaultValue::Rule(default)) = variable.default;
            (variable.name.to_owned(), default.to_owned())
        })
        .collect();
    let rows: Vec<String> = ours().map(table_row).collect();
    assert!(
        documented == expected,
        "the table in docs/configuration.md should be (the last column is yours):\n{}",
        rows.join("\n")
    );
}

#[test]
fn every_rpc_is_documented_and_called_in_a_test() {
    let documentation: String = documents().concat();
    let tests: String = sources(&["tests"])
        .into_iter()
        .filter(|source| !source.path.starts_with("tests/tidy"))
        .map(|source| source.code)
        .collect();
    let mut missing = Vec::new();
    for rpc in tidy_support::rpcs() {
        if !tidy_support::mentions(&documentation, &rpc) {
            missing.push(format!(
                "{rpc} is mentioned neither in README.md nor in docs/"
            ));
        }
        let call = format!(".{}(", tidy_support::snake_case(&rpc));
        if !tests.contains(&call) {
            missing.push(format!("{rpc} is not called in tests/ (`{call}`)"));
        }
    }
    assert_none(&missing);
}

#[test]
fn every_reason_of_the_contract_is_produced_by_a_test_over_tcp() {
    let tests: String = sources(&["tests/api"])
        .into_iter()
        .map(|source| source.text)
        .collect();
    let names = Reason::ALL.iter().map(|reason| reason.as_str());
    let missing: Vec<_> = names
        .filter(|name| !tests.contains(&format!("\"{name}\"")))
        .map(|name| format!("{name} is expected by no test in tests/api/"))
        .collect();
    assert_none(&missing);
}

#[test]
fn the_tables_in_api_md_list_every_rpc_and_every_reason() {
    let page = read("docs/api.md");
    let rows: String = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let reasons = Reason::ALL.iter().map(|reason| reason.as_str().to_owned());
    let missing: Vec<_> = reasons
        .chain(tidy_support::rpcs())
        .filter(|name| !tidy_support::mentions(&rows, name))
        .map(|name| format!("{name} has no row in docs/api.md"))
        .collect();
    assert_none(&missing);
}

fn assert_none(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

fn default_text(variable: &Variable) -> &'static str {
    match variable.default {
        DefaultValue::Text(text) => text,
        DefaultValue::Rule(_) => "",
    }
}

fn table_row(variable: &Variable) -> String {
    let default = match variable.default {
        DefaultValue::Text(text) => format!("`{text}`"),
        DefaultValue::Rule(rule) => rule.to_owned(),
    };
    format!("| `{}` | {default} | {} |", variable.name, variable.meaning)
}

fn is_assignment(line: &str) -> bool {
    line.split_once('=').is_some_and(|(name, _)| is_name(name))
}

/// Whether it could be the name of a variable.
fn is_name(text: &str) -> bool {
    let belongs = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    !text.is_empty() && text.bytes().all(belongs)
}
