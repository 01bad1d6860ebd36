//! Where a worker's connections arrive: a place that stays while what is behind it changes. A connection belongs to its slot
//! and asks it, with every request, what is in force now; a request keeps what it was given until it is over.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::sleep;

use crate::connection::{Entrance, HeadLimits};
use crate::stream::Patience;

/// What distinguishes slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SlotKey {
    /// A listener's address (every one if none) and port.
    Listener(Option<IpAddr>, u16),
    /// A captured port: what the connection aimed at.
    Captured(u16),
}

/// How long a connection may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stay {
    /// As long as it likes.
    Welcome,
    /// Until its request in flight is answered.
    LastRequest,
    /// No longer.
    Cut,
}

/// One place where connections arrive, within one worker.
pub struct Slot {
    /// Where the connection aimed at before the kernel redirected it, if it did.
    pub captured: Option<u16>,
    entrance: RefCell<Rc<Entrance>>,
    patience: Rc<Cell<Patience>>,
    stay: RefCell<watch::Sender<Stay>>,
}

impl Slot {
    /// A place with this behind it.
    pub fn new(captured: Option<u16>, entrance: Rc<Entrance>) -> Rc<Self> {
        let patience = Rc::new(Cell::new(entrance.patience));
        let stay = RefCell::new(watch::Sender::new(Stay::Welcome));
        Rc::new(Self { captured, entrance: RefCell::new(entrance), patience, stay })
    }

    /// What is behind it now.
    pub fn entrance(&self) -> Rc<Entrance> {
        Rc::clone(&self.entrance.borrow())
    }

    /// How large requests' heads may be now.
    pub fn heads(&self) -> HeadLimits {
        self.entrance.borrow().heads
    }

    /// How long its clients may take; follows what is behind it.
    pub fn patience(&self) -> Rc<Cell<Patience>> {
        Rc::clone(&self.patience)
    }

    /// Tells one of its connections how long it may stay.
    pub fn stay(&self) -> watch::Receiver<Stay> {
        self.stay.borrow().subscribe()
    }

    /// Puts something else behind it. Connections that speak TLS where none is spoken any more, or none where it is now,
    /// end with their request in flight, and at the latest after `drain`.
    pub fn put(&self, next: Rc<Entrance>, drain: Duration) {
        self.patience.set(next.patience);
        let other = next.tls.is_some() != self.entrance.borrow().tls.is_some();
        self.entrance.replace(next);
        if other {
            dismiss(self.stay.replace(watch::Sender::new(Stay::Welcome)), drain);
        }
    }

    /// Ends its connections with their requests in flight, and at the latest after `drain`. It is no more.
    pub fn remove(&self, drain: Duration) {
        let gone = watch::Sender::new(Stay::Cut);
        dismiss(self.stay.replace(gone), drain);
    }

    /// Ends its connections with their requests in flight.
    pub fn close(&self) {
        self.stay.borrow().send_replace(Stay::LastRequest);
    }
}

fn dismiss(connections: watch::Sender<Stay>, drain: Duration) {
    connections.send_replace(Stay::LastRequest);
    spawn_local(async move {
        tokio::select! {
            () = connections.closed() => {}
            () = sleep(drain) => {
                let left = connections.receiver_count();
                tracing::warn!(connections = left, "the time to drain is over; connections of the configuration before are cut");
                connections.send_replace(Stay::Cut);
            }
        }
    });
}
