//! The header `x-forwarded-client-cert`, with which Envoy passes on the certificate of its client.
//!
//! The value is a list of elements, one for each proxy that the request passed, separated by commas. An element is a list of
//! `key=value`, separated by semicolons; a value with one of `,;=` stands in double quotes, and a quote in it is written `\"`.

/// The SHA-256 of the certificate that the nearest proxy has verified: `Hash` of the last element. `None` when there is
/// none, or several, or when the value is not of the form.
pub(super) fn forwarded_sha256(value: &str) -> Option<[u8; 32]> {
    let last = split(value, ',')?.pop()?;
    let mut hash = None;
    for pair in split(last, ';')? {
        let (key, value) = pair.split_once('=')?;
        if key.trim().eq_ignore_ascii_case("hash") && hash.replace(value.trim()).is_some() {
            return None;
        }
    }
    sha256_of_hex(hash?)
}

/// The parts between separators that stand outside quotes; `None` when a quote is not closed.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, char) in text.char_indices() {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if char == separator && !is_quoted => {
                parts.push(&text[start..at]);
                start = at + char.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!is_quoted).then_some(parts)
}

fn sha256_of_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hash_of_the_last_element_counts() {
        let (first, second) = ("01".repeat(32), "Ab".repeat(32));
        for value in [
            format!("Hash={second}"),
            format!("By=spiffe://a/b;Hash={second};Subject=\"CN=x,O=y; Hash=1\";URI=spiffe://a/c"),
            format!("Hash={first};Subject=\"CN=a \\\"b\\\", c\",By=spiffe://a/b;hash={second}"),
        ] {
            assert_eq!(forwarded_sha256(&value), Some([0xab; 32]), "{value}");
        }
    }

    #[test]
    fn a_header_without_a_hash_has_no_certificate() {
        let hash = "01".repeat(32);
        for value in [
            String::new(),
            "By=spiffe://a/b".to_owned(),
            format!("Hash={hash},By=spiffe://a/b"),
            format!("Hash={hash};Hash={hash}"),
            format!("Hash={hash};Subject=\"CN=x"),
            format!("Hash={hash};x"),
            format!("Hash={}", &hash[..62]),
            format!("Hash={hash}00"),
            format!("Hash=+1{}", &hash[2..]),
            format!("Subject=\"Hash={hash}\""),
        ] {
            assert_eq!(forwarded_sha256(&value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_the_parser_panic(value in any::<String>()) {
            let _ = forwarded_sha256(&value);
        }
    }
}
