//! What is in a Secret, which nobody is shown.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::Secret;
use zeroize::Zeroizing;

/// What is in a Secret: never printed, and wiped when it is dropped.
pub struct SecretContent(BTreeMap<String, Zeroizing<Vec<u8>>>);

impl SecretContent {
    /// Takes over what is in a Secret.
    pub fn of(secret: Secret) -> Self {
        let data = secret.data.unwrap_or_default();
        Self(data.into_iter().map(|(key, bytes)| (key, Zeroizing::new(bytes.0))).collect())
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.0.get(key).map(|value| value.as_slice())
    }

    /// Its keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl fmt::Debug for SecretContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretContent({} keys)", self.0.len())
    }
}
