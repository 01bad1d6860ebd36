//! Objects by namespace and name, as a watch tells of them.

use std::collections::{BTreeMap, BTreeSet};

use kube::runtime::watcher::Event;

/// A namespace and a name.
pub type Key = (String, String);

/// Objects by namespace and name. Nothing is taken for gone that a list has not left out, to its end.
#[derive(Debug)]
pub struct Table<T> {
    rows: BTreeMap<String, BTreeMap<String, T>>,
    /// What the list that is being read has named so far.
    listing: Option<BTreeSet<Key>>,
    synced: bool,
}

// By hand: what is in it need not have a default.
impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), listing: None, synced: false }
    }
}

impl<T: PartialEq> Table<T> {
    /// Takes what a watch tells, and says which namespaces it changes anything in.
    pub fn note(&mut self, event: Event<(Key, T)>) -> BTreeSet<String> {
        match event {
            Event::Init => {
                self.listing = Some(BTreeSet::new());
                BTreeSet::new()
            }
            Event::InitApply((key, row)) => {
                if let Some(listing) = &mut self.listing {
                    listing.insert(key.clone());
                }
                self.put(key, row)
            }
            Event::Apply((key, row)) => self.put(key, row),
            Event::Delete((key, _)) => self.remove(&key),
            Event::InitDone => {
                self.synced = true;
                let Some(listing) = self.listing.take() else { return BTreeSet::new() };
                let gone: Vec<Key> = self.keys().filter(|key| !listing.contains(key)).collect();
                gone.iter().flat_map(|key| self.remove(key)).collect()
            }
        }
    }

    fn put(&mut self, (namespace, name): Key, row: T) -> BTreeSet<String> {
        let rows = self.rows.entry(namespace.clone()).or_default();
        if rows.get(&name) == Some(&row) {
            return BTreeSet::new();
        }
        rows.insert(name, row);
        BTreeSet::from([namespace])
    }

    fn remove(&mut self, (namespace, name): &Key) -> BTreeSet<String> {
        let Some(rows) = self.rows.get_mut(namespace) else { return BTreeSet::new() };
        let gone = rows.remove(name).is_some();
        if rows.is_empty() {
            self.rows.remove(namespace);
        }
        if gone { BTreeSet::from([namespace.clone()]) } else { BTreeSet::new() }
    }
}

impl<T> Table<T> {
    /// Whether a list has been read to its end.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.values().map(BTreeMap::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// One of them.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&T> {
        self.rows.get(namespace)?.get(name)
    }

    /// Those of a namespace, by name.
    pub fn of<'a>(&'a self, namespace: &str) -> impl Iterator<Item = (&'a String, &'a T)> + use<'a, T> {
        self.rows.get(namespace).into_iter().flatten()
    }

    /// All of them, by namespace and name.
    pub fn all(&self) -> impl Iterator<Item = (&String, &String, &T)> {
        self.rows.iter().flat_map(|(namespace, rows)| rows.iter().map(move |(name, row)| (namespace, name, row)))
    }

    /// The namespaces in which there is any.
    pub fn namespaces(&self) -> impl Iterator<Item = &String> {
        self.rows.keys()
    }

    fn keys(&self) -> impl Iterator<Item = Key> {
        self.all().map(|(namespace, name, _)| (namespace.clone(), name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("shop".to_owned(), name.to_owned())
    }

    #[test]
    fn what_a_list_leaves_out_goes_when_the_list_has_ended_and_not_before() {
        let mut table = Table::default();
        let shop = BTreeSet::from(["shop".to_owned()]);
        assert!(!table.synced());
        table.note(Event::Init);
        assert_eq!(table.note(Event::InitApply((key("a"), 1))), shop);
        assert_eq!(table.note(Event::InitApply((key("b"), 1))), shop);
        table.note(Event::InitDone);
        assert!(table.synced());
        assert_eq!(table.note(Event::Apply((key("a"), 1))), BTreeSet::new(), "nothing new");
        // A list that breaks off, and is begun anew.
        table.note(Event::Init);
        table.note(Event::Init);
        table.note(Event::InitApply((key("b"), 2)));
        assert_eq!(table.get("shop", "a"), Some(&1));
        assert_eq!(table.note(Event::InitDone), shop);
        assert_eq!((table.get("shop", "a"), table.get("shop", "b"), table.len()), (None, Some(&2), 1));
        assert_eq!(table.note(Event::Delete((key("b"), 9))), shop);
        assert!(table.is_empty() && table.namespaces().next().is_none());
        assert_eq!(table.note(Event::Delete((key("b"), 9))), BTreeSet::new());
    }
}
