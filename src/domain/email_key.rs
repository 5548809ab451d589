//! The key of an e-mail address: equal for all spellings of one mailbox.

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};
use icu_properties::{CodePointSetData, props::DefaultIgnorableCodePoint};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use unicode_normalization::UnicodeNormalization;

/// The key of an address: one for all spellings of one mailbox.
///
/// The part before the `@` is compared without regard to case in every alphabet and to compatible forms of characters:
/// `NFKC_Casefold` of the Unicode Standard, section 5.18 and UAX #44. The domain is its ASCII form (UTS #46, non-transitional), so
/// that `bücher.example` and `xn--bcher-kva.example` are one. A domain that UTS #46 refuses has no ASCII form and
/// is folded like the other part.
///
/// RFC 5321 section 2.4 lets a mail server distinguish case before the `@`. Mail servers in use do not, and two accounts that
/// differ by that alone would be confused.
pub(super) fn key_of(address: &str) -> String {
    let is_plain = address.is_ascii() && !address.to_ascii_lowercase().contains("xn--");
    match address.rsplit_once('@') {
        Some((local, domain)) if !is_plain => {
            format!("{}@{}", nfkc_casefold(local), ascii_domain(domain))
        }
        _ => address.to_ascii_lowercase(),
    }
}

/// The key that versions up to 0.1 stored: NFKC and lower case. Accounts from then are found by it as well.
pub(super) fn legacy_key_of(address: &str) -> String {
    address.nfkc().flat_map(char::to_lowercase).nfc().collect()
}

fn ascii_domain(domain: &str) -> String {
    let folded = || nfkc_casefold(domain);
    to_ascii(domain)
        .or_else(|| to_ascii(&folded()))
        // The ideographic full stop separates labels, as UTS 46 has it.
        .unwrap_or_else(|| folded().replace('\u{3002}', "."))
}

/// The ASCII form of a domain (UTS #46, non-transitional); `None` where it has none.
pub(super) fn to_ascii(domain: &str) -> Option<String> {
    let (bytes, any) = (domain.as_bytes(), AsciiDenyList::EMPTY);
    let ascii = Uts46::new().to_ascii(bytes, any, Hyphens::Allow, DnsLength::Ignore);
    ascii.map(String::from).ok()
}

