//! apr1: the MD5-based hash of Apache's htpasswd, a variant of Poul-Henning Kamp's md5crypt with a magic of its own.

use md5::{Digest, Md5};
use zeroize::Zeroize;

const MAGIC: &[u8] = b"$apr1$";
const ROUNDS: usize = 1000;
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The longest salt that counts.
pub(super) const MAX_SALT: usize = 8;
/// The length of the encoded hash.
pub(super) const HASH_LEN: usize = 22;

/// The hash of a password, in the characters that follow the salt in an htpasswd line.
pub(super) fn hash(password: &[u8], salt: &[u8]) -> [u8; HASH_LEN] {
    let mut inner: [u8; 16] =
        Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize().into();

    let mut outer = Md5::new().chain_update(password).chain_update(MAGIC).chain_update(salt);
    for chunk in password.chunks(inner.len()) {
        outer.update(&inner[..chunk.len()]);
    }
    // The original reads one bit of the length at a time, and feeds a NUL or the password's first byte for it.
    let mut bits = password.len();
    while bits != 0 {
        outer.update(if bits & 1 == 1 { &[0] } else { &password[..1] });
        bits >>= 1;
    }
    let mut digest: [u8; 16] = outer.finalize().into();

    for round in 0..ROUNDS {
        let odd = round % 2 == 1;
        let mut next = Md5::new();
        if odd {
            next.update(password);
        } else {
            next.update(digest);
        }
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        if odd {
            next.update(digest);
        } else {
            next.update(password);
        }
        digest = next.finalize().into();
    }

    let encoded = encode(&digest);
    inner.zeroize();
    digest.zeroize();
    encoded
}

/// Three bytes become four characters, least significant bits first, in the order that md5crypt has always used.
fn encode(digest: &[u8; 16]) -> [u8; HASH_LEN] {
    const ORDER: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    let mut out = [0; HASH_LEN];
    let mut put = |at: usize, count: usize, mut value: usize| {
        for slot in &mut out[at..at + count] {
            *slot = ALPHABET[value & 0x3f];
            value >>= 6;
        }
    };
    for (index, [high, middle, low]) in ORDER.into_iter().enumerate() {
        let value = usize::from(digest[high]) << 16 | usize::from(digest[middle]) << 8 | usize::from(digest[low]);
        put(index * 4, 4, value);
    }
    put(20, 2, usize::from(digest[11]));
    out
}

/// Whether every byte belongs to the alphabet of crypt's hashes and salts.
pub(super) fn is_crypt_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| ALPHABET.contains(byte))
}

/// A salt of the usual length from random bytes.
pub(super) fn salt_from(random: [u8; MAX_SALT]) -> String {
    random.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 0x3f)])).collect()
}
