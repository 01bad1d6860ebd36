//! What has to change in a directory of network configurations so that our plugin is in the chain of the pods' default
//! network, or in none. Pure: [`install`](crate::install) reads and writes.
//!
//! A plan for a directory in which everything is as it should be is empty, so that an installer may make one whenever
//! something has changed there, whoever changed it.

use crate::choose::{BESIDE, in_order, is_list, list_beside};
use crate::conflist::{List, ListError, list_of};
use crate::entry::Entry;
use crate::multus;
use std::collections::BTreeMap;

/// A directory's files that the runtimes look at, by their names; or why one can't be read.
pub type Files = BTreeMap<String, Result<String, Unreadable>>;

/// A file can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Too long.
    #[error("it is longer than {} octets, which no runtime reads", crate::install::FILE_MAX)]
    Long,
    /// No text.
    #[error("it is not UTF-8")]
    NotText,
    /// No file, or gone.
    #[error("it is no file that can be read")]
    NoFile,
}

/// What has to change.
#[derive(Debug, Default)]
pub struct Plan {
    /// The changes, in the order in which they have to be made.
    pub steps: Vec<Step>,
    /// The networks whose chains have our plugin when they are made.
    pub chained: Vec<Chained>,
    /// The files that could not be dealt with. The runtimes can't load them either, or they do without our plugin, as
    /// the reason says.
    pub skipped: Vec<Skipped>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The file.
    pub name: String,
    /// What it says before: if it says something else by then, somebody was faster, and a new plan is needed. None:
    /// there is no such file.
    pub from: Option<String>,
    /// What it shall say; None: it shall go.
    pub to: Option<String>,
}

/// A network whose chain has our plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chained {
    /// The file.
    pub file: String,
    /// The network.
    pub network: String,
    /// The types of the plugins that have come behind ours: others' installers put them there, and they are left there.
    pub behind: Vec<String>,
}

/// A file that was left as it is.
#[derive(Debug)]
pub struct Skipped {
    /// The file.
    pub file: String,
    /// Why.
    pub why: Problem,
}

/// Our plugin can't be in the pods' chain.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Nothing there yet.
    #[error(
        "there is no network configuration that can be loaded: the cluster's network plugin has not been installed yet"
    )]
    NoNetwork,
    /// A file can't be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A configuration can't have our plugin.
    #[error(transparent)]
    List(#[from] ListError),
    /// Multus takes its default network from elsewhere.
    #[error(
        "Multus' default network is {0}, which is not in this directory: where it is a NetworkAttachmentDefinition, \
         add sidewall-cni to its list of plugins, or let clusterNetwork name a file here"
    )]
    MultusElsewhere(String),
    /// Multus takes its default network from a file that is no list.
    #[error(
        "Multus' clusterNetwork names the file {0}, which holds a single plugin's configuration and no list, so that nothing \
         can stand behind that plugin: make it a .conflist"
    )]
    MultusSingle(String),
    /// The name for a list beside is too long.
    #[error("the name of {0} is too long for a list beside it")]
    NameTooLong(String),
}

/// The longest file name.
const NAME_MAX: usize = 255;

/// What has to change for our plugin to be in the chain of the pods' default network.
///
/// # Errors
/// [`Problem`]; then pods start without walls, and the installer must say so until it is solved.
pub fn install(files: &Files, entry: &Entry) -> Result<Plan, Problem> {
    let mut planner = Planner { files, entry, plan: Plan::default() };
    planner.drop_stale();
    for name in planner.originals() {
        match planner.chain(name, true) {
            Ok(()) => return Ok(planner.plan),
            // What can't be read the runtimes can't load: CRI-O then takes the next one, and that must not be without
            // us.
            Err(why @ (Problem::Unreadable(_) | Problem::List(_))) => planner.skip(name, why),
            Err(other) => return Err(other),
        }
    }
    match planner.plan.skipped.into_iter().next() {
        Some(skipped) => Err(skipped.why),
        None => Err(Problem::NoNetwork),
    }
}

/// What has to change for our plugin to be in no chain; everything is then as it would be if it never had been there.
pub fn uninstall(files: &Files) -> Plan {
    let entry = Entry::default();
    let mut planner = Planner { files, entry: &entry, plan: Plan::default() };
    for name in in_order(files.keys().map(String::as_str)) {
        if let Err(why) = planner.unchain(name) {
            planner.skip(name, why);
        }
    }
    planner.plan
}

/// The file that a list beside it was made from, if `text` is such a list.
fn made_from(name: &str, text: &str) -> Option<String> {
    if !name.ends_with(BESIDE) {
        return None;
    }
    let from = List::read(text).ok()?.entry()?.converted_from?;
    (list_beside(&from) == name).then_some(from)
}

