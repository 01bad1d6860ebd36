//! One password hash: read once, checked often.

use std::fmt;

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha_crypt::{CustomizedPasswordHasher, PasswordHash, PasswordVerifier, ShaCrypt};
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::apr1;
use super::{MAX_NAME_BYTES, MAX_PASSWORD_BYTES};
use crate::secret::Password;

/// The highest bcrypt cost that is accepted. Each step doubles the work; 14 takes about 1.7 s of one core.
pub const MAX_BCRYPT_COST: u32 = 14;
/// The most rounds of SHA-256 or SHA-512 crypt that are accepted: about 0.3 s of one core.
pub const MAX_SHA_CRYPT_ROUNDS: u32 = 500_000;

const MIN_SHA_CRYPT_ROUNDS: u32 = 1000;
const MAX_SHA_CRYPT_SALT: usize = 16;

/// The hash of one user's password.
#[derive(Clone)]
pub(super) enum Hash {
    Bcrypt { cost: u32, salt: [u8; 16], hash: [u8; 23] },
    Apr1 { salt: Vec<u8>, hash: [u8; apr1::HASH_LEN] },
    Sha1([u8; 20]),
    ShaCrypt(PasswordHash),
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash(redacted)")
    }
}

impl Hash {
    pub(super) fn parse(text: &str) -> Result<Self, HashFault> {
        if let Some(rest) = text.strip_prefix("{SHA}") {
            let bytes = STANDARD.decode(rest).map_err(|_| HashFault::Malformed)?;
            return Ok(Self::Sha1(bytes.try_into().map_err(|_| HashFault::Malformed)?));
        }
        if let Some(rest) = text.strip_prefix("$apr1$") {
            return parse_apr1(rest);
        }
        if text.starts_with("$5$") || text.starts_with("$6$") {
            return parse_sha_crypt(text);
        }
        if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            return parse_bcrypt(&text[4..]);
        }
        if text.is_empty() {
            return Err(HashFault::Missing);
        }
        Err(HashFault::Unsupported)
    }

    /// Whether the password has this hash. The comparison takes as long for every wrong password.
    pub(super) fn matches(&self, password: &Password) -> bool {
        let password = password.expose();
        match self {
            Self::Bcrypt { cost, salt, hash } => bcrypt_hash(*cost, *salt, password).ct_eq(hash).into(),
            Self::Apr1 { salt, hash } => apr1::hash(password, salt).ct_eq(hash).into(),
            Self::Sha1(hash) => {
                let digest: [u8; 20] = Sha1::digest(password).into();
                digest.ct_eq(hash).into()
            }
            Self::ShaCrypt(hash) => ShaCrypt::default().verify_password(password, hash).is_ok(),
        }
    }
}

/// bcrypt hashes the terminating NUL too, and nothing beyond 72 bytes; every htpasswd does it so.
fn bcrypt_hash(cost: u32, salt: [u8; 16], password: &[u8]) -> [u8; 23] {
    let mut terminated = Zeroizing::new([0; 72]);
    let taken = password.len().min(72);
    terminated[..taken].copy_from_slice(&password[..taken]);
    let full = bcrypt::bcrypt(cost, salt, &terminated[..(taken + 1).min(72)]);
    let mut hash = [0; 23];
    hash.copy_from_slice(&full[..23]);
    hash
}

fn parse_bcrypt(rest: &str) -> Result<Hash, HashFault> {
    let (cost, body) = rest.split_once('$').ok_or(HashFault::Malformed)?;
    if cost.len() != 2 || !cost.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HashFault::Malformed);
    }
    let cost: u32 = cost.parse().map_err(|_| HashFault::Malformed)?;
    if cost < 4 {
        return Err(HashFault::Malformed);
    }
    if cost > MAX_BCRYPT_COST {
        return Err(HashFault::BcryptCost { cost });
    }
    if body.len() != 53 || !body.is_ascii() {
        return Err(HashFault::Malformed);
    }
    let (salt_text, hash_text) = body.split_at(22);
    let salt = bcrypt::BASE_64.decode(salt_text).map_err(|_| HashFault::Malformed)?;
    let hash = bcrypt::BASE_64.decode(hash_text).map_err(|_| HashFault::Malformed)?;
    Ok(Hash::Bcrypt {
        cost,
        salt: salt.try_into().map_err(|_| HashFault::Malformed)?,
        hash: hash.try_into().map_err(|_| HashFault::Malformed)?,
    })
}

fn parse_apr1(rest: &str) -> Result<Hash, HashFault> {
    let (salt, hash) = rest.split_once('$').ok_or(HashFault::Malformed)?;
    let (salt, hash) = (salt.as_bytes(), hash.as_bytes());
    if salt.is_empty() || salt.len() > apr1::MAX_SALT || !apr1::is_crypt_text(salt) || !apr1::is_crypt_text(hash) {
        return Err(HashFault::Malformed);
    }
    Ok(Hash::Apr1 { salt: salt.to_vec(), hash: hash.try_into().map_err(|_| HashFault::Malformed)? })
}

