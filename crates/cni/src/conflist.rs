//! One network's configuration with our plugin in it, and without it. Pure: text in, text out, and every octet that
//! does not have to change stays as it is.

use crate::entry::{Entry, TYPE};
use crate::text::{Edits, Member, elements, members, place, removal};
use crate::version::SpecVersion;
use serde_json::Value;

/// A configuration can't have our plugin in its chain.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// Not JSON, or not of the right form.
    #[error("it can't be read: {0}")]
    NotJson(#[from] serde_json::Error),
    /// A key stands there twice.
    #[error("it can be read in two ways: {0} stands there twice")]
    Twice(String),
    /// It names no network.
    #[error("it has no name")]
    NoName,
    /// Its version has no chains.
    #[error(
        "its cniVersion is {found}: a plugin can stand behind another only from 0.3.0 on, and sidewall-cni knows versions up \
         to {newest}; set one of them",
        newest = SpecVersion::NEWEST
    )]
    Version {
        /// What it says, or that it says nothing.
        found: String,
    },
    /// It has no list of plugins.
    #[error(
        "it has no list of plugins: write them into the file, since plugins in a directory of their own can't be followed \
         by another"
    )]
    NoPlugins,
    /// There is nothing to stand behind.
    #[error("it has no plugin but sidewall-cni, which must stand behind the one that makes the pod's device")]
    NothingElse,
    /// A plugin without a type.
    #[error("plugin {} has no type", .0 + 1)]
    NoType(usize),
    /// What is a list stands in a file for a single plugin, or the other way round.
    #[error("it is a single plugin's configuration, and its file's name is one for lists")]
    NotAList,
    /// The same, the other way round.
    #[error("it is a list, and its file's name is one for a single plugin's configuration: no runtime loads that")]
    NotSingle,
}

/// A network's list of plugins.
#[derive(Debug)]
pub struct List<'a> {
    text: &'a str,
    name: String,
    array: &'a str,
    plugins: Vec<&'a str>,
    types: Vec<String>,
}

/// The one member of this key.
pub(crate) fn only<'a, 'b>(members: &'b [Member<'a>], key: &str) -> Result<Option<&'b Member<'a>>, ListError> {
    let mut found = members.iter().filter(|member| member.key == key);
    let first = found.next();
    if found.next().is_some() { Err(ListError::Twice(key.to_owned())) } else { Ok(first) }
}

