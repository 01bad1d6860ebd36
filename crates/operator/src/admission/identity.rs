//! Users and capabilities of a pod's containers: who has none of his own gets one where he asked, and two who share one are found.

mod asks;
mod range;

pub use asks::{Asks, BadAnnotation, Capability};
pub use range::{BadRange, UidRange};

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::admission::refusal::Refusal;
use crate::names::is_mesh;

/// The largest user that a pod with a user namespace can have, less the one that stands for "nobody".
pub const UID_MAX: u32 = 65_533;

/// Which list of the pod a container stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum List {
    /// `spec.initContainers`, native sidecars too.
    Init,
    /// `spec.containers`.
    App,
}

impl List {
    /// The field's name.
    pub fn field(self) -> &'static str {
        match self {
            Self::Init => "initContainers",
            Self::App => "containers",
        }
    }
}

/// A container of the application, and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The list.
    pub list: List,
    /// The place in it.
    pub index: usize,
    /// The container.
    pub container: &'a Container,
}

impl Place<'_> {
    /// The field's name, as a message says it: `spec.containers[0]`.
    pub fn path(&self) -> String {
        format!("spec.{}[{}]", self.list.field(), self.index)
    }
}

/// Every container of a pod but the one that is left out: init containers first.
pub fn places<'a>(spec: &'a PodSpec, but: Option<&str>) -> Vec<Place<'a>> {
    let init = spec.init_containers.iter().flatten().enumerate();
    let app = spec.containers.iter().enumerate();
    init.map(|(index, container)| Place { list: List::Init, index, container })
        .filter(|place| Some(place.container.name.as_str()) != but)
        .chain(app.map(|(index, container)| Place { list: List::App, index, container }))
        .collect()
}

/// The users of a pod's containers, as far as the pod says them.
#[derive(Debug)]
pub struct Users<'a> {
    places: &'a [Place<'a>],
    /// What holds for containers that say nothing.
    pod: Option<i64>,
    /// What OpenShift wrote into every container: nobody's choice.
    filled_in: Option<i64>,
}

impl<'a> Users<'a> {
    /// Reads them. `filled_in` is the number that a container has only because the cluster fills it in.
    pub fn new(spec: &PodSpec, places: &'a [Place<'a>], filled_in: Option<u32>) -> Self {
        let pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
        Self { places, pod, filled_in: filled_in.map(i64::from) }
    }

    /// What a container says itself.
    fn own(&self, container: &Container) -> Option<i64> {
        let own = container.security_context.as_ref().and_then(|context| context.run_as_user);
        own.filter(|uid| Some(*uid) != self.filled_in)
    }

    /// Numbers for the containers that have none of their own, from a range, in the order of the containers. A mesh's are
    /// left as the mesh made them: its rules tell its own traffic by one number that several of them have.
    ///
    /// # Errors
    ///
    /// Two containers say the same number, or the range is too small.
    pub fn assign(&self, range: UidRange, proxy: Option<(&str, u32)>) -> Result<BTreeMap<(List, usize), u32>, Refusal> {
        let mut taken: BTreeMap<i64, &Place<'_>> = BTreeMap::new();
        for place in self.places {
            let Some(uid) = self.own(place.container) else { continue };
            let other = taken.insert(uid, place);
            if let Some(other) = other.filter(|other| !both_mesh(other, place)) {
                return Err(Refusal::SameUid {
                    uid,
                    one: other.container.name.clone(),
                    one_field: other.path(),
                    other: place.container.name.clone(),
                    other_field: place.path(),
                });
            }
        }
        let mut free = range.iter().filter(|uid| {
            !taken.contains_key(&i64::from(*uid))
                && proxy.is_none_or(|(_, own)| own != *uid)
                && self.filled_in != Some(i64::from(*uid))
        });
        let mut given = BTreeMap::new();
        for place in self.places {
            if self.own(place.container).is_some() || is_mesh(&place.container.name) {
                continue;
            }
            let uid = free.next().ok_or(Refusal::RangeTooSmall { range, containers: self.places.len() })?;
            given.insert((place.list, place.index), uid);
        }
        Ok(given)
    }

    /// The number that each container will have, with those that are given to it; none where only its image says.
    fn effective(&self, given: &BTreeMap<(List, usize), u32>, place: &Place<'_>) -> Option<i64> {
        let own = || place.container.security_context.as_ref().and_then(|context| context.run_as_user);
        given.get(&(place.list, place.index)).map(|uid| i64::from(*uid)).or_else(own).or(self.pod)
    }

    /// What is wrong with the numbers once `given` are given: who has the proxy's, who shares one, who has none or 0.
    pub fn faults(&self, given: &BTreeMap<(List, usize), u32>, proxy: Option<(&str, u32)>) -> Vec<UserFault> {
        let mut faults = Vec::new();
        let mut seen: BTreeMap<i64, &Place<'_>> = BTreeMap::new();
        for place in self.places {
            let name = || place.container.name.clone();
            match self.effective(given, place) {
                None => faults.push(UserFault::Unknown { container: name(), field: place.path() }),
                Some(0) => faults.push(UserFault::Root { container: name(), field: place.path() }),
                Some(uid) => {
                    if let Some((proxy, _)) = proxy.filter(|(_, own)| i64::from(*own) == uid) {
                        let proxy = proxy.to_owned();
                        faults.push(UserFault::Proxy { uid, proxy, container: name(), field: place.path() });
                    }
                    if let Some(other) = seen.get(&uid) {
                        faults.push(UserFault::Shared {
                            uid,
                            one: other.container.name.clone(),
                            one_field: other.path(),
                            other: name(),
                            other_field: place.path(),
                            mesh: both_mesh(other, place),
                        });
                    }
                    seen.insert(uid, place);
                }
            }
        }
        faults
    }

    /// The numbers that containers or the pod say themselves.
    pub fn said(&self) -> BTreeSet<i64> {
        self.places.iter().filter_map(|place| self.own(place.container)).chain(self.pod).collect()
    }
}

