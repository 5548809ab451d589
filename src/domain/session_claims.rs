//! What a session adds to the claims of its access tokens: how its user was authenticated, and for whom they are meant.

use crate::clock::Timestamp;

/// The authentication method reference of a password (RFC 8176 section 2).
const PASSWORD: &str = "pwd";
/// More than one factor.
const MULTIPLE_FACTORS: &str = "mfa";

/// The `acr` of one factor.
const ONE_FACTOR: &str = "urn:countersign:acr:1";
/// The `acr` of two factors.
const TWO_FACTORS: &str = "urn:countersign:acr:2";

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
        Self {
            authenticated_at: now,
            methods: vec![PASSWORD.to_owned()],
            audiences,
            issued_after: now,
        }
    }

    /// Claim `acr`: how much the authentication is worth.
    pub fn acr(&self) -> &'static str {
        match self.methods.iter().any(|method| method == MULTIPLE_FACTORS) {
            true => TWO_FACTORS,
            false => ONE_FACTOR,
        }
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

    /// What was stored. Rows of the version before have neither methods nor audiences.
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
    fn a_row_of_the_version_before_is_a_password_for_every_audience() {
        let claims = SessionClaims::from_stored(NOW, None, None, NOW);
        assert_eq!(claims, SessionClaims::of_password(NOW, None));
        assert_eq!(claims.acr(), "urn:countersign:acr:1");
        assert_eq!(claims.audiences_of(&names(&["a", "b"])), ["a", "b"]);
    }

    #[test]
    fn a_choice_never_grows_and_keeps_the_configured_order() {
        let claims = SessionClaims::of_password(NOW, Some(names(&["c", "a", "gone"])));
        assert_eq!(claims.audiences_of(&names(&["a", "b", "c"])), ["a", "c"]);
        assert!(claims.audiences_of(&names(&["b"])).is_empty());
    }

    #[test]
    fn several_factors_are_worth_more_than_one() {
        let claims = SessionClaims::from_stored(NOW, Some("pwd otp mfa"), None, NOW);
        assert_eq!(claims.acr(), "urn:countersign:acr:2");
    }
}
