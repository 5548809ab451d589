#!/usr/bin/env bash
# email_address 0.2.9: the test for non-ASCII characters reads code points as if they were UTF-8 bytes.
#
# RFC 6531 allows every non-ASCII character in a local part, quoted or not. The crate compares the number of the code point, byte by
# byte, with the ranges that RFC 6532 gives for the bytes of the UTF-8 encoding. U+00E9 fails that test, and U+C3A9, whose number
# equals the two bytes of an encoded U+00E9, passes. In an unquoted local part letters and digits are accepted by a second rule, so
# what is refused there are combining marks (a name in NFD, Devanagari with a virama), punctuation and emoji. In a quoted local part
# no second rule exists, and the plain letter é is refused.
#
# Output seen:
#   e with acute, one code point        accepted
#   e with acute, combining mark (NFD)  Invalid character.
#   Devanagari with virama              Invalid character.
#   emoji                               Invalid character.
#   quoted e with acute                 Invalid character.
#   quoted Hangul syllable U+C3A9       accepted
. "$(dirname "$0")/lib.sh"
rust_package <<'EOF'
email_address = { version = "=0.2.9", default-features = false }
EOF
cat > src/main.rs <<'EOF'
fn main() {
    for (name, local_part) in [
        ("e with acute, one code point", "ren\u{e9}"),
        ("e with acute, combining mark (NFD)", "rene\u{301}"),
        ("Devanagari with virama", "\u{928}\u{92e}\u{938}\u{94d}\u{924}"),
        ("emoji", "\u{1f600}"),
        ("quoted e with acute", "\"ren\u{e9}\""),
        ("quoted Hangul syllable U+C3A9", "\"\u{c3a9}\""),
    ] {
        match format!("{local_part}@example.org").parse::<email_address::EmailAddress>() {
            Ok(_) => println!("{name:35} accepted"),
            Err(error) => println!("{name:35} {error}"),
        }
    }
}
EOF
cargo run --quiet | tee seen
[ "$(sed 's/.\{36\}//; s/Invalid.*/refused/' seen | tr '\n' ' ')" = 'accepted refused refused refused refused accepted ' ]
