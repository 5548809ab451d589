//! Who makes a login attempt: determines the failure counter, and the user whose credentials are read.

use super::{Auth, AuthError};
use crate::{
    domain::{ChallengeId, DeviceId, Email, SessionId, UserId},
    store::{CounterKey, Credentials, StoredPasskey},
    tokens::{KnownDevice, PendingLogin},
};

/// Who presents a password, code or passkey.
pub(super) enum Claimant {
    /// A caller of Login: an e-mail address, and a known device if there is one.
    Login {
        /// The address.
        email: Email,
        /// The content of an authentic device token.
        device: Option<KnownDevice>,
    },
    /// A user whose password was right and who owes a second factor. The failures go on where those of the password are
    /// counted.
    Challenged(UserId, PendingLogin),
    /// Whoever has the passkey with that id. The failures are those of the passkey: who knows the address alone cannot
    /// delay it.
    Passkey {
        /// The id that the authenticator gave it.
        credential_id: Vec<u8>,
        /// The challenge that is answered.
        challenge: ChallengeId,
        /// The content of an authentic device token.
        device: Option<KnownDevice>,
    },
    /// A user who gives the password within a session.
    Session(UserId, SessionId),
    /// A user who proves a second factor within a session. The failures are those of all sessions of the user, and only a
    /// right factor clears them: a right password, or another session, gives nobody further guesses at codes.
    StepUp(UserId, SessionId),
}

impl Claimant {
    /// The session within which something is proved; `None` at a login.
    pub(super) const fn session(&self) -> Option<SessionId> {
        match self {
            Self::Login { .. } | Self::Challenged(..) | Self::Passkey { .. } => None,
            Self::Session(_, session) | Self::StepUp(_, session) => Some(*session),
        }
    }

    /// The known device, if it is this user's.
    pub(super) fn device_of(&self, user: Option<UserId>) -> Option<DeviceId> {
        match self {
            Self::Login { device, .. } | Self::Passkey { device, .. } => device
                .filter(|device| Some(device.user_id) == user)
                .map(|device| device.device_id),
            Self::Challenged(_, login) => login.device_id,
            Self::Session(..) | Self::StepUp(..) => None,
        }
    }
}

impl Auth {
    /// The user, if there is one, and the counter that decides about the attempt.
    pub(super) async fn look_up(&self, claimant: &Claimant) -> Result<Credentials, AuthError> {
        let (store, keys) = (&self.parts.store, &self.parts.derived_keys);
        Ok(match claimant {
            Claimant::Login { email, device } => {
                let account = CounterKey {
                    name: keys.account_counter(email),
                    user_id: None,
                };
                let device = device.map(|KnownDevice { user_id, device_id }| CounterKey {
                    name: keys.device_counter(user_id, device_id),
                    user_id: Some(user_id),
                });
                // Another user's device token counts as none.
                let choose = |user: Option<UserId>| match &device {
                    Some(device) if device.user_id == user => device.clone(),
                    _ => account.clone(),
                };
                store.find_credentials(email, choose).await?
            }
            Claimant::Challenged(user_id, login) => {
                let key = CounterKey {
                    name: login.counter.clone(),
                    user_id: login.device_id.map(|_| *user_id),
                };
                store.find_credentials_of(*user_id, &key).await?
            }
            Claimant::Passkey {
                credential_id,
                challenge,
                ..
            } => {
                let choose = |passkey: Option<&StoredPasskey>| CounterKey {
                    name: match passkey {
                        Some(passkey) => keys.passkey_counter(passkey.user_id, passkey.id),
                        // No failure of an unknown passkey is counted; no two challenges wait for each other.
                        None => challenge.to_string(),
                    },
                    user_id: passkey.map(|passkey| passkey.user_id),
                };
                store
                    .find_credentials_by_passkey(credential_id, choose)
                    .await?
            }
            Claimant::Session(user_id, session_id) => {
                let key = CounterKey {
                    name: keys.session_counter(*user_id, *session_id),
                    user_id: Some(*user_id),
                };
                store.find_credentials_of(*user_id, &key).await?
            }
            Claimant::StepUp(user_id, _) => {
                let key = CounterKey {
                    name: keys.step_up_counter(*user_id),
                    user_id: Some(*user_id),
                };
                store.find_credentials_of(*user_id, &key).await?
            }
        })
    }
}
