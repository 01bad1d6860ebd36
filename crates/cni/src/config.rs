//! What the runtime writes on our standard input: our entry of the network's list, with what the specification adds to
//! it.

use crate::entry::Entry;
use crate::failure::Failure;
use crate::names::NetworkName;
use crate::text::members;
use crate::version::SpecVersion;
use crate::wire::{DOCUMENT_MAX, ValidAttachment};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::io::Read;

/// The longest configuration, in octets. What goes on to the agent must fit into a document beside the rest.
pub const CONFIG_MAX: usize = DOCUMENT_MAX - (64 << 10);

/// Keys that the specification or its conventions have for every plugin, and that mean nothing to this one. Multus
/// writes the last two into every plugin of a list whose network has a device to give.
const OTHERS: [&str; 9] =
    ["type", "args", "capabilities", "runtimeConfig", "ipMasq", "ipam", "dns", "deviceID", "pciBusID"];
/// What every key begins with that the specification reserves since 1.1.0.
const RESERVED: &str = "cni.dev/";
/// The longest piece of a field's name that an error repeats.
const QUOTED: usize = 40;

/// A configuration, read.
#[derive(Clone, Debug)]
pub struct Config {
    /// The version in which the runtime speaks.
    pub version: SpecVersion,
    /// The network.
    pub network: NetworkName,
    /// Our own settings.
    pub entry: Entry,
    /// What the plugins before us made.
    pub previous: Option<Box<RawValue>>,
    /// With GC: what is attached to the network.
    pub valid: Option<Vec<ValidAttachment>>,
}

/// Reads standard input to its end.
///
/// # Errors
/// [`Failure::Stdin`], [`Failure::Long`].
pub fn read_all(from: &mut dyn Read) -> Result<Vec<u8>, Failure> {
    let mut octets = Vec::new();
    from.take(CONFIG_MAX as u64 + 1).read_to_end(&mut octets).map_err(Failure::Stdin)?;
    if octets.len() > CONFIG_MAX { Err(Failure::Long) } else { Ok(octets) }
}

/// The version that a configuration names, as far as it is one: known before anything else may be wrong, because errors
/// are written in it too.
pub fn version(octets: &[u8]) -> Option<SpecVersion> {
    #[derive(Deserialize)]
    struct Version {
        #[serde(rename = "cniVersion")]
        version: String,
    }
    serde_json::from_slice::<Version>(octets).ok().and_then(|found| SpecVersion::read(&found.version))
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn parse(octets: &[u8]) -> Result<Self, Failure> {
        let text = std::str::from_utf8(octets).map_err(Failure::NotText)?;
        let (mut version, mut network, mut previous, mut valid) = (None, None, None, None);
        let mut own = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for member in members(text).map_err(Failure::NotJson)? {
            if !seen.insert(member.key.clone()) {
                return Err(Failure::Twice(quoted(&member.key)));
            }
            match member.key.as_str() {
                "cniVersion" => version = Some(string("cniVersion", member.value)?),
                "name" => network = Some(string("name", member.value)?),
                "prevResult" => previous = (member.value != "null").then_some(member.value),
                "cni.dev/valid-attachments" => valid = Some(attachments(member.value)?),
                key if OTHERS.contains(&key) || key.starts_with(RESERVED) => {}
                _ => own.push(member),
            }
        }
        let version = version.ok_or(Failure::Missing("cniVersion"))?;
        let version = SpecVersion::read(&version).ok_or_else(|| Failure::Version(quoted(&version)))?;
        let network = network.ok_or(Failure::Missing("name"))?;
        let network = network.try_into().map_err(|reason| Failure::Network { reason })?;
        let entry = own_settings(&own)?;
        let raw = |text: &str| RawValue::from_string(text.to_owned()).map_err(Failure::NotJson);
        Ok(Self { version, network, entry, previous: previous.map(raw).transpose()?, valid })
    }
}

