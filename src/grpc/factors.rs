//! The RPCs of second factors: converts their requests and responses from and to domain types.

use tonic::Request;

use super::{
    convert::{self, Violations},
    layers::Caller,
    pb,
};
use crate::{
    auth::{
        Auth, AuthError, CompleteLoginCommand, LoginChallenge, ReauthenticateCommand,
        ReauthenticationProof, RequestContext, SecondFactor,
    },
    domain::{Factor, FactorKind, FieldViolation, Password, SessionId, UserId, ViolationReason},
    factors::{RecoveryCode, TotpCode, passkeys::MAX_RESPONSE_LENGTH},
    secret::Secret,
    tokens::AccessClaims,
};

pub(super) fn login_challenge(challenge: &LoginChallenge) -> pb::LoginChallenge {
    let kinds = challenge.factor_kinds.iter();
    pb::LoginChallenge {
        challenge_token: challenge.token.expose().clone(),
        factor_kinds: kinds.map(|one| kind(one).into()).collect(),
        request_options_json: challenge.request_options.clone(),
        expire_time: Some(convert::timestamp(challenge.expires_at)),
    }
}

pub(super) fn complete_login_command(
    request: &pb::CompleteLoginRequest,
) -> Result<CompleteLoginCommand, AuthError> {
    use pb::complete_login_request::Proof;
    let mut violations = Violations::default();
    let parsed = match &request.proof {
        None => Err(no_proof()),
        Some(Proof::TotpCode(code)) => TotpCode::parse("totp_code", code).map(SecondFactor::Totp),
        Some(Proof::RecoveryCode(code)) => {
            RecoveryCode::parse("recovery_code", code).map(SecondFactor::RecoveryCode)
        }
        Some(Proof::PasskeyResponseJson(json)) => passkey_response(json).map(SecondFactor::Passkey),
    };
    let proof = violations.take(parsed).ok_or(violations)?;
    Ok(CompleteLoginCommand {
        challenge_token: Secret::new(request.challenge_token.clone()),
        proof,
    })
}

pub(super) fn reauthenticate_command(
    (user_id, session_id): (UserId, SessionId),
    request: &pb::ReauthenticateRequest,
) -> Result<ReauthenticateCommand, AuthError> {
    use pb::reauthenticate_request::Proof;
    let mut violations = Violations::default();
    let parsed = match &request.proof {
        None => Err(no_proof()),
        Some(Proof::Password(password)) => {
            Password::parse("password", password).map(ReauthenticationProof::Password)
        }
        Some(Proof::TotpCode(code)) => TotpCode::parse("totp_code", code)
            .map(|code| ReauthenticationProof::Factor(SecondFactor::Totp(code), None)),
        Some(Proof::PasskeyResponseJson(json)) => passkey_response(json).map(|json| {
            let token = Secret::new(request.challenge_token.clone());
            ReauthenticationProof::Factor(SecondFactor::Passkey(json), Some(token))
        }),
    };
    let proof = violations.take(parsed).ok_or(violations)?;
    Ok(ReauthenticateCommand {
        user_id,
        session_id,
        proof,
    })
}

pub(super) async fn list(
    auth: &Auth,
    request: &Request<pb::ListFactorsRequest>,
) -> Result<pb::ListFactorsResponse, AuthError> {
    let factors = auth.list_factors(claims(request)?.user_id).await?;
    Ok(pb::ListFactorsResponse {
        factors: factors.iter().map(factor).collect(),
    })
}

pub(super) async fn begin_totp(
    auth: &Auth,
    request: &Request<pb::BeginTotpEnrollmentRequest>,
) -> Result<pb::BeginTotpEnrollmentResponse, AuthError> {
    let begun = auth.begin_totp_enrollment(claims(request)?).await?;
    Ok(pb::BeginTotpEnrollmentResponse {
        secret: begun.secret.expose().clone(),
        otpauth_uri: begun.otpauth_uri.expose().clone(),
        enrollment_token: begun.token.expose().clone(),
    })
}

pub(super) async fn confirm_totp(
    auth: &Auth,
    request: &Request<pb::ConfirmTotpEnrollmentRequest>,
    context: &RequestContext,
) -> Result<pb::ConfirmTotpEnrollmentResponse, AuthError> {
    let message = request.get_ref();
    let mut violations = Violations::default();
    let code = violations.take(TotpCode::parse("totp_code", &message.totp_code));
    let code = code.ok_or(violations)?;
    let token = &message.enrollment_token;
    let added = auth
        .confirm_totp_enrollment(claims(request)?, token, &code, context)
        .await?;
    Ok(pb::ConfirmTotpEnrollmentResponse {
        factor: Some(factor(&added.factor)),
        recovery_codes: shown(&added.recovery_codes),
    })
}

pub(super) async fn remove(
    auth: &Auth,
    request: &Request<pb::RemoveFactorRequest>,
    context: &RequestContext,
) -> Result<pb::RemoveFactorResponse, AuthError> {
    let mut violations = Violations::default();
    let id = violations.take(convert::factor_id(
        "factor_id",
        &request.get_ref().factor_id,
    ));
    let id = id.ok_or(violations)?;
    let removed = auth.remove_factor(claims(request)?, id, context).await?;
    let cursor = auth.revocation_cursor(&removed).await?;
    Ok(pb::RemoveFactorResponse {
        revocation_cursor: cursor.to_string(),
    })
}

pub(super) async fn regenerate(
    auth: &Auth,
    request: &Request<pb::RegenerateRecoveryCodesRequest>,
    context: &RequestContext,
) -> Result<pb::RegenerateRecoveryCodesResponse, AuthError> {
    let codes = auth
        .regenerate_recovery_codes(claims(request)?, context)
        .await?;
    Ok(pb::RegenerateRecoveryCodesResponse {
        recovery_codes: shown(&codes),
    })
}

pub(super) fn factor(factor: &Factor) -> pb::Factor {
    pb::Factor {
        factor_id: factor.id.to_string(),
        kind: kind(factor.kind).into(),
        label: factor.label.as_str().to_owned(),
        create_time: Some(convert::timestamp(factor.created_at)),
        last_use_time: factor.last_used_at.map(convert::timestamp),
    }
}

/// The codes as the response shows them, this once.
pub(super) fn shown(codes: &[Secret<String>]) -> Vec<String> {
    codes.iter().map(|code| code.expose().clone()).collect()
}

/// The claims of the caller's access token.
pub(super) fn claims<T>(request: &Request<T>) -> Result<&AccessClaims, AuthError> {
    let caller = Caller::of(request.extensions()).ok_or(AuthError::TokenMissing)?;
    Ok(&caller.claims)
}

/// The answer of a passkey, bounded before it is parsed.
pub(super) fn passkey_response(json: &str) -> Result<String, FieldViolation> {
    const FIELD: &str = "passkey_response_json";
    match json.len() {
        0 => Err(FieldViolation::new(
            FIELD,
            ViolationReason::Required,
            "must be given",
        )),
        1..=MAX_RESPONSE_LENGTH => Ok(json.to_owned()),
        _ => Err(FieldViolation::new(
            FIELD,
            ViolationReason::TooLong,
            format!("must have at most {MAX_RESPONSE_LENGTH} bytes"),
        )),
    }
}

const fn kind(kind: FactorKind) -> pb::FactorKind {
    match kind {
        FactorKind::Totp => pb::FactorKind::Totp,
        FactorKind::Passkey => pb::FactorKind::Passkey,
    }
}

fn no_proof() -> FieldViolation {
    FieldViolation::new("proof", ViolationReason::Required, "must be given")
}
