//! What a session adds to the claims of its access tokens: how its user was authenticated, and for whom they are meant.

use crate::clock::Timestamp;

/// The authentication method reference of a password (RFC 8176 section 2).
const PASSWORD: &str = "pwd";
/// A one-time code.
const ONE_TIME_CODE: &str = "otp";
/// A key that its device keeps.
const HARDWARE_KEY: &str = "hwk";
/// A key that may be copied to other devices of its user.
const SOFTWARE_KEY: &str = "swk";
/// More than one factor.
const MULTIPLE_FACTORS: &str = "mfa";

/// The `acr` of one factor.
const ONE_FACTOR: &str = "urn:countersign:acr:1";
/// The `acr` of two factors.
const TWO_FACTORS: &str = "urn:countersign:acr:2";
/// The `acr` of a passkey with user verification: bound to the site's origin, so that no other site can pass it on.
const PHISHING_RESISTANT: &str = "urn:countersign:acr:phr";

/// How and when a user was authenticated, and which audiences were chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionClaims {
    /// Claim `auth_time`: when the user last proved who it is.
    pub authenticated_at: Timestamp,
    /// Claim `amr`: how (RFC 8176).
    pub methods: Vec<String>,
    /// The audiences that were chosen at the login; `None` for all that are configured.
    pub audiences: Option<Vec<String>>,
    /// The session's access tokens are dated later than this, whatever the clock says. All sessions that ended together,
    /// perhaps by a replica whose clock is ahead, ended before it.
    pub issued_after: Timestamp,
}

impl SessionClaims {
    /// The claims of a session that is opened by a password at `now`.
    pub fn of_password(now: Timestamp, audiences: Option<Vec<String>>) -> Self {
        Self::of(&[PASSWORD], now, audiences)
    }

    /// The claims of a session that is opened at `now` by a password and a TOTP or recovery code.
    pub fn of_password_and_code(now: Timestamp, audiences: Option<Vec<String>>) -> Self {
        Self::of(&[PASSWORD, ONE_TIME_CODE, MULTIPLE_FACTORS], now, audiences)
    }

    /// The claims of a session that is opened at `now` by a passkey with user verification, which is two factors: the
    /// device, and what unlocks it. `with_password`: a password was checked as well.
    pub fn of_passkey(
        now: Timestamp,
        audiences: Option<Vec<String>>,
        is_hardware_bound: bool,
        with_password: bool,
    ) -> Self {
        let key = match is_hardware_bound {
            true => HARDWARE_KEY,
            false => SOFTWARE_KEY,
        };
        let methods: &[_] = match with_password {
            true => &[PASSWORD, key, MULTIPLE_FACTORS],
            false => &[key, MULTIPLE_FACTORS],
        };
        Self::of(methods, now, audiences)
    }

    /// These claims after a TOTP code was accepted at `now` inside the session. The password of its login counts on; a
    /// passkey does not, for it was not used again.
    pub fn with_code(&self, now: Timestamp) -> Self {
        let mut methods = vec![ONE_TIME_CODE.to_owned(), MULTIPLE_FACTORS.to_owned()];
        if self.methods.iter().any(|method| method == PASSWORD) {
            methods.insert(0, PASSWORD.to_owned());
        }
        Self {
            authenticated_at: now,
            methods,
            ..self.clone()
        }
    }

    /// These claims after the password was accepted at `now` inside the session, and nothing else.
    pub fn with_password(&self, now: Timestamp) -> Self {
        Self {
            issued_after: self.issued_after,
            ..Self::of_password(now, self.audiences.clone())
        }
    }

    fn of(methods: &[&str], now: Timestamp, audiences: Option<Vec<String>>) -> Self {
        Self {
            authenticated_at: now,
            methods: methods.iter().map(|&method| method.to_owned()).collect(),
            audiences,
            issued_after: now,
        }
    }