/// Our own fields, of which none may be unknown.
fn own_settings(own: &[crate::text::Member<'_>]) -> Result<Entry, Failure> {
    let pairs: Vec<_> =
        own.iter().map(|member| format!("{}:{}", serde_json::Value::from(member.key.as_str()), member.value)).collect();
    let text = format!("{{{}}}", pairs.join(","));
    // Asked one by one first, so that the error can name the field.
    for (member, pair) in own.iter().zip(&pairs) {
        serde_json::from_str::<Entry>(&format!("{{{pair}}}")).map_err(|error| {
            let field = quoted(&member.key);
            if error.to_string().starts_with("unknown field") {
                Failure::UnknownField(field)
            } else {
                Failure::Field { field, error }
            }
        })?;
    }
    let entry: Entry = serde_json::from_str(&text).map_err(Failure::NotJson)?;
    entry.check().map_err(Failure::Entry)?;
    Ok(entry)
}

fn string(field: &'static str, value: &str) -> Result<String, Failure> {
    serde_json::from_str(value).map_err(|error| Failure::Field { field: field.to_owned(), error })
}

fn attachments(value: &str) -> Result<Vec<ValidAttachment>, Failure> {
    #[derive(Deserialize)]
    struct Given {
        #[serde(rename = "containerID")]
        container: crate::names::SandboxId,
        #[serde(rename = "ifname")]
        interface: crate::names::InterfaceName,
    }
    let given: Vec<Given> = serde_json::from_str(value)
        .map_err(|error| Failure::Field { field: "cni.dev/valid-attachments".to_owned(), error })?;
    Ok(given
        .into_iter()
        .map(|given| ValidAttachment { container: given.container, interface: given.interface })
        .collect())
}

/// As much of a foreign text as an error may repeat.
fn quoted(text: &str) -> String {
    text.chars().take(QUOTED).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_with_all_that_runtimes_add() {
        let text = r#"{"cniVersion":"1.1.0","name":"podnet","type":"sidewall-cni","socket":"/s","exemptNamespaces":["a"],
            "capabilities":{},"runtimeConfig":{"x":1},"args":{"cni":{}},"ipam":{},"dns":{},"ipMasq":true,"deviceID":"0000:00:1f.6","pciBusID":"0000:00:1f.6",
            "cni.dev/later":[],"cni.dev/valid-attachments":[{"containerID":"c","ifname":"eth0","more":1}],
            "prevResult": {"cniVersion":"1.1.0", "x" : 1e400}}"#;
        let config = Config::parse(text.as_bytes()).unwrap();
        assert_eq!((config.version, config.network.as_str()), (SpecVersion::V1_1_0, "podnet"));
        assert_eq!(config.entry.socket(), std::path::Path::new("/s"));
        assert_eq!(config.previous.unwrap().get(), r#"{"cniVersion":"1.1.0", "x" : 1e400}"#);
        assert_eq!(config.valid.unwrap().len(), 1);
        let least = Config::parse(br#"{"cniVersion":"0.4.0","name":"n","prevResult":null}"#).unwrap();
        assert!(least.previous.is_none() && least.valid.is_none() && least.entry == Entry::default());
    }

    #[test]
    fn a_configuration_that_can_not_be_is_refused_with_the_code_for_it() {
        for (text, code, words) in [
            (&b""[..], 6, "EOF"),
            (b"\xff", 6, "UTF-8"),
            (b"[]", 6, "expected an object"),
            (br#"{"cniVersion":"1.0.0","name":"n"} x"#, 6, "trailing"),
            (br#"{"cniVersion":"1.0.0","name":"n","name":"m"}"#, 7, "name stands there twice"),
            (br#"{"name":"n"}"#, 7, "has no cniVersion"),
            (br#"{"cniVersion":"1.0.0"}"#, 7, "has no name"),
            (br#"{"cniVersion":"2.0.0","name":"n"}"#, 1, "2.0.0"),
            (br#"{"cniVersion":"0.2.0","name":"n"}"#, 1, "0.2.0"),
            (br#"{"cniVersion":7,"name":"n"}"#, 7, "cniVersion"),
            (br#"{"cniVersion":"1.0.0","name":"a/b"}"#, 7, "name"),
            (br#"{"cniVersion":"1.0.0","name":"n","exemptNamespace":["a"]}"#, 2, "exemptNamespace"),
            (br#"{"cniVersion":"1.0.0","name":"n","exemptNamespaces":"a"}"#, 7, "exemptNamespaces"),
            (br#"{"cniVersion":"1.0.0","name":"n","socket":"s"}"#, 7, "absolute"),
            (br#"{"cniVersion":"1.1.0","name":"n","cni.dev/valid-attachments":[{}]}"#, 7, "valid-attachments"),
        ] {
            let failure = Config::parse(text).unwrap_err();
            let told = format!("{failure}; {}", failure.details());
            assert_eq!(failure.code(), code, "{told}");
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn a_configuration_without_end_is_not_read_to_the_end() {
        let mut endless = std::io::repeat(b' ');
        assert!(matches!(read_all(&mut endless), Err(Failure::Long)));
    }
}
