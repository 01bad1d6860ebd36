//! Networks whose first plugin is Multus, which runs other networks' chains itself.
//!
//! Multus' configuration is the first of the directory (`00-multus.conf`, or `.conflist`), and the pod's default
//! network is
//!
//! - what `clusterNetwork` names: a file, or a network's name, which Multus looks up at every ADD (so the "thick"
//!   plugin's daemon writes it, whose plugin is `multus-shim`); or
//! - the first of `delegates`: a copy of another file's content (so the "thin" plugin's entrypoint writes it, from the
//!   first other file of the directory, and again when that changes or when it starts).
//!
//! Our plugin belongs into the default network's chain: in the first case in that file, in the second in the copy and
//! in the file from which it is copied. It can't stand behind Multus itself: Multus writes its file anew, and takes any
//! other file of the directory for the default network's.
//!
//! Further networks of a pod (NetworkAttachmentDefinitions) are objects of the API server and are not touched. The
//! guard is for the pod's network namespace as a whole, and thus for their devices too, before any container starts.

use crate::conflist::{List, ListError, list_of, only, plugin_type};
use crate::entry::Entry;
use crate::text::{Edits, elements, members, place};

/// The programs of Multus.
const TYPES: [&str; 2] = ["multus", "multus-shim"];
/// What the names of its own files begin with.
pub const OWN_FILES: &str = "00-multus";
/// What our entry says of where it is, when a delegate was a single configuration.
const DELEGATE: &str = "delegates[0]";

/// Where the pod's default network is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Default {
    /// In a file: its last part, since the path is one inside of Multus' own pod.
    File(String),
    /// Under this name, in a file or in the API server.
    Name(String),
    /// In Multus' own file, as a copy. The copy's name.
    Copy(String),
}

/// Where Multus finds the default network, if a configuration is Multus'.
///
/// # Errors
/// [`ListError`].
pub fn default_network(text: &str) -> Result<Option<Default>, ListError> {
    let Some(own) = own_part(text)? else { return Ok(None) };
    let members = members(own)?;
    if let Some(cluster) = only(&members, "clusterNetwork")? {
        let name: String = serde_json::from_str(cluster.value)?;
        if !name.is_empty() {
            return Ok(Some(match name.rsplit_once('/') {
                Some((_, file)) => Default::File(file.to_owned()),
                None => Default::Name(name),
            }));
        }
    }
    match first_delegate(own)? {
        Some(delegate) => Ok(Some(Default::Copy(network_name(delegate)?))),
        None => Err(ListError::NoPlugins),
    }
}

/// Multus' own object: the configuration itself, or the first plugin of a list.
fn own_part(text: &str) -> Result<Option<&str>, ListError> {
    let is_multus =
        |part: &str| Ok::<_, ListError>(plugin_type(part)?.is_some_and(|kind| TYPES.contains(&kind.as_str())));
    let found = members(text)?;
    let plugin = match only(&found, "plugins")? {
        Some(plugins) => elements(plugins.value)?.first().copied(),
        None => Some(text.trim()),
    };
    Ok(plugin.map(|plugin| is_multus(plugin).map(|is| is.then_some(plugin))).transpose()?.flatten())
}

fn first_delegate(own: &str) -> Result<Option<&str>, ListError> {
    let members = members(own)?;
    let delegates = only(&members, "delegates")?.map(|delegates| elements(delegates.value)).transpose()?;
    Ok(delegates.and_then(|delegates| delegates.first().copied()))
}

/// The name of a network's configuration.
pub(crate) fn network_name(text: &str) -> Result<String, ListError> {
    let members = members(text)?;
    let name = only(&members, "name")?.map(|name| serde_json::from_str::<String>(name.value)).transpose()?;
    name.filter(|name| !name.is_empty()).ok_or(ListError::NoName)
}

fn with_delegate(
    text: &str,
    change: impl FnOnce(&str) -> Result<Option<String>, ListError>,
) -> Result<Option<String>, ListError> {
    let delegate = own_part(text)?.map(first_delegate).transpose()?.flatten().ok_or(ListError::NoPlugins)?;
    Ok(change(delegate)?.map(|changed| {
        let mut edits = Edits::default();
        edits.replace(place(delegate, text), changed);
        edits.apply(text)
    }))
}

/// Multus' configuration with our entry in the chain of its copy of the default network; `None` where nothing has to
/// change.
///
/// # Errors
/// [`ListError`].
pub fn with(text: &str, entry: &Entry) -> Result<Option<String>, ListError> {
    with_delegate(text, |delegate| match List::read(delegate) {
        Ok(list) => {
            let converted_from = list.entry().and_then(|entry| entry.converted_from);
            list.with(&Entry { converted_from: converted_from.filter(|from| from == DELEGATE), ..entry.clone() })
        }
        Err(ListError::NotAList) => {
            let made = list_of(delegate, &Entry { converted_from: Some(DELEGATE.to_owned()), ..entry.clone() })?;
            Ok(Some(made.trim_end().to_owned()))
        }
        Err(error) => Err(error),
    })
}

/// Multus' configuration as it was before; `None` where we are not in it.
///
/// # Errors
/// [`ListError`].
pub fn without(text: &str) -> Result<Option<String>, ListError> {
    with_delegate(text, |delegate| match List::read(delegate) {
        Ok(list) if list.entry().is_some_and(|entry| entry.converted_from.as_deref() == Some(DELEGATE)) => {
            Ok(list.plugins().first().map(|single| (*single).to_owned()))
        }
        Ok(list) => list.without(),
        Err(ListError::NotAList) => Ok(None),
        Err(error) => Err(error),
    })
}

#[cfg(test)]
mod tests;
