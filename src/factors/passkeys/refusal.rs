//! Why a response to a ceremony is refused. Callers of the service are told none of it: for them there is one answer.

/// The rule that a response breaks, for logs and tests. It holds nothing of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasskeyRefusal {
    /// Longer than any real response.
    #[error("the response is too long")]
    TooLong,
    /// Not what `PublicKeyCredential.toJSON()` makes.
    #[error("the JSON is not that of a PublicKeyCredential")]
    Json,
    /// `clientDataJSON` is malformed.
    #[error("the client data is malformed")]
    ClientData,
    /// A response to a registration was given for an authentication, or the other way round.
    #[error("the response is for another WebAuthn ceremony")]
    Ceremony,
    /// Another challenge was answered.
    #[error("the challenge does not match")]
    Challenge,
    /// A page of another origin asked.
    #[error("the origin is not one of those configured")]
    Origin,
    /// The page was embedded in a page of another origin.
    #[error("the page was embedded in one of another origin")]
    CrossOrigin,
    /// The attestation object is malformed.
    #[error("the attestation object is malformed")]
    AttestationObject,
    /// An attestation that was not asked for.
    #[error("the attestation is neither none nor a self attestation")]
    AttestationFormat,
    /// The authenticator data are malformed.
    #[error("the authenticator data are malformed")]
    AuthenticatorData,
    /// The authenticator answered for another relying party.
    #[error("the RP ID does not match")]
    RelyingParty,
    /// Nobody was present.
    #[error("the user was not present")]
    UserPresence,
    /// The authenticator did not verify its user.
    #[error("the user was not verified")]
    UserVerification,
    /// Backed up without being eligible for a backup, or no longer what it was at the registration.
    #[error("the backup flags contradict each other or the registration")]
    BackupFlags,
    /// A key of an algorithm that was not offered.
    #[error("the algorithm was not offered")]
    Algorithm,
    /// The public key is malformed or too weak.
    #[error("the public key is malformed")]
    PublicKey,
    /// The credential id is empty, too long, or not the one that was expected.
    #[error("the credential id is not the expected one")]
    CredentialId,
    /// The passkey belongs to another user, or does not say to whom.
    #[error("the user handle is missing or another user's")]
    UserHandle,
    /// The signature is not that of the stored key.
    #[error("the signature does not verify")]
    Signature,
    /// The signature counter went back or stood still: the authenticator may have been cloned.
    #[error("the signature counter did not grow")]
    SignCount,
}
