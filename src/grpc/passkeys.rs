//! The RPCs of passkeys: converts their requests and responses from and to domain types.

use tonic::Request;

use super::{
    convert::{self, Violations},
    factors::{claims, factor, passkey_response, shown},
    pb,
};
use crate::{
    auth::{Auth, AuthError, PasskeyLoginCommand, PasskeyRegistrationCommand, RequestContext},
    domain::{DeviceLabel, Email},
    secret::Secret,
};

pub(super) fn begin_login(
    auth: &Auth,
    request: &pb::BeginPasskeyLoginRequest,
) -> Result<pb::BeginPasskeyLoginResponse, AuthError> {
    let email = match request.email.as_str() {
        "" => None,
        text => {
            let mut violations = Violations::default();
            let email = violations.take(Email::parse("email", text));
            Some(email.ok_or(violations)?)
        }
    };
    let begun = auth.begin_passkey_login(email.as_ref());
    Ok(pb::BeginPasskeyLoginResponse {
        challenge_token: begun.challenge_token.expose().clone(),
        request_options_json: begun.options,
        expire_time: Some(convert::timestamp(begun.expires_at)),
    })
}

pub(super) async fn finish_login(
    auth: &Auth,
    request: &pb::FinishPasskeyLoginRequest,
    context: &RequestContext,
) -> Result<pb::FinishPasskeyLoginResponse, AuthError> {
    let mut violations = Violations::default();
    let response = violations.take(passkey_response(&request.passkey_response_json));
    let label = violations.take(DeviceLabel::parse("device_label", &request.device_label));
    let (Some(response), Some(device_label)) = (response, label) else {
        return Err(violations.into());
    };
    let command = PasskeyLoginCommand {
        challenge_token: Secret::new(request.challenge_token.clone()),
        response,
        device_label,
        device_token: Secret::new(request.device_token.clone()),
        audiences: request.audiences.clone(),
    };
    let logged_in = auth.finish_passkey_login(command, context).await?;
    Ok(pb::FinishPasskeyLoginResponse {
        tokens: Some(convert::token_pair(&logged_in.tokens)),
        user: Some(convert::user(&logged_in.user)),
        device_token: logged_in.device_token.expose().clone(),
    })
}

pub(super) async fn begin_registration(
    auth: &Auth,
    request: &Request<pb::BeginPasskeyRegistrationRequest>,
) -> Result<pb::BeginPasskeyRegistrationResponse, AuthError> {
    let begun = auth.begin_passkey_registration(claims(request)?).await?;
    Ok(pb::BeginPasskeyRegistrationResponse {
        creation_options_json: begun.options,
        challenge_token: begun.challenge_token.expose().clone(),
    })
}

pub(super) async fn finish_registration(
    auth: &Auth,
    request: &Request<pb::FinishPasskeyRegistrationRequest>,
    context: &RequestContext,
) -> Result<pb::FinishPasskeyRegistrationResponse, AuthError> {
    let message = request.get_ref();
    let mut violations = Violations::default();
    let response = violations.take(passkey_response(&message.passkey_response_json));
    let label = violations.take(DeviceLabel::parse("label", &message.label));
    let (Some(response), Some(label)) = (response, label) else {
        return Err(violations.into());
    };
    let command = PasskeyRegistrationCommand {
        challenge_token: Secret::new(message.challenge_token.clone()),
        response,
        label,
    };
    let added = auth
        .finish_passkey_registration(claims(request)?, command, context)
        .await?;
    Ok(pb::FinishPasskeyRegistrationResponse {
        factor: Some(factor(&added.factor)),
        recovery_codes: shown(&added.recovery_codes),
    })
}
