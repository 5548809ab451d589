//! Short words for the calls, and for what a failure must look like.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign::grpc::{
    Reason,
    pb::{
        LoginRequest, LoginResponse, LogoutRequest, RefreshRequest, RegisterRequest, TokenPair,
        User, ValidateTokenRequest, ValidateTokenResponse,
    },
};
use serde_json::Value;
use tonic::{Code, Status};
use tonic_types::{ErrorDetail, ErrorDetails, StatusExt};

use super::TestServer;

/// A password that the policy accepts.
pub const PASSWORD: &str = "a mill that weaves algebra";

impl TestServer {
    pub async fn register(&self, email: &str) -> Result<User, Status> {
        let request = RegisterRequest {
            email: email.to_owned(),
            password: PASSWORD.to_owned(),
            display_name: "Ada".to_owned(),
        };
        let response = self.auth().register(request).await?;
        Ok(response.into_inner().user.unwrap())
    }

    /// A login on the device with this token, and all that is answered.
    pub async fn login_with(
        &self,
        email: &str,
        password: &str,
        device_token: &str,
    ) -> Result<LoginResponse, Status> {
        let request = LoginRequest {
            email: email.to_owned(),
            password: password.to_owned(),
            device_label: "Ada's phone".to_owned(),
            device_token: device_token.to_owned(),
            ..LoginRequest::default()
        };
        Ok(self.auth().login(request).await?.into_inner())
    }

    pub async fn login_as(&self, email: &str, password: &str) -> Result<TokenPair, Status> {
        Ok(self.login_with(email, password, "").await?.tokens.unwrap())
    }

    pub async fn login(&self, email: &str) -> Result<TokenPair, Status> {
        self.login_as(email, PASSWORD).await
    }

    /// Registers a user and logs in.
    pub async fn signed_in(&self, email: &str) -> TokenPair {
        self.register(email).await.unwrap();
        self.login(email).await.unwrap()
    }

    pub async fn refresh(&self, refresh_token: &str) -> Result<TokenPair, Status> {
        let request = RefreshRequest {
            refresh_token: refresh_token.to_owned(),
            ..Default::default()
        };
        let response = self.auth().refresh(request).await?;
        Ok(response.into_inner().tokens.unwrap())
    }

    pub async fn validate(&self, access_token: &str) -> Result<ValidateTokenResponse, Status> {
        let request = ValidateTokenRequest {
            access_token: access_token.to_owned(),
            ..ValidateTokenRequest::default()
        };
        Ok(self.auth().validate_token(request).await?.into_inner())
    }

    pub async fn logout(&self, refresh_token: &str) -> Result<(), Status> {
        let request = LogoutRequest {
            refresh_token: refresh_token.to_owned(),
        };
        self.auth().logout(request).await.map(drop)
    }
}

/// A failure, taken apart.
#[derive(Debug)]
pub struct Failure {
    pub code: Code,
    pub reason: String,
    pub message: String,
    pub details: ErrorDetails,
}

/// Takes a status apart, after checking what the contract promises of every failure: exactly one
/// `ErrorInfo` of our domain with the code and the sentence of its reason, exactly one `RequestInfo` with the id that the metadata returns.
pub fn failure(status: &Status) -> Failure {
    let details = status.check_error_details_vec().unwrap();
    let infos: Vec<_> = details
        .iter()
        .filter_map(|detail| match detail {
            ErrorDetail::ErrorInfo(info) => Some(info),
            _ => None,
        })
        .collect();
    let requests: Vec<_> = details
        .iter()
        .filter_map(|detail| match detail {
            ErrorDetail::RequestInfo(info) => Some(info),
            _ => None,
        })
        .collect();
    assert_eq!(infos.len(), 1, "{status:?}");
    assert_eq!(requests.len(), 1, "{status:?}");
    assert_eq!(infos[0].domain, "auth.countersign.v1");
    let known = Reason::from_name(&infos[0].reason).expect("a reason of the contract");
    assert_eq!(
        (status.code(), status.message()),
        (known.code(), known.message())
    );
    let returned_id = status.metadata().get("x-request-id").unwrap();
    assert_eq!(requests[0].request_id, returned_id.to_str().unwrap());
    Failure {
        code: status.code(),
        reason: infos[0].reason.clone(),
        message: status.message().to_owned(),
        details: status.check_error_details().unwrap(),
    }
}

/// Whether a busy machine answered so: what was asked for may have been done or not, and has to be asked for again.
pub fn is_undecided(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
}

/// The reason of a call that must have failed.
pub fn reason<T: std::fmt::Debug>(result: Result<T, Status>) -> String {
    failure(&result.expect_err("the call succeeded")).reason
}

/// The claims of a JWT, which nobody has verified.
pub fn payload(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}
