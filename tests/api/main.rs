//! The service as its callers see it: the real server on a free port, the generated client over TCP,
//! every test on both databases.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that panics says where; it reads its database from the environment"
)]

mod support;

mod account;
mod admin;
mod administrators;
mod assertions;
mod audiences;
mod audit;
mod backup;
mod bad_input;
mod bound_tokens;
mod breached_passwords;
mod clocks;
mod commands;
mod concurrency;
mod connections;
mod database_faults;
mod deadlines;
mod durability;
mod email_keys;
mod epochs;
mod exchange;
mod ext_authz;
mod factor_attempts;
mod factor_faults;
mod factor_journey;
mod factor_policy;
mod factors;
mod fairness;
mod fast_path;
mod files;
mod freshness;
mod fuzz_corpus;
mod grpc_web;
mod health;
mod http;
mod import_command;
mod import_rpc;
mod imported_hashes;
mod journey;
mod jwt_attacks;
mod key_rotation;
mod keys;
mod limit_metrics;
mod limits;
mod login;
mod logout;
mod logs;
mod mails;
mod many_sessions;
mod master_keys;
mod moving_watchers;
mod new_devices;
mod oauth;
mod outage;
mod passkey_logins;
mod passkeys;
mod password_cost;
mod peers;
mod poolers;
mod postgres_tls;
mod protocol;
mod reauthenticate;
mod recovery;
mod refresh;
mod refresh_outages;
mod register;
mod registration;
mod replicas;
mod retention;
mod revocation;
mod role_changes;
mod service_accounts;
mod service_commands;
mod service_keys;
mod shutdown;
mod startup;
mod statement_counts;
mod step_up;
mod suspended;
mod sync;
mod three_services;
mod throttle;
mod tls;
mod tls_handshakes;
mod tls_reloads;
mod traces;
mod trusted_issuers;
mod user_commands;
mod user_lists;
mod users;
mod validate;
mod verifier;
mod verifier_crate;
mod verifier_credentials;