    /// Claim `acr`: how much the authentication is worth.
    pub fn acr(&self) -> &'static str {
        let has = |name: &str| self.methods.iter().any(|method| method == name);
        if has(HARDWARE_KEY) || has(SOFTWARE_KEY) {
            PHISHING_RESISTANT
        } else if has(MULTIPLE_FACTORS) {
            TWO_FACTORS
        } else {
            ONE_FACTOR
        }
    }

    /// Whether an `acr` is that of one factor alone, or of none that is known.
    pub fn is_one_factor(acr: &str) -> bool {
        acr != TWO_FACTORS && acr != PHISHING_RESISTANT
    }

    /// The values of `acr` that stand for more than one factor, single spaces between.
    pub fn acrs_of_two_factors() -> String {
        format!("{TWO_FACTORS} {PHISHING_RESISTANT}")
    }

    /// The audiences of the session's tokens, of those that are configured now and in their order. Fewer than were chosen
    /// where one is configured no longer; never more.
    pub fn audiences_of(&self, configured: &[String]) -> Vec<String> {
        let Some(chosen) = &self.audiences else {
            return configured.to_vec();
        };
        let kept = configured.iter().filter(|name| chosen.contains(name));
        kept.cloned().collect()
    }

    /// The methods as they are stored; `None` for a password alone.
    pub(crate) fn stored_methods(&self) -> Option<String> {
        (self.methods != [PASSWORD]).then(|| self.methods.join(" "))
    }

    /// The audiences as they are stored.
    pub(crate) fn stored_audiences(&self) -> Option<String> {
        self.audiences.as_ref().map(|audiences| audiences.join(" "))
    }

    /// What was stored. Rows of the previous version have neither methods nor audiences.
    pub(crate) fn from_stored(
        authenticated_at: Timestamp,
        methods: Option<&str>,
        audiences: Option<&str>,
        issued_after: Timestamp,
    ) -> Self {
        let words = |text: &str| text.split_ascii_whitespace().map(str::to_owned).collect();
        Self {
            authenticated_at,
            methods: words(methods.unwrap_or(PASSWORD)),
            audiences: audiences.map(words),
            issued_after,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_is_stored_is_read_back() {
        for claims in [
            SessionClaims::of_password(NOW, None),
            SessionClaims::of_password(NOW, Some(names(&["b", "a"]))),
            SessionClaims {
                authenticated_at: NOW,
                methods: names(&["pwd", "otp", "mfa"]),
                audiences: Some(names(&["a"])),
                issued_after: NOW,
            },
        ] {
            let (methods, audiences) = (claims.stored_methods(), claims.stored_audiences());
            let read =
                SessionClaims::from_stored(NOW, methods.as_deref(), audiences.as_deref(), NOW);
            assert_eq!(read, claims);
        }
    }

    #[test]
    fn a_row_of_the_previous_version_is_read_as_a_password_login_for_every_audience() {
        let claims = SessionClaims::from_stored(NOW, None, None, NOW);
        assert_eq!(claims, SessionClaims::of_password(NOW, None));
        assert_eq!(claims.acr(), "urn:countersign:acr:1");
        assert_eq!(claims.audiences_of(&names(&["a", "b"])), ["a", "b"]);
    }

    #[test]
    fn requested_audiences_never_grow_and_keep_the_configured_order() {
        let claims = SessionClaims::of_password(NOW, Some(names(&["c", "a", "gone"])));
        assert_eq!(claims.audiences_of(&names(&["a", "b", "c"])), ["a", "c"]);
        assert!(claims.audiences_of(&names(&["b"])).is_empty());
    }

    #[test]
    fn several_factors_give_a_higher_acr_than_one() {
        let claims = SessionClaims::from_stored(NOW, Some("pwd otp mfa"), None, NOW);
        assert_eq!(claims.acr(), "urn:countersign:acr:2");
        assert_eq!(claims, SessionClaims::of_password_and_code(NOW, None));
        for (hardware, password, methods) in [
            (true, false, ["hwk", "mfa"].as_slice()),
            (false, false, &["swk", "mfa"]),
            (false, true, &["pwd", "swk", "mfa"]),
        ] {
            let claims = SessionClaims::of_passkey(NOW, None, hardware, password);
            assert_eq!(claims.methods, methods);
            assert_eq!(claims.acr(), "urn:countersign:acr:phr");
        }
        for (acr, is_one) in [
            ("urn:countersign:acr:1", true),
            ("", true),
            ("urn:countersign:acr:3", true),
            ("urn:countersign:acr:2", false),
            ("urn:countersign:acr:phr", false),
        ] {
            assert_eq!(SessionClaims::is_one_factor(acr), is_one, "{acr}");
        }
    }
}
