//! A bounded number of connections, of which one client gets a part.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

/// The places. Clones share them.
#[derive(Clone)]
pub struct Places {
    taken: Rc<RefCell<Taken>>,
    all: usize,
    each: usize,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by: HashMap<IpAddr, usize>,
}

/// One place; free again when dropped.
pub struct Place {
    taken: Rc<RefCell<Taken>>,
    by: IpAddr,
}

impl Places {
    /// So many places, of which one client gets so many.
    pub fn new(all: usize, each: usize) -> Self {
        Self { taken: Rc::default(), all, each }
    }

    /// Takes a place, if there is one for this client.
    pub fn take(&self, by: IpAddr) -> Option<Place> {
        let mut taken = self.taken.borrow_mut();
        if taken.all >= self.all || taken.by.get(&by).is_some_and(|count| *count >= self.each) {
            return None;
        }
        taken.all += 1;
        *taken.by.entry(by).or_default() += 1;
        Some(Place { taken: Rc::clone(&self.taken), by })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.borrow_mut();
        taken.all -= 1;
        if let Some(count) = taken.by.get_mut(&self.by) {
            *count -= 1;
            if *count == 0 {
                taken.by.remove(&self.by);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_does_not_get_all_and_what_is_given_back_is_free() {
        let places = Places::new(3, 2);
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = places.take(one).expect("a place");
        let _second = places.take(one).expect("a place");
        assert!(places.take(one).is_none(), "its part is taken");
        let third = places.take(two).expect("a place");
        assert!(places.take(two).is_none(), "all are taken");
        drop(first);
        let _fourth = places.take(two).expect("free again");
        drop(third);
        assert!(places.take(one).is_some());
        drop(_second);
        drop(_fourth);
        assert!(places.taken.borrow().by.is_empty(), "nothing is kept of who has gone");
    }
}
