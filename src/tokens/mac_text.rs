//! The text of tokens that carry a MAC: a prefix and base64url without padding of a fixed number of bytes; and what binds
//! such a token to a state.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::secret::Secret;

/// The length of a binding.
pub(super) const BINDING_LENGTH: usize = 16;

/// The text of these bytes.
pub(crate) fn encode<const N: usize>(prefix: &str, bytes: &[u8; N]) -> Secret<String> {
    let mut text = String::with_capacity(prefix.len() + encoded_length(N));
    text.push_str(prefix);
    URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
    Secret::new(text)
}

/// The bytes of a text. `None` for anything but the exact text that [`encode`] made of some bytes.
pub(crate) fn decode<const N: usize>(prefix: &str, text: &str) -> Option<[u8; N]> {
    let encoded = text.strip_prefix(prefix)?;
    if encoded.len() != encoded_length(N) {
        return None;
    }
    let mut bytes = [0; N];
    let length = URL_SAFE_NO_PAD.decode_slice(encoded, &mut bytes).ok()?;
    (length == N).then_some(bytes)
}

/// What binds a token to a state: a MAC of both, which reveals nothing about the state. `domain` begins with 0; the bytes of a
/// token begin with the version of a key, and those begin at 1, so neither is ever the other.
pub(super) fn binding(key: &hmac::Key, domain: &[u8], state: &str) -> [u8; BINDING_LENGTH] {
    let mut context = hmac::Context::with_key(key);
    context.update(domain);
    context.update(state.as_bytes());
    let mac = context.sign();
    mac.as_ref()[..BINDING_LENGTH]
        .try_into()
        .expect("16 of 32 bytes")
}

const fn encoded_length(bytes: usize) -> usize {
    (bytes * 8).div_ceil(6)
}
