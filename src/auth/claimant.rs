//! Who makes an attempt: it decides which failures are counted together, and whose credentials are looked up.

use super::{Auth, AuthError};
use crate::{
    domain::{DeviceId, Email, SessionId, UserId},
    store::{CounterKey, Credentials},
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
    /// A user within a session.
    Session(UserId, SessionId),
}

impl Claimant {
    /// The known device, if it is this user's.
    pub(super) fn device_of(&self, user: Option<UserId>) -> Option<DeviceId> {
        match self {
            Self::Login { device, .. } => device
                .filter(|device| Some(device.user_id) == user)
                .map(|device| device.device_id),
            Self::Challenged(_, login) => login.device_id,
            Self::Session(..) => None,
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
            Claimant::Session(user_id, session_id) => {
                let key = CounterKey {
                    name: keys.session_counter(*user_id, *session_id),
                    user_id: Some(*user_id),
                };
                store.find_credentials_of(*user_id, &key).await?
            }
        })
    }
}
