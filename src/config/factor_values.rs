//! Types of variables: who must have a second factor, and the name that authenticator apps show.

use serde::Deserialize;

use super::refusal::Refusal;

/// The audience of an access token that is good for enrolling a second factor alone. No service may have this name, so
/// whoever checks the audience refuses such a token.
pub const ENROLLMENT_AUDIENCE: &str = "urn:countersign:enrollment";

/// Which users must have a second factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum SecondFactorPolicy {
    /// Nobody: each user decides.
    Off,
    /// Those with the role `admin`.
    Admins,
    /// Everybody.
    All,
}

/// A name that authenticator apps show: 1 to 64 characters, no control character and no colon, which separates it from the
/// account.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct TotpIssuer(pub String);

impl TryFrom<String> for TotpIssuer {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        let text = text.trim();
        let is_fit = (1..=64).contains(&text.chars().count())
            && !text.contains(|c: char| c == ':' || c.is_control());
        if is_fit {
            return Ok(Self(text.to_owned()));
        }
        let hint = "use 1 to 64 characters without a colon, such as Example Accounts";
        Err(Refusal::of(text, "is no name for apps to show", hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_for_apps_has_no_colon_and_is_short() {
        for good in [
            "Example",
            "Example Accounts",
            " Söhne & Co ",
            &"x".repeat(64),
        ] {
            assert!(TotpIssuer::try_from(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", " ", "a:b", "a\nb", &"x".repeat(65)] {
            assert!(TotpIssuer::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
