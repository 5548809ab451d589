//! Variables whose value is one of a few words.

use super::{
    factor_values::SecondFactorPolicy,
    profile::Profile,
    refusal::Refusal,
    values::{
        Algorithm, ClientAuth, DatabaseTls, LogFormat, Registration, RsaKeyBits, StalePolicy,
        Switch, Tls,
    },
};

macro_rules! words {
    ($($type:ident { $($word:literal => $variant:ident,)+ } or { $($alias:literal => $other:ident,)* })+) => {$(
        impl TryFrom<String> for $type {
            type Error = Refusal;

            fn try_from(text: String) -> Result<Self, Refusal> {
                match text.as_str() {
                    $($word => Ok(Self::$variant),)+
                    $($alias => Ok(Self::$other),)*
                    _ => Err(unknown(&text, &[$($word),+])),
                }
            }
        }
    )+};
}

words! {
    Profile { "development" => Development, "test" => Test, "production" => Production, } or {}
    Switch { "on" => On, "off" => Off, } or { "true" => On, "false" => Off, }
    DatabaseTls { "verified" => Verified, "unverified" => Unverified, } or {}
    Algorithm { "ES256" => Es256, "RS256" => Rs256, "EdDSA" => EdDsa, } or {}
    RsaKeyBits { "2048" => Bits2048, "3072" => Bits3072, } or {}
    Registration { "open" => Open, "closed" => Closed, "verified" => Verified, } or {}
    StalePolicy { "serve" => Serve, "reject" => Reject, } or {}
    Tls { "off" => Off, "on" => On, "terminated" => Terminated, } or {}
    ClientAuth { "optional" => Optional, "required" => Required, } or {}
    SecondFactorPolicy { "off" => Off, "admins" => Admins, "all" => All, } or {}
    LogFormat { "pretty" => Pretty, "json" => Json, } or {}
}

fn unknown(text: &str, words: &[&str]) -> Refusal {
    let (last, others) = words.split_last().expect("each type has words");
    let hint = format!("use {} or {last}", others.join(", "));
    Refusal::of(text, "is not one of its values", hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_word_is_shortened_and_the_error_lists_the_known_ones() {
        let refused = Tls::try_from("x".repeat(10_000)).unwrap_err().to_string();
        assert!(refused.len() < 200, "{refused}");
        assert!(refused.ends_with("use off, on or terminated"), "{refused}");
        let refused = Switch::try_from("On".to_owned()).unwrap_err().to_string();
        assert_eq!(refused, "\"On\" is not one of its values; use on or off");
        assert_eq!(Switch::try_from("true".to_owned()), Ok(Switch::On));
    }
}
