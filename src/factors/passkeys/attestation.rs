//! The attestation object of a registration (WebAuthn section 6.5.4). None is asked for, so no statement is trusted:
//! `none` has none, and of `packed` only the self attestation is read, which browsers pass on (section 5.1.3).

use ciborium::Value;

use super::{cbor::Map, public_key::PublicKey, refusal::PasskeyRefusal};

/// An attestation object.
#[derive(Debug)]
pub(super) struct AttestationObject {
    /// The authenticator data.
    pub(super) authenticator_data: Vec<u8>,
    statement: Statement,
}

/// What the authenticator says about itself.
#[derive(Debug)]
enum Statement {
    /// Nothing (section 8.7).
    None,
    /// The new key has signed (section 8.2.1): proof that the authenticator holds it, and no more.
    SelfSigned { algorithm: i64, signature: Vec<u8> },
}

impl AttestationObject {
    /// Reads the CBOR.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, PasskeyRefusal> {
        let map = Map::parse(bytes).ok_or(PasskeyRefusal::AttestationObject)?;
        let parts = (
            map.text_key("fmt").and_then(Value::as_text),
            map.text_key("attStmt").and_then(Value::as_map),
            map.text_key("authData").and_then(Value::as_bytes),
        );
        let (Some(format), Some(statement), Some(data)) = parts else {
            return Err(PasskeyRefusal::AttestationObject);
        };
        let statement = match format {
            "none" if statement.is_empty() => Some(Statement::None),
            "packed" => self_attestation(statement),
            _ => None,
        };
        Ok(Self {
            authenticator_data: data.clone(),
            statement: statement.ok_or(PasskeyRefusal::AttestationFormat)?,
        })
    }

    /// Verifies the statement.
    pub(super) fn check(
        &self,
        key: &PublicKey,
        client_data_hash: &[u8; 32],
    ) -> Result<(), PasskeyRefusal> {
        match &self.statement {
            Statement::None => Ok(()),
            Statement::SelfSigned {
                algorithm,
                signature,
            } => {
                let signed = [self.authenticator_data.as_slice(), client_data_hash].concat();
                let is_good =
                    *algorithm == key.algorithm.number() && key.verifies(&signed, signature);
                is_good.then_some(()).ok_or(PasskeyRefusal::Signature)
            }
        }
    }
}

/// A statement of exactly `alg` and `sig`. With `x5c` it would be an attestation by a manufacturer.
fn self_attestation(statement: &[(Value, Value)]) -> Option<Statement> {
    let find = |name: &str| {
        let entry = statement
            .iter()
            .find(|(key, _)| key.as_text() == Some(name));
        entry.map(|(_, value)| value)
    };
    (statement.len() == 2).then_some(())?;
    Some(Statement::SelfSigned {
        algorithm: find("alg")?.as_integer()?.try_into().ok()?,
        signature: find("sig")?.as_bytes()?.clone(),
    })
}
