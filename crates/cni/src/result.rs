//! The result of the plugins before us: passed on untouched, and read by the agent.

use crate::text::{Edits, elements, members, place, removal};
use crate::version::SpecVersion;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::net::IpAddr;

/// A previous result can't be passed on.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// It is not what a result is.
    #[error("prevResult is no result of a plugin: {0}")]
    NotAResult(#[from] serde_json::Error),
    /// An address is none.
    #[error("prevResult has something that is no address with a prefix length (address {})", .0 + 1)]
    Address(usize),
    /// It is in a version that can't be turned into the one that is asked for.
    #[error("prevResult is in version {found}, the configuration in {wanted}")]
    Version {
        /// Its version, as far as it is one.
        found: String,
        /// The configuration's.
        wanted: SpecVersion,
    },
}

/// The previous result as ADD must print it: the very same text where it is in the version of the configuration
/// already, as it always is when a runtime follows the specification. Otherwise only what the version says is changed.
///
/// # Errors
/// [`ResultError`].
pub fn pass_on(previous: &str, wanted: SpecVersion) -> Result<String, ResultError> {
    let found = members(previous)?;
    let mut edits = Edits::default();
    // Where a key stands twice, the last one counts, as it does for the runtimes' own reader.
    let Some(said) = found.iter().rfind(|member| member.key == "cniVersion") else {
        let open = previous.find('{').map_or(0, |at| at + 1);
        let comma = if found.is_empty() { "" } else { "," };
        edits.replace(open..open, format!("\"cniVersion\":\"{wanted}\"{comma}"));
        return Ok(edits.apply(previous));
    };
    let version: String = serde_json::from_str(said.value)?;
    let Some(version) = SpecVersion::read(&version) else {
        let found = version.chars().filter(|c| c.is_ascii_digit() || *c == '.').take(16).collect();
        return Err(ResultError::Version { found, wanted });
    };
    if version == wanted {
        return Ok(previous.to_owned());
    }
    edits.replace(place(said.value, previous), format!("\"{wanted}\""));
    if let Some(ips) = found.iter().rfind(|member| member.key == "ips")
        && version.says_family() != wanted.says_family()
    {
        for (index, address) in elements(ips.value)?.into_iter().enumerate() {
            say_family(&mut edits, previous, address, wanted.says_family()).map_err(|error| match error {
                None => ResultError::Address(index),
                Some(error) => error.into(),
            })?;
        }
    }
    Ok(edits.apply(previous))
}

/// Adds or takes away `version` of one of a result's addresses.
fn say_family(edits: &mut Edits, whole: &str, address: &str, say: bool) -> Result<(), Option<serde_json::Error>> {
    let parts = members(address).map_err(Some)?;
    let start = place(address, whole).start;
    let values: Vec<_> = parts.iter().map(|member| member.value).collect();
    if let Some(index) = parts.iter().rposition(|member| member.key == "version") {
        if !say {
            let range = removal(&values, index, address);
            edits.replace(start + range.start..start + range.end, "");
        }
        return Ok(());
    }
    if say {
        let net = parts.iter().rfind(|member| member.key == "address").ok_or(None)?;
        let net: IpNet = serde_json::from_str(net.value).map_err(|_| None)?;
        let family = if net.addr().is_ipv4() { '4' } else { '6' };
        edits.replace(start + 1..start + 1, format!("\"version\":\"{family}\","));
    }
    Ok(())
}

/// What a result says about the pod's devices and addresses; what the plugins of one chain say, to be compared with
/// what is in the pod's network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Attached {
    /// The devices, in the order to which addresses refer.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    /// The addresses.
    #[serde(default, rename = "ips")]
    pub addresses: Vec<Address>,
}

/// A device that a plugin made, in the pod or on the host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address, as the plugin writes it.
    #[serde(default)]
    pub mac: Option<String>,
    /// For a device in the pod: the path of its network namespace, as the runtime sees it. None or empty for one of the
    /// host.
    #[serde(default)]
    pub sandbox: Option<String>,
}

/// An address that a plugin gave.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Address {
    /// The address, with the prefix length of its network.
    #[serde(rename = "address")]
    pub net: IpNet,
    /// The device that has it: a place in [`Attached::interfaces`].
    #[serde(default)]
    pub interface: Option<usize>,
}