/// `toNFKC_Casefold`, by the derivation of the property `NFKC_Casefold` in UAX #44: decompose, fold the case,
/// leave default-ignorable characters out, compose; again until nothing changes.
fn nfkc_casefold(text: &str) -> String {
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let once = |text: &str| {
        let decomposed = DecomposingNormalizerBorrowed::new_nfkd().normalize(text);
        let folded: String = CaseMapper::new()
            .fold_string(&decomposed)
            .chars()
            .filter(|&c| !ignorable.contains(c))
            .collect();
        ComposingNormalizerBorrowed::new_nfkc()
            .normalize(&folded)
            .into_owned()
    };
    let mut folded = once(text);
    loop {
        let again = once(&folded);
        if again == folded {
            return folded;
        }
        folded = again;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one_mailbox(spellings: &[&str]) {
        for spelling in spellings {
            assert_eq!(key_of(spelling), key_of(spellings[0]), "{spelling}");
        }
    }

    #[test]
    fn a_domain_has_one_key_in_unicode_and_in_ascii() {
        one_mailbox(&[
            "ada@b\u{fc}cher.example",
            "ada@B\u{dc}CHER.EXAMPLE",
            "ada@bu\u{308}cher.example",
            "ada@xn--bcher-kva.example",
            "Ada@XN--BCHER-KVA.example",
        ]);
        one_mailbox(&[
            "ada@\u{4f8b}\u{3048}.jp",
            "ada@\u{4f8b}\u{3048}\u{3002}jp",
            "ada@xn--r8jz45g.jp",
        ]);
        assert_eq!(
            key_of("ada@b\u{fc}cher.example"),
            "ada@xn--bcher-kva.example"
        );
    }

    /// IDNA 2008 keeps sharp s and final sigma: these are other domains, with other owners.
    #[test]
    fn domains_that_dns_tells_apart_have_different_keys() {
        assert_ne!(key_of("ada@fa\u{df}.de"), key_of("ada@fass.de"));
        assert_ne!(key_of("ada@b\u{f3}los.gr"), key_of("ada@bolos.gr"));
        one_mailbox(&["ada@fa\u{df}.de", "ada@FA\u{1e9e}.de", "ada@xn--fa-hia.de"]);
    }

    #[test]
    fn case_is_folded_in_every_alphabet() {
        for spellings in [
            &[
                "stra\u{df}e@x.org",
                "STRA\u{1e9e}E@x.org",
                "strasse@x.org",
                "STRASSE@X.ORG",
            ][..],
            // Sigma at the end of a word.
            &[
                "\u{3bf}\u{3b4}\u{3cc}\u{3c2}@x.org",
                "\u{39f}\u{394}\u{38c}\u{3a3}@x.org",
                "\u{3bf}\u{3b4}\u{3cc}\u{3c3}@x.org",
            ],
            // Ligatures, wide and mathematical letters, the long s, the Kelvin sign.
            &["of\u{fb01}ce@x.org", "OFFICE@x.org"],
            &[
                "\u{ff41}\u{ff44}\u{ff41}@x.org",
                "ada@x.org",
                "\u{1d400}DA@x.org",
            ],
            &["\u{17f}un@x.org", "SUN@x.org"],
            &["\u{212a}im@x.org", "kim@x.org"],
            // Cherokee, whose lower case is the newer one, Armenian, Georgian, Deseret.
            &["\u{ab70}\u{ab71}@x.org", "\u{13a0}\u{13a1}@x.org"],
            &["\u{587}@x.org", "\u{535}\u{552}@x.org"],
            &["\u{10d0}\u{10d1}@x.org", "\u{1c90}\u{1c91}@x.org"],
            &["\u{10428}@x.org", "\u{10400}@x.org"],
            // Greek with iota below.
            &["\u{1fb3}@x.org", "\u{1fbc}@x.org", "\u{3b1}\u{3b9}@x.org"],
            // Capital I with dot is i with a dot above, in no language but Turkish an i.
            &["\u{130}@x.org", "i\u{307}@x.org"],
            // Variation selectors are not seen.
            &["a\u{fe00}da@x.org", "ada@x.org"],
        ] {
            one_mailbox(spellings);
        }
        assert_ne!(
            key_of("\u{131}@x.org"),
            key_of("i@x.org"),
            "the dotless i is a letter of its own"
        );
    }

    #[test]
    fn a_domain_without_an_ascii_form_still_has_a_key() {
        one_mailbox(&["ada@xn--\u{fc}.example", "ADA@XN--\u{dc}.example"]);
        one_mailbox(&["ada@xn--a.example", "ada@XN--A.example"]);
    }

    proptest! {
        #[test]
        fn the_key_of_a_key_is_the_same_key_and_nothing_panics(local in "\\PC{1,20}", domain in "\\PC{0,20}") {
            // A domain that folds to one with an @ is refused before it gets a key.
            prop_assume!(!nfkc_casefold(&domain).contains('@'));
            let key = key_of(&format!("{local}@{domain}"));
            prop_assert_eq!(key_of(&key), key);
        }

        #[test]
        fn upper_and_lower_case_have_one_key(local in "[\\p{L}\\p{N}._-]{1,20}") {
            let key = |text: &str| key_of(&format!("{text}@example.org"));
            let folded = key(&local);
            // Turkish dotless and dotted i change their letter when the case is changed and back.
            prop_assume!(!local.contains(['\u{131}', '\u{130}']));
            prop_assert_eq!(key(&local.to_uppercase()), folded.clone());
            prop_assert_eq!(key(&local.to_lowercase()), folded);
        }

        #[test]
        fn addresses_with_equal_legacy_keys_have_equal_keys(local in "[\\p{L}\\p{M}\\p{N}]{1,12}") {
            let address = format!("{local}@example.org");
            let legacy = legacy_key_of(&address);
            prop_assert_eq!(key_of(&legacy), key_of(&address));
        }
    }
}
