//! Short words for second factors: an authenticator app, and the calls that enroll and use it.

use std::time::Duration;

use countersign::{
    clock::Timestamp,
    grpc::pb::{
        BeginTotpEnrollmentRequest, BeginTotpEnrollmentResponse, CompleteLoginRequest,
        CompleteLoginResponse, ConfirmTotpEnrollmentRequest, ConfirmTotpEnrollmentResponse, Factor,
        ListFactorsRequest, LoginChallenge, LoginResponse, ReauthenticateRequest,
        RegenerateRecoveryCodesRequest, RemoveFactorRequest, TokenPair,
        complete_login_request::Proof, reauthenticate_request::Proof as Again,
    },
};
use tonic::Status;

use super::{PASSWORD, TestServer, operator::bearing};

/// Seconds of a step.
pub const STEP: u64 = 30;

/// An authenticator app that was enrolled.
pub struct App {
    /// In base32, as the app got it.
    pub secret: String,
    pub factor: Factor,
    pub recovery_codes: Vec<String>,
}

/// What the app with that secret shows at that time.
pub fn code_of(secret: &str, at: Timestamp) -> String {
    let secret = totp_rs::Secret::try_from_base32(secret).unwrap();
    let totp = totp_rs::Builder::new().with_secret(secret).build().unwrap();
    totp.generate(u64::try_from(at.seconds()).unwrap())
        .to_string()
}

impl App {
    /// What it shows on that server's clock. On the machine's, which no test moves, that of the next step: the code of this
    /// one was used up by the enrollment, and one that is early is accepted.
    pub fn code(&self, server: &TestServer) -> String {
        let early = if server.is_on_system_clock() { STEP } else { 0 };
        code_of(&self.secret, server.now() + Duration::from_secs(early))
    }

    /// A code of no step that is near.
    pub fn wrong_code(&self, server: &TestServer) -> String {
        let near: Vec<_> = (-3..=3)
            .map(|steps| {
                let seconds = server.now().seconds() + steps * 30;
                code_of(&self.secret, Timestamp::from_seconds(seconds))
            })
            .collect();
        let wrong = (0..).map(|number| format!("{number:06}"));
        wrong.into_iter().find(|code| !near.contains(code)).unwrap()
    }
}

pub fn totp(code: impl Into<String>) -> Proof {
    Proof::TotpCode(code.into())
}

pub fn recovery(code: impl Into<String>) -> Proof {
    Proof::RecoveryCode(code.into())
}

impl TestServer {
    pub async fn begin_totp(
        &self,
        access_token: &str,
    ) -> Result<BeginTotpEnrollmentResponse, Status> {
        let request = bearing(access_token, BeginTotpEnrollmentRequest {});
        let begun = self.account().begin_totp_enrollment(request).await?;
        Ok(begun.into_inner())
    }

    pub async fn confirm_totp(
        &self,
        access_token: &str,
        enrollment_token: &str,
        totp_code: &str,
    ) -> Result<ConfirmTotpEnrollmentResponse, Status> {
        let request = ConfirmTotpEnrollmentRequest {
            enrollment_token: enrollment_token.to_owned(),
            totp_code: totp_code.to_owned(),
        };
        let request = bearing(access_token, request);
        let added = self.account().confirm_totp_enrollment(request).await?;
        Ok(added.into_inner())
    }

    /// Enrolls an app, by the code of this moment.
    pub async fn enroll(&self, access_token: &str) -> App {
        let begun = self.begin_totp(access_token).await.unwrap();
        let code = code_of(&begun.secret, self.now());
        let added = self
            .confirm_totp(access_token, &begun.enrollment_token, &code)
            .await
            .unwrap();
        App {
            secret: begun.secret,
            factor: added.factor.unwrap(),
            recovery_codes: added.recovery_codes,
        }
    }

    /// Registers a user with an app; its next code is good.
    pub async fn with_app(&self, email: &str) -> (TokenPair, App) {
        let tokens = self.signed_in(email).await;
        let app = self.enroll(&tokens.access_token).await;
        self.clock.advance(Duration::from_secs(STEP));
        (tokens, app)
    }

    /// A login with the right password, and all that is answered.
    pub async fn login_whole(
        &self,
        email: &str,
        device_token: &str,
    ) -> Result<LoginResponse, Status> {
        self.login_with(email, PASSWORD, device_token).await
    }

    /// The challenge of a login with the right password.
    pub async fn challenged(&self, email: &str) -> LoginChallenge {
        let response = self.login_whole(email, "").await.unwrap();
        assert!(response.tokens.is_none() && response.user.is_none());
        assert_eq!(response.device_token, "");
        response.challenge.expect("the user has a second factor")
    }

    pub async fn complete(
        &self,
        challenge: &LoginChallenge,
        proof: Proof,
    ) -> Result<CompleteLoginResponse, Status> {
        let request = CompleteLoginRequest {
            challenge_token: challenge.challenge_token.clone(),
            proof: Some(proof),
        };
        Ok(self.auth().complete_login(request).await?.into_inner())
    }

    /// A login by password and the app's code of this moment.
    pub async fn login_by_app(&self, email: &str, app: &App) -> Result<TokenPair, Status> {
        let challenge = self.challenged(email).await;
        let completed = self.complete(&challenge, totp(app.code(self))).await?;
        Ok(completed.tokens.unwrap())
    }

    /// `challenge_token` is that of a passkey's challenge, or empty.
    pub async fn reauthenticate(
        &self,
        access_token: &str,
        challenge_token: &str,
        proof: Again,
    ) -> Result<TokenPair, Status> {
        let request = ReauthenticateRequest {
            proof: Some(proof),
            challenge_token: challenge_token.to_owned(),
        };
        let renewed = self
            .account()
            .reauthenticate(bearing(access_token, request))
            .await?;
        Ok(renewed.into_inner().tokens.unwrap())
    }

    pub async fn factors(&self, access_token: &str) -> Result<Vec<Factor>, Status> {
        let request = bearing(access_token, ListFactorsRequest {});
        Ok(self
            .account()
            .list_factors(request)
            .await?
            .into_inner()
            .factors)
    }

    pub async fn remove_factor(
        &self,
        access_token: &str,
        factor_id: &str,
    ) -> Result<String, Status> {
        let factor_id = factor_id.to_owned();
        let request = bearing(access_token, RemoveFactorRequest { factor_id });
        let removed = self.account().remove_factor(request).await?;
        Ok(removed.into_inner().revocation_cursor)
    }

    pub async fn new_recovery_codes(&self, access_token: &str) -> Result<Vec<String>, Status> {
        let request = bearing(access_token, RegenerateRecoveryCodesRequest {});
        let codes = self.account().regenerate_recovery_codes(request).await?;
        Ok(codes.into_inner().recovery_codes)
    }
}