fn both_mesh(one: &Place<'_>, other: &Place<'_>) -> bool {
    is_mesh(&one.container.name) && is_mesh(&other.container.name)
}

/// What is wrong with the user of a container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserFault {
    /// It is the proxy's.
    #[error(
        "container {container:?} ({field}) runs as user {uid}, which is that of the proxy {proxy:?}: a process of the same \
         user could take the proxy's connections, and the passwords in them; give the container another runAsUser"
    )]
    Proxy {
        /// The number.
        uid: i64,
        /// The proxy's container.
        proxy: String,
        /// The other one.
        container: String,
        /// Where it stands.
        field: String,
    },
    /// Two have one.
    #[error(
        "containers {one:?} ({one_field}) and {other:?} ({other_field}) both run as user {uid}: give each a runAsUser of its \
         own, or let `sidewall.dev/assign-uids: \"true\"` do so"
    )]
    Shared {
        /// The number.
        uid: i64,
        /// The first container.
        one: String,
        /// Where it stands.
        one_field: String,
        /// The second container.
        other: String,
        /// Where it stands.
        other_field: String,
        /// Whether both are a mesh's, which wants it so.
        mesh: bool,
    },
    /// Only the image says it.
    #[error(
        "container {container:?} ({field}) has no runAsUser, so that its image decides: set one, or let \
         `sidewall.dev/assign-uids: \"true\"` do so"
    )]
    Unknown {
        /// The container.
        container: String,
        /// Where it stands.
        field: String,
    },
    /// It is 0.
    #[error(
        "container {container:?} ({field}) runs as user 0, who may become any other: set a runAsUser that is not 0"
    )]
    Root {
        /// The container.
        container: String,
        /// Where it stands.
        field: String,
    },
}

/// The proxy's user: the last of the namespace's range that nobody else says, else the one of the settings.
pub fn proxy_uid(users: &Users<'_>, range: Option<UidRange>, settings: u32) -> u32 {
    let said = users.said();
    range.and_then(|range| range.iter().rev().find(|uid| !said.contains(&i64::from(*uid)))).unwrap_or(settings)
}

#[cfg(test)]
mod tests;