/// The network's name and the version, checked.
fn head(members: &[Member<'_>]) -> Result<String, ListError> {
    let text = |key| -> Result<Option<String>, ListError> {
        Ok(only(members, key)?.map(|member| serde_json::from_str(member.value)).transpose()?)
    };
    let version = text("cniVersion")?;
    // A list may name several versions since 1.1.0; the runtime takes the newest that it knows itself.
    if version.as_deref().and_then(SpecVersion::read).is_none() && only(members, "cniVersions")?.is_none() {
        let version = version.as_deref().unwrap_or("missing");
        let found = version.chars().take(16).flat_map(char::escape_debug).collect();
        return Err(ListError::Version { found });
    }
    match text("name")? {
        Some(name) if !name.is_empty() => Ok(name),
        _ => Err(ListError::NoName),
    }
}

/// The type of a plugin, which the runtimes read whatever the case of its key's letters.
pub(crate) fn plugin_type(plugin: &str) -> Result<Option<String>, ListError> {
    let members = members(plugin)?;
    let found = members.iter().rfind(|member| member.key.eq_ignore_ascii_case("type"));
    Ok(found.map(|member| serde_json::from_str(member.value)).transpose()?)
}

impl<'a> List<'a> {
    /// Reads a list.
    ///
    /// # Errors
    /// [`ListError`].
    pub fn read(text: &'a str) -> Result<Self, ListError> {
        let members = members(text)?;
        let Some(array) = only(&members, "plugins")?.map(|member| member.value) else {
            let single = members.iter().any(|member| member.key.eq_ignore_ascii_case("type"));
            return Err(if single { ListError::NotAList } else { ListError::NoPlugins });
        };
        let name = head(&members)?;
        let plugins = elements(array)?;
        let types =
            plugins.iter().enumerate().map(|(index, plugin)| plugin_type(plugin)?.ok_or(ListError::NoType(index)));
        let types = types.collect::<Result<Vec<_>, _>>()?;
        if plugins.is_empty() {
            return Err(ListError::NoPlugins);
        }
        Ok(Self { text, name, array, plugins, types })
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The types of the plugins, in their order.
    pub fn types(&self) -> &[String] {
        &self.types
    }

    /// The plugins, as they are written.
    pub fn plugins(&self) -> &[&'a str] {
        &self.plugins
    }

    fn ours(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.types.len()).filter(|index| self.types[*index] == TYPE)
    }

    /// Our entry, where it stands in the list and can be read.
    pub fn entry(&self) -> Option<Entry> {
        let value: Value = serde_json::from_str(self.plugins[self.ours().next()?]).ok()?;
        let Value::Object(mut fields) = value else { return None };
        fields.remove("type");
        serde_json::from_value(fields.into()).ok()
    }

    /// The types of the plugins behind ours; empty where ours is the last, or not there.
    pub fn behind_ours(&self) -> &[String] {
        self.ours().next().map_or(&[], |index| &self.types[index + 1..])
    }

    /// The list with our entry; `None` where nothing has to change.
    ///
    /// An entry of ours that is missing becomes the last. One that is there stays where it is, even if others have come
    /// behind it: who else wants to be the last would move us for ever, and the guard is for the namespace as a whole,
    /// whatever comes after it. Only in the first place it can't stay. One that says something else is replaced, and a
    /// second one goes.
    ///
    /// # Errors
    /// [`ListError::NothingElse`].
    pub fn with(&self, entry: &Entry) -> Result<Option<String>, ListError> {
        let mut edits = Edits::default();
        let mut ours = self.ours();
        let kept = match ours.next() {
            Some(0) => {
                let rest = self.without()?.unwrap_or_default();
                return Ok(Some(List::read(&rest)?.with(entry)?.unwrap_or(rest)));
            }
            other => other,
        };
        match kept {
            None => {
                let Some(last) = self.plugins.last() else { return Err(ListError::NothingElse) };
                let end = place(last, self.text).end;
                edits.replace(end..end, format!(",{}{}", self.space(), write(entry)));
            }
            Some(index) if !says(self.plugins[index], entry) => {
                edits.replace(place(self.plugins[index], self.text), write(entry));
            }
            Some(_) => {}
        }
        for second in ours {
            self.take(&mut edits, second);
        }
        let made = edits.apply(self.text);
        Ok((made != self.text).then_some(made))
    }

    /// The list without any entry of ours; `None` where there is none. What [`List::with`] has added is gone again, to
    /// the octet.
    ///
    /// # Errors
    /// [`ListError::NothingElse`].
    pub fn without(&self) -> Result<Option<String>, ListError> {
        let ours: Vec<_> = self.ours().collect();
        if ours.is_empty() {
            return Ok(None);
        }
        if ours.len() == self.plugins.len() {
            return Err(ListError::NothingElse);
        }
        // One after the other, because the commas that go with them may be the same.
        let mut edits = Edits::default();
        self.take(&mut edits, ours[0]);
        let made = edits.apply(self.text);
        let again = List::read(&made)?.without()?;
        Ok(Some(again.unwrap_or(made)))
    }

    fn take(&self, edits: &mut Edits, index: usize) {
        let start = place(self.array, self.text).start;
        let range = removal(&self.plugins, index, self.array);
        edits.replace(start + range.start..start + range.end, "");
    }

    /// The white space before the last plugin, so that ours looks like one of them.
    fn space(&self) -> &str {
        let Some(last) = self.plugins.last() else { return "" };
        let before = &self.text[..place(last, self.text).start];
        &before[before.trim_end().len()..]
    }
}

/// A network's single configuration as a list, with our entry behind it; the configuration stays in it as it is
/// written.
///
/// # Errors
/// [`ListError`].
pub fn list_of(single: &str, entry: &Entry) -> Result<String, ListError> {
    let members = members(single)?;
    if only(&members, "plugins")?.is_some() {
        return Err(ListError::NotSingle);
    }
    head(&members)?;
    match plugin_type(single)? {
        None => return Err(ListError::NoType(0)),
        Some(kind) if kind == TYPE => return Err(ListError::NothingElse),
        Some(_) => {}
    }
    let raw = |key| Ok::<_, ListError>(only(&members, key)?.map(|member| format!("  \"{key}\": {},\n", member.value)));
    let head: String = ["cniVersion", "cniVersions", "name"]
        .into_iter()
        .filter_map(|key| raw(key).transpose())
        .collect::<Result<_, _>>()?;
    let single = single.trim();
    Ok(format!("{{\n{head}  \"plugins\": [\n    {single},\n    {}\n  ]\n}}\n", write(entry)))
}

/// Our entry, as it is written.
fn write(entry: &Entry) -> String {
    // Text, numbers and lists: nothing of this can fail to be written.
    let fields = serde_json::to_string(entry).unwrap_or_default();
    let comma = if fields == "{}" { "" } else { "," };
    format!("{{\"type\":\"{TYPE}\"{comma}{}", &fields[1..])
}

/// Whether a plugin's text says the same as our entry, however it is written.
fn says(plugin: &str, entry: &Entry) -> bool {
    let value = |text: &str| serde_json::from_str::<Value>(text).ok();
    members(plugin).is_ok_and(|members| members.iter().all(|member| only(&members, &member.key).is_ok()))
        && value(plugin).is_some_and(|found| Some(found) == value(&write(entry)))
}

#[cfg(test)]
mod tests;
