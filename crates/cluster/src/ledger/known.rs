//! Which objects of a kind there are.

use sidewall_policy::index::Named;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Debug, Write as _};
use std::hash::{BuildHasher, Hasher};

/// The objects of a kind, each with a fingerprint.
#[derive(Debug, Default)]
pub(super) struct Known {
    round: u32,
    namespaces: BTreeMap<Box<str>, HashMap<Box<str>, Mark>>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    /// The list in which it was seen last.
    round: u32,
    print: u64,
}

impl Known {
    /// A list begins.
    pub fn begin(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// An object is there. Gives its fingerprint from before.
    pub fn put(&mut self, name: &Named, print: u64) -> Option<u64> {
        let mark = Mark { round: self.round, print };
        if !self.namespaces.contains_key(name.namespace.as_str()) {
            self.namespaces.insert(name.namespace.as_str().into(), HashMap::new());
        }
        let names = self.namespaces.get_mut(name.namespace.as_str())?;
        match names.get_mut(name.name.as_str()) {
            Some(known) => Some(std::mem::replace(known, mark).print),
            None => {
                names.insert(name.name.as_str().into(), mark);
                None
            }
        }
    }

    /// An object is no more. Says whether it was there.
    pub fn remove(&mut self, name: &Named) -> bool {
        let Some(names) = self.namespaces.get_mut(name.namespace.as_str()) else { return false };
        let known = names.remove(name.name.as_str()).is_some();
        if names.is_empty() {
            self.namespaces.remove(name.namespace.as_str());
        }
        known
    }

    /// Takes out what the list that has just ended did not name, in the order of names.
    pub fn unseen(&mut self) -> Vec<Named> {
        let round = self.round;
        let mut unseen = Vec::new();
        self.namespaces.retain(|namespace, names| {
            names.retain(|name, mark| {
                let seen = mark.round == round;
                if !seen {
                    unseen.push(Named::new(&**namespace, &**name));
                }
                seen
            });
            !names.is_empty()
        });
        unseen.sort();
        unseen
    }
}

/// Makes fingerprints of what an object shows of itself.
///
/// Their keys are drawn anew by each process, so that nobody can write two states of an object that look the same to it.
#[derive(Debug, Default)]
pub(super) struct Printer(RandomState);

impl Printer {
    /// The fingerprint of a value.
    pub fn of(&self, value: &impl Debug) -> u64 {
        struct Sink<H>(H);
        impl<H: Hasher> fmt::Write for Sink<H> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.write(text.as_bytes());
                Ok(())
            }
        }
        let mut sink = Sink(self.0.build_hasher());
        // The sink takes everything.
        let _ = write!(sink, "{value:?}");
        sink.0.finish()
    }
}