struct Planner<'a> {
    files: &'a Files,
    entry: &'a Entry,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn text(&self, name: &str) -> Result<&'a str, Problem> {
        match self.files.get(name) {
            Some(Ok(text)) => Ok(text),
            Some(Err(why)) => Err((*why).into()),
            None => Err(Unreadable::NoFile.into()),
        }
    }

    /// The files that are not lists of ours beside others, in the runtimes' order.
    fn originals(&self) -> Vec<&'a str> {
        let names = in_order(self.files.keys().map(String::as_str));
        names.into_iter().filter(|name| self.text(name).map_or(true, |text| made_from(name, text).is_none())).collect()
    }

    fn step(&mut self, name: &str, to: Option<String>) {
        let from = self.files.get(name).and_then(|file| file.as_ref().ok()).cloned();
        self.plan.steps.push(Step { name: name.to_owned(), from, to });
    }

    fn skip(&mut self, name: &str, why: Problem) {
        self.plan.skipped.push(Skipped { file: name.to_owned(), why });
    }

    /// Lists beside files that are gone: who took the file away meant the network.
    fn drop_stale(&mut self) {
        for (name, file) in self.files {
            if let Ok(text) = file
                && made_from(name, text).is_some_and(|from| !self.files.contains_key(&from))
            {
                self.step(name, None);
            }
        }
    }

    /// Chains us in a file. `multus`: where that is Multus', in its default network.
    fn chain(&mut self, name: &str, multus: bool) -> Result<(), Problem> {
        let text = self.text(name)?;
        if let Some(default) = multus::default_network(text)?
            && multus
        {
            return self.chain_behind_multus(name, text, default);
        }
        if is_list(name) {
            let list = List::read(text)?;
            let made = list.with(self.entry)?;
            self.chained(name, made.as_deref().unwrap_or(text))?;
            if made.is_some() {
                self.step(name, made);
            }
            return Ok(());
        }
        let beside = list_beside(name);
        if beside.len() > NAME_MAX {
            return Err(Problem::NameTooLong(name.to_owned()));
        }
        let entry = Entry { converted_from: Some(name.to_owned()), ..self.entry.clone() };
        let mut made = list_of(text, &entry)?;
        if let Some(Ok(there)) = self.files.get(&beside)
            && let Ok(list) = List::read(there)
            && List::read(&made)
                .is_ok_and(|new| new.name() == list.name() && new.plugins().first() == list.plugins().first())
        {
            // Others may have put themselves behind us into our own list.
            made = list.with(&entry)?.unwrap_or_else(|| there.clone());
        }
        self.chained(&beside, &made)?;
        if self.files.get(&beside) != Some(&Ok(made.clone())) {
            self.step(&beside, Some(made));
        }
        Ok(())
    }

    fn chained(&mut self, file: &str, text: &str) -> Result<(), Problem> {
        let list = List::read(text)?;
        let behind = list.behind_ours().to_vec();
        self.plan.chained.push(Chained { file: file.to_owned(), network: list.name().to_owned(), behind });
        Ok(())
    }

    fn chain_behind_multus(&mut self, name: &str, text: &str, default: multus::Default) -> Result<(), Problem> {
        match default {
            multus::Default::File(file) if !self.files.contains_key(&file) => Err(Problem::MultusElsewhere(file)),
            multus::Default::File(file) if !is_list(&file) => Err(Problem::MultusSingle(file)),
            multus::Default::File(file) => self.chain(&file, false),
            multus::Default::Name(network) => match self.find(&network, name) {
                Some(file) => self.chain(file, false),
                None => Err(Problem::MultusElsewhere(network)),
            },
            multus::Default::Copy(network) => {
                // First the file from which the copy is made: Multus may make it again at any time.
                let source = self.originals().into_iter().find(|file| !file.starts_with(multus::OWN_FILES));
                if let Some(file) = source
                    && self.text(file).is_ok_and(|text| multus::network_name(text).is_ok_and(|name| name == network))
                {
                    self.chain(file, false)?;
                }
                self.plan.chained.push(Chained { file: name.to_owned(), network, behind: Vec::new() });
                if let Some(made) = multus::with(text, self.entry)? {
                    self.step(name, Some(made));
                }
                Ok(())
            }
        }
    }

    /// The first file but one with a network of this name.
    fn find(&self, network: &str, but: &str) -> Option<&'a str> {
        let names_it = |name: &&str| {
            *name != but
                && self.text(name).is_ok_and(|text| multus::network_name(text).is_ok_and(|name| name == network))
        };
        self.originals().into_iter().find(names_it)
    }

    fn unchain(&mut self, name: &str) -> Result<(), Problem> {
        let text = self.text(name)?;
        if made_from(name, text).is_some() {
            self.step(name, None);
            return Ok(());
        }
        let made = match multus::default_network(text)? {
            Some(multus::Default::Copy(_)) => multus::without(text)?,
            _ if is_list(name) => List::read(text)?.without()?,
            _ => None,
        };
        if made.is_some() {
            self.step(name, made);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
