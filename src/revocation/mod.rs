//! Which access tokens are dead before their time, known without asking the database.

mod index;
mod sync;

pub use index::RevocationIndex;
pub use sync::RevocationSync;
