//! The link of a split pod, as far as it can be carried.

use super::peers::Resolver;
use crate::model::Link;
use std::collections::BTreeSet;

impl Resolver<'_> {
    /// The link with the containers that the pod really has; notes what it can't carry.
    pub(super) fn link(&mut self) -> Option<Link> {
        let subject = self.subject;
        let mut link = subject.link.clone()?;
        for part in link.parts.values_mut() {
            part.containers.retain(|id| subject.containers.contains_key(id));
        }
        let device = &link.device;
        if device == "lo" || subject.interface.as_ref() == Some(device) {
            let message = format!("the pod's link is said to be by {device:?}, which it can't be: nothing is carried");
            self.note(None, message);
            link.parts.values_mut().for_each(|part| part.ready = false);
        }
        if link.own().is_none() {
            self.note(
                None,
                "has no IPv4 address on its link yet: connections to its other parts are refused".to_owned(),
            );
        }
        for (name, part) in &link.parts {
            if !part.ready {
                self.note(None, format!("the part {name:?} is not ready: connections to it are refused"));
            } else if part.target().is_none() {
                self.note(
                    None,
                    format!("the part {name:?} has no IPv4 address on the link: connections to it are refused"),
                );
            }
        }
        // An unsplit pod has one socket of a port on loopback, and here there are two.
        let mut seen = BTreeSet::new();
        for (id, container) in &subject.containers {
            for port in &container.ports {
                let part = |id| link.part_of(id).map(|(name, _)| name);
                let others = subject.containers.iter().filter(|(other, c)| {
                    *other > id
                        && part(**other) != part(*id)
                        && c.ports.iter().any(|p| (p.protocol, p.port) == (port.protocol, port.port))
                });
                for (_, other) in others {
                    if seen.insert((port.protocol, port.port)) {
                        let message = format!(
                            "{} and {} are in different parts and both declare {}/{}: over loopback it is that of {}",
                            container.name, other.name, port.protocol, port.port, container.name
                        );
                        self.notes.push(crate::model::Note { policy: None, message });
                    }
                }
            }
        }
        Some(link)
    }
}
