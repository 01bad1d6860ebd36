//! Words that nobody can guess, for the paths of hooks.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use sidewall_proxy_config::{HookKey, Occasion};

/// The operator's secret, of which the words in hooks' paths are made.
///
/// A hook does something, and whoever reaches the probe port could call it; so its path ends in a word that only the pod
/// and the proxy's configuration say. The word follows from the secret and the hook, so that pods of one template have one
/// configuration, and a second call of the webhook writes the same.
#[derive(Clone)]
pub struct HookSecret([u8; 32]);

/// Why bytes are no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operator's secret for hooks is {length} bytes long; let it be 32 random ones")]
pub struct BadHookSecret {
    /// How long they are.
    pub length: usize,
}

impl HookSecret {
    /// Takes 32 random bytes.
    ///
    /// # Errors
    ///
    /// Another number of bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, BadHookSecret> {
        bytes.try_into().map(Self).map_err(|_| BadHookSecret { length: bytes.len() })
    }

    /// The key under which divided pods and their parts are signed. It is the same secret: what is signed begins with a word of its
    /// own, and HMAC is not what makes the words of hooks.
    pub fn splits(&self) -> sidewall_split::Key {
        sidewall_split::Key::of(&self.0)
    }

    /// The word for a hook of a container, in the pods that a SidecarProxy of a namespace selects.
    pub fn key(&self, namespace: &str, proxy: &str, container: &str, occasion: Occasion) -> HookKey {
        let mut hash = Sha256::new();
        hash.update(self.0);
        for part in [namespace, proxy, container, occasion.name()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        // Half of the hash is left out, so that nobody can go on hashing where we stopped.
        let word: Vec<u8> = hash.finalize().iter().copied().take(16).collect();
        HookKey::new(BASE64_URL_SAFE_NO_PAD.encode(word))
    }
}

impl fmt::Debug for HookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookSecret(redacted)")
    }
}
