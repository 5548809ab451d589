//! Spends the work of a foreign function without a stored hash: the padding of failed logins.

use super::{
    bcrypt, pbkdf2, phpass, scrypt, sha_crypt,
    work::{Function, Work},
    yescrypt,
};
use crate::passwords::error::HashingError;

/// Does this work and discards the result.
///
/// # Errors
/// The function refuses its parameters, which would be a fault of this program.
pub fn discard(work: Work, password: &str) -> Result<(), HashingError> {
    let (password, amount) = (password.as_bytes(), work.amount);
    match work.function {
        Function::Bcrypt => bcrypt::discard(amount, password),
        Function::Pbkdf2Sha1 => pbkdf2::discard(pbkdf2::Digest::Sha1, amount, password),
        Function::Pbkdf2Sha256 => pbkdf2::discard(pbkdf2::Digest::Sha256, amount, password),
        Function::Pbkdf2Sha512 => pbkdf2::discard(pbkdf2::Digest::Sha512, amount, password),
        Function::Scrypt => scrypt::discard(amount, password)?,
        Function::Sha256Crypt => sha_crypt::discard(sha_crypt::Digest::Sha256, amount, password),
        Function::Sha512Crypt => sha_crypt::discard(sha_crypt::Digest::Sha512, amount, password),
        Function::PhpassMd5 => phpass::discard(phpass::Digest::Md5, amount, password),
        Function::PhpassSha512 => phpass::discard(phpass::Digest::Sha512, amount, password),
        Function::Yescrypt => yescrypt::discard(amount, password)?,
    }
    Ok(())
}
