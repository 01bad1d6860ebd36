//! How a worker takes up a version of the configuration: what is behind each place where connections arrive is replaced, new
//! places are opened, and those that are no more are closed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sidewall_proxy_config::Listener;
use tokio::task::spawn_local;

use super::{Behind, Door, Tools, Update, Worker, closed};
use crate::capture::{self, Captured};
use crate::connection::{Entrance, HeadLimits};
use crate::metrics::Counters;
use crate::prepare::PreparedListener;
use crate::service::Front;
use crate::slot::{Slot, SlotKey};
use crate::sockets;
use crate::stream::Patience;
use crate::upstream::{Pool, UpstreamLimits};
use crate::version::Version;

impl Worker {
    /// From now on this version is served. Between two requests: this does not wait for anything.
    pub(super) fn take_up(&mut self, update: Update) {
        let Update { version, counters, sockets, done } = update;
        let config = &version.config;
        let (limits, timeouts) = (&config.limits, &config.timeouts);
        self.drain = seconds(timeouts.drain_seconds);
        let lifetime = seconds(timeouts.credential_seconds);
        self.tools.cache.borrow_mut().resize(limits.remembered_credentials as usize, lifetime);

        let each = config.listeners.iter().zip(&version.listeners).zip(counters);
        let entrances: Vec<Rc<Entrance>> = each
            .map(|((listener, prepared), counters)| {
                let before = self.slots.get(&key_of(listener)).map(|slot| slot.entrance());
                let pool = pool(listener, upstream_limits(&version), before.as_deref());
                self.tools.entrance(&version, listener, prepared, counters, pool)
            })
            .collect();
        let mut before = std::mem::take(&mut self.slots);
        for (listener, entrance) in config.listeners.iter().zip(&entrances) {
            self.fill(&mut before, key_of(listener), None, entrance);
        }
        let captured = config.capture.as_ref().map(|capture| {
            let whose = capture::strictest(capture, &config.listeners).into_iter();
            let slots = whose
                .map(|(port, index)| {
                    (port, self.fill(&mut before, SlotKey::Captured(port), Some(port), &entrances[index]))
                })
                .collect();
            Rc::new(Captured { port: capture.port, slots, counters: Arc::clone(&self.captured) })
        });
        for slot in before.into_values() {
            slot.remove(self.drain);
        }
        self.replace_pools(&entrances);

        let mut wanted: BTreeMap<SocketAddr, Behind> = BTreeMap::new();
        for listener in &config.listeners {
            if let Some(slot) = self.slots.get(&key_of(listener)) {
                let addresses = sockets::addresses(listener.address, listener.port);
                wanted.extend(addresses.into_iter().map(|address| (address, Behind::Listener(Rc::clone(slot)))));
            }
        }
        if let Some(captured) = captured {
            let addresses = sockets::addresses(None, captured.port);
            wanted.extend(addresses.into_iter().map(|address| (address, Behind::Captured(Rc::clone(&captured)))));
        }
        let doors = std::mem::take(&mut self.doors);
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            doors.into_iter().partition(|(address, _)| wanted.contains_key(address));
        self.doors = kept;
        let gone: Vec<_> = gone.into_values().map(Door::close).collect();
        for (address, door) in &self.doors {
            if let Some(behind) = wanted.remove(address) {
                door.behind.replace(behind);
            }
        }
        for (address, socket) in sockets {
            if let Some(behind) = wanted.remove(&address) {
                self.open(address, socket, behind);
            }
        }
        // Last, so that whoever waits for a seat finds the new version when he gets it.
        self.room.resize(limits.connections_per_worker as usize);
        // A port that was given up is free when the version is said to be in force.
        spawn_local(async move {
            closed(gone).await;
            drop(done);
        });
    }

    /// Puts this behind the slot of this key, which goes on if there was one.
    fn fill(
        &mut self,
        before: &mut BTreeMap<SlotKey, Rc<Slot>>,
        key: SlotKey,
        captured: Option<u16>,
        entrance: &Rc<Entrance>,
    ) -> Rc<Slot> {
        let slot = match before.remove(&key) {
            Some(slot) => {
                slot.put(Rc::clone(entrance), self.drain);
                slot
            }
            None => Slot::new(captured, Rc::clone(entrance)),
        };
        self.slots.insert(key, Rc::clone(&slot));
        slot
    }

    fn replace_pools(&mut self, entrances: &[Rc<Entrance>]) {
        let now: Vec<Rc<Pool>> = entrances.iter().map(|entrance| Rc::clone(&entrance.front.pool)).collect();
        for pool in self.pools.replace(now.clone()) {
            if !now.iter().any(|kept| Rc::ptr_eq(kept, &pool)) {
                pool.close();
            }
        }
    }
}

impl Tools {
    fn entrance(
        &self,
        version: &Version,
        listener: &Listener,
        prepared: &PreparedListener,
        counters: Arc<Counters>,
        pool: Rc<Pool>,
    ) -> Rc<Entrance> {
        let (limits, timeouts) = (&version.config.limits, &version.config.timeouts);
        let front = Front {
            port: listener.port,
            access: prepared.access.clone(),
            pool,
            log: Rc::clone(&self.log),
            cache: Rc::clone(&self.cache),
            key: Arc::clone(&self.key),
            verifier: Arc::clone(&version.verifier),
            counters,
            leaving: Rc::clone(&self.leaving),
            request_pause: seconds(timeouts.request_body_seconds),
            response_pause: seconds(timeouts.response_body_seconds),
        };
        Rc::new(Entrance {
            front: Rc::new(front),
            tls: prepared.tls.as_ref().map(|certificate| Arc::clone(&certificate.config)),
            patience: Patience {
                header: seconds(timeouts.header_seconds),
                idle: seconds(timeouts.idle_seconds),
                send: seconds(timeouts.send_seconds),
            },
            heads: HeadLimits { bytes: limits.header_bytes as usize, lines: limits.headers as usize },
        })
    }
}

fn key_of(listener: &Listener) -> SlotKey {
    SlotKey::Listener(listener.address, listener.port)
}

/// The connections to the application go on where nothing has changed about them.
fn pool(listener: &Listener, limits: UpstreamLimits, before: Option<&Entrance>) -> Rc<Pool> {
    let same = before
        .map(|entrance| &entrance.front.pool)
        .filter(|pool| pool.address().port() == listener.forward.port && pool.limits() == limits);
    same.map_or_else(|| Pool::new(listener.forward.port, limits), Rc::clone)
}

fn upstream_limits(version: &Version) -> UpstreamLimits {
    let (limits, timeouts) = (&version.config.limits, &version.config.timeouts);
    UpstreamLimits {
        connect: seconds(timeouts.connect_seconds),
        response: seconds(timeouts.response_seconds),
        idle: seconds(timeouts.upstream_idle_seconds),
        most_idle: limits.idle_upstream_per_worker as usize,
        header_bytes: limits.header_bytes as usize,
        headers: limits.headers as usize,
    }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}