fn parse_sha_crypt(text: &str) -> Result<Hash, HashFault> {
    let hash_len = if text.starts_with("$5$") { 43 } else { 86 };
    let mut fields = text[3..].split('$');
    let mut next = fields.next().ok_or(HashFault::Malformed)?;
    if let Some(rounds) = next.strip_prefix("rounds=") {
        // Others read `rounds=05000` in different ways; nobody writes it.
        if rounds.is_empty() || rounds.starts_with('0') || !rounds.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(HashFault::Malformed);
        }
        // Too many digits for a number are too many rounds.
        let rounds: u32 = rounds.parse().unwrap_or(u32::MAX);
        if rounds < MIN_SHA_CRYPT_ROUNDS {
            return Err(HashFault::FewRounds);
        }
        if rounds > MAX_SHA_CRYPT_ROUNDS {
            return Err(HashFault::ManyRounds);
        }
        next = fields.next().ok_or(HashFault::Malformed)?;
    }
    let salt = next.as_bytes();
    let hash = fields.next().ok_or(HashFault::Malformed)?.as_bytes();
    let whole = fields.next().is_none()
        && !salt.is_empty()
        && salt.len() <= MAX_SHA_CRYPT_SALT
        && hash.len() == hash_len
        && apr1::is_crypt_text(salt)
        && apr1::is_crypt_text(hash);
    if !whole {
        return Err(HashFault::Malformed);
    }
    Ok(Hash::ShaCrypt(PasswordHash::new(text).map_err(|_| HashFault::Malformed)?))
}

/// What is wrong with a hash. Never quotes it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashFault {
    /// Nothing stands after the colon.
    #[error("has no hash after the colon")]
    Missing,
    /// The kind of hash is not known.
    #[error(
        "has a hash of an unsupported kind; use bcrypt ($2y$), SHA-512 crypt ($6$), SHA-256 crypt ($5$), apr1 ($apr1$) \
         or {{SHA}}; plain text and DES crypt are not accepted"
    )]
    Unsupported,
    /// The kind is known, the rest is broken.
    #[error("has a malformed hash; make it anew with `sidewall-proxy hash` or `htpasswd`")]
    Malformed,
    /// bcrypt would take too long.
    #[error("has a bcrypt cost of {cost}; at most {MAX_BCRYPT_COST} is accepted")]
    BcryptCost {
        /// The cost in the file.
        cost: u32,
    },
    /// SHA crypt would take too long.
    #[error("has more than {MAX_SHA_CRYPT_ROUNDS} rounds; make the hash anew with fewer")]
    ManyRounds,
    /// SHA crypt forbids it.
    #[error("has fewer than {MIN_SHA_CRYPT_ROUNDS} rounds, which SHA crypt forbids")]
    FewRounds,
}

/// The hashes that [`make_line`] makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// bcrypt with cost 10.
    Bcrypt,
    /// Apache's MD5 variant; for tools that know nothing better.
    Apr1,
    /// SHA-512 crypt with 100,000 rounds.
    Sha512,
}

/// Makes an htpasswd line, without a newline, from a user name and a password.
///
/// # Errors
///
/// When the name cannot stand in an htpasswd file, or the password could not be checked again.
pub fn make_line(user: &str, password: &Password, algorithm: Algorithm) -> Result<String, MakeHashError> {
    let plain = password.expose();
    if user.is_empty()
        || user.len() > MAX_NAME_BYTES
        || user.contains(':')
        || user.starts_with('#')
        || user.trim() != user
        || user.chars().any(char::is_control)
    {
        return Err(MakeHashError::Name);
    }
    if plain.is_empty() || plain.iter().any(u8::is_ascii_control) {
        return Err(MakeHashError::Password);
    }
    let most = if algorithm == Algorithm::Bcrypt { 72 } else { MAX_PASSWORD_BYTES };
    if plain.len() > most {
        return Err(MakeHashError::LongPassword { most });
    }
    let mut random = [0; 16];
    rand::fill(&mut random).map_err(|_| MakeHashError::Random)?;
    let hash = match algorithm {
        Algorithm::Bcrypt => {
            let hash = bcrypt_hash(10, random, plain);
            format!("$2y$10${}{}", bcrypt::BASE_64.encode(random), bcrypt::BASE_64.encode(hash))
        }
        Algorithm::Apr1 => {
            let mut short = [0; apr1::MAX_SALT];
            short.copy_from_slice(&random[..apr1::MAX_SALT]);
            let salt = apr1::salt_from(short);
            let hash = apr1::hash(plain, salt.as_bytes());
            format!("$apr1${salt}${}", String::from_utf8_lossy(&hash))
        }
        Algorithm::Sha512 => {
            let params = sha_crypt::Params::new(100_000).map_err(|_| MakeHashError::Random)?;
            // 12 bytes become the 16 characters that the salt can have.
            let hash: PasswordHash = ShaCrypt::SHA512
                .hash_password_customized(plain, &random[..12], None, None, params)
                .map_err(|_| MakeHashError::Random)?;
            hash.as_str().to_owned()
        }
    };
    Ok(format!("{user}:{hash}"))
}

/// Why no line was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MakeHashError {
    /// The name cannot stand in an htpasswd file.
    #[error(
        "the user name must have 1 to {MAX_NAME_BYTES} bytes, no colon and no control character, and neither begin with \
         `#` nor begin or end with a blank"
    )]
    Name,
    /// The password cannot be sent with Basic authentication.
    #[error("the password must not be empty nor hold control characters (RFC 7617)")]
    Password,
    /// The password would be cut off.
    #[error("the password has more than {most} bytes, which this algorithm would not check; use a shorter one")]
    LongPassword {
        /// The most bytes.
        most: usize,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random numbers for the salt; try again")]
    Random,
}
