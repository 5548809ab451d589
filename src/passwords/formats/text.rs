//! Strict readers of the small parts of a hash: one spelling for each value, everything else is refused.

use base64::{
    Engine, alphabet,
    engine::{
        GeneralPurpose,
        general_purpose::{NO_PAD, STANDARD, STANDARD_NO_PAD},
    },
};

use super::Refusal;

/// The alphabet of crypt(3), phpass and yescrypt.
const CRYPT_ALPHABET: &[u8; 64] =
    b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// bcrypt's own Base64.
const BCRYPT: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, NO_PAD);

/// A decimal number without sign, blanks or leading zeros.
pub(super) fn number(text: &str) -> Option<u32> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    (canonical && digits).then(|| text.parse().ok())?
}

/// A decimal number within bounds; `name` is what the refusal calls it.
pub(super) fn bounded(text: &str, name: &str, least: u32, most: u32) -> Result<u32, Refusal> {
    let number = number(text)
        .ok_or_else(|| Refusal::malformed(format!("{name} is not a decimal number")))?;
    within(number, name, least, most)
}

/// A number within bounds.
pub(super) fn within(number: u32, name: &str, least: u32, most: u32) -> Result<u32, Refusal> {
    if number < least {
        let reason = format!("{name} is {number}, below the least of {least}");
        return Err(Refusal::malformed(reason));
    }
    if number > most {
        let reason = format!("{name} is {number}, above the ceiling of {most}");
        return Err(Refusal::too_costly(reason));
    }
    Ok(number)
}

/// Exactly `N` fields.
pub(super) fn fields<const N: usize>(text: &str, separator: char) -> Option<[&str; N]> {
    let fields: Vec<&str> = text.split(separator).collect();
    fields.try_into().ok()
}

/// The values of `a=1,b=2`, which must have exactly these names in this order.
pub(super) fn parameters<'a, const N: usize>(
    text: &'a str,
    names: [&str; N],
) -> Option<[&'a str; N]> {
    let fields: [&str; N] = fields(text, ',')?;
    let mut values = [""; N];
    for ((value, field), name) in values.iter_mut().zip(fields).zip(names) {
        *value = field.strip_prefix(name)?.strip_prefix('=')?;
    }
    Some(values)
}

/// Standard Base64 with padding; bits that do not exist must be zero, as in all that follow.
pub(super) fn base64_padded(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Standard Base64 without padding.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text).ok()
}

/// What `base64` reads.
pub(super) fn to_base64(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes)
}

/// passlib's "adapted" Base64: `.` instead of `+`, no padding.
pub(super) fn ab64(text: &str) -> Option<Vec<u8>> {
    (!text.contains('+')).then(|| base64(&text.replace('.', "+")))?
}

/// bcrypt's Base64, which must hold exactly `N` bytes.
pub(super) fn bcrypt64<const N: usize>(text: &str) -> Option<[u8; N]> {
    BCRYPT.decode(text).ok()?.try_into().ok()
}

/// Hexadecimal digits of either case.
pub(super) fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let digits: Vec<u32> = text.as_bytes().iter().map(digit).collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    let byte = |[high, low]: &[u32; 2]| u8::try_from(high * 16 + low).ok();
    pairs.iter().map(byte).collect()
}

/// Lower-case hexadecimal digits.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// The value of one character of crypt(3)'s alphabet.
pub(super) fn crypt_digit(character: u8) -> Option<u32> {
    let value = CRYPT_ALPHABET.iter().position(|&c| c == character)?;
    u32::try_from(value).ok()
}

/// crypt(3)'s Base64: groups of three bytes, the lowest six bits first.
pub(super) fn to_crypt64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .rev()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        for n in 0..=group.len() {
            text.push(CRYPT_ALPHABET[(bits >> (6 * n) & 63) as usize].into());
        }
    }
    text
}

/// Reads what [`to_crypt64`] writes.
pub(super) fn crypt64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for group in text.as_bytes().chunks(4) {
        let mut bits = 0;
        for (n, character) in group.iter().enumerate() {
            bits |= crypt_digit(*character)? << (6 * n);
        }
        let whole = group.len() * 6 / 8;
        bytes.extend_from_slice(&bits.to_le_bytes()[..whole]);
    }
    (to_crypt64(&bytes) == text).then_some(bytes)
}
