//! The service as its callers see it: the real server on a free port, the generated client over TCP,
//! every test on both databases.

mod support;

mod bad_input;
mod concurrency;
mod deadlines;
mod durability;
mod edge;
mod health;
mod login;
mod logout;
mod refresh;
mod register;
mod replicas;
mod shutdown;
mod startup;
mod validate;
