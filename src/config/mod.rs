//! stub
use crate::secret::Secret;
pub struct MasterKey {
    pub version: u8,
    pub key: Secret<[u8; 32]>,
}