impl Attached {
    /// Reads a result of any version that this plugin speaks; what it says beyond devices and addresses is left out.
    ///
    /// # Errors
    /// The reader's.
    pub fn read(result: &RawValue) -> Result<Self, serde_json::Error> {
        serde_json::from_str(result.get())
    }

    /// The pod's own addresses on a device of the pod. An address that names no device counts for every one.
    pub fn addresses_of(&self, interface: &str) -> Vec<IpAddr> {
        let is_it = |index: usize| {
            self.interfaces.get(index).is_some_and(|found| {
                found.name == interface && found.sandbox.as_ref().is_some_and(|sandbox| !sandbox.is_empty())
            })
        };
        self.addresses
            .iter()
            .filter(|address| address.interface.is_none_or(is_it))
            .map(|address| address.net.addr())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const RESULT: &str = r#"{ "cniVersion":"1.0.0",
  "interfaces":[{"name":"cni0","mac":"aa:bb:cc:dd:ee:ff"},{"name":"eth0","sandbox":"/run/netns/x"}],
  "ips":[{"interface":1,"address":"10.99.1.7/24","gateway":"10.99.1.1"},{"address":"fd00::7/64"}],
  "routes":[{"dst":"0.0.0.0/0"}], "dns":{}, "later":{"big":12345678901234567890123, "f":1e400} }"#;

    #[test]
    fn a_result_in_the_right_version_is_not_touched() {
        assert_eq!(pass_on(RESULT, SpecVersion::V1_0_0).unwrap(), RESULT);
    }

    #[test]
    fn a_result_without_a_version_gets_one_and_nothing_else() {
        assert_eq!(pass_on("{}", SpecVersion::V1_1_0).unwrap(), r#"{"cniVersion":"1.1.0"}"#);
        assert_eq!(pass_on(r#" {"dns":{}}"#, SpecVersion::V0_4_0).unwrap(), r#" {"cniVersion":"0.4.0","dns":{}}"#);
    }

    #[test]
    fn a_result_in_another_version_is_turned_into_the_right_one() {
        let newer = pass_on(RESULT, SpecVersion::V1_1_0).unwrap();
        assert_eq!(newer, RESULT.replace("1.0.0", "1.1.0"));
        let older = pass_on(RESULT, SpecVersion::V0_4_0).unwrap();
        assert!(older.contains(r#"{"version":"4","interface":1,"address":"10.99.1.7/24""#), "{older}");
        assert!(older.contains(r#"{"version":"6","address":"fd00::7/64"}"#), "{older}");
        assert_eq!(pass_on(&older, SpecVersion::V1_0_0).unwrap(), RESULT, "and back");
        assert_eq!(pass_on(&older, SpecVersion::V0_3_1).unwrap(), older.replace("0.4.0", "0.3.1"));
    }

    #[test]
    fn what_is_no_result_is_refused() {
        for (text, what) in [
            ("[]", "no result"),
            ("{\"cniVersion\":7}", "no result"),
            ("{\"cniVersion\":\"0.2.0\"}", "in version 0.2.0"),
            ("{\"cniVersion\":\"1.0.0\",\"ips\":7}", "no result"),
            ("{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"x\"}]}", "no address"),
            ("{\"cniVersion\":\"1.0.0\",\"ips\":[{}]}", "no address"),
        ] {
            let error = pass_on(text, SpecVersion::V0_4_0).unwrap_err().to_string();
            assert!(error.contains(what), "{text}: {error}");
        }
    }

    #[test]
    fn the_agent_reads_devices_and_addresses() {
        let raw: Box<RawValue> = serde_json::from_str(RESULT).unwrap();
        let attached = Attached::read(&raw).unwrap();
        let addresses: Vec<_> = attached.addresses_of("eth0").iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.99.1.7", "fd00::7"]);
        assert_eq!(attached.addresses_of("cni0").len(), 1, "the host's device has only what names no device");
        let empty: Box<RawValue> = serde_json::from_str("{}").unwrap();
        assert_eq!(Attached::read(&empty).unwrap(), Attached { interfaces: vec![], addresses: vec![] });
        let odd: Box<RawValue> = serde_json::from_str(r#"{"ips":[{"address":"10.0.0.1"}]}"#).unwrap();
        assert!(Attached::read(&odd).is_err());
        let _: Value =
            serde_json::from_str(&pass_on(RESULT, SpecVersion::V0_3_1).unwrap().replace("1e400", "1")).unwrap();
    }
}
