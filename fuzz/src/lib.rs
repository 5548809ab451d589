//! One function for each fuzz target. It takes any text, or any bytes, and panics when the parser under test breaks its
//! promise. libFuzzer calls them (`scripts/fuzz`), and `tests/api/fuzz_corpus.rs` runs the corpus through them.

mod access_token;
mod email;
mod feed;
mod import_record;
mod passkey;
mod password_hash;
mod refresh_token;
mod signed_token;
mod world;

pub use access_token::access_token;
pub use email::email;
pub use feed::feed;
pub use import_record::import_record;
pub use passkey::passkey;
pub use password_hash::password_hash;
pub use refresh_token::refresh_token;
pub use signed_token::signed_token;
