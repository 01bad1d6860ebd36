//! Volumes that two parts would need.

use serde_json::Value;

use super::Checks;
use crate::place::{Place, list, name_of};
use crate::refusal::Refusal;

/// How a volume behaves where two pods have it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sharing {
    /// Each pod has a copy, and nobody can write to it.
    Copies,
    /// Both see the same.
    Same,
    /// Both see the same, but for claims that one pod only may have.
    Claim,
    /// Each would have one of its own, or only one can have it.
    Never(&'static str),
}

impl Checks<'_> {
    pub(super) fn volumes(&mut self) {
        let known: Vec<&str> = list(self.pod, "/spec/volumes").iter().map(name_of).collect();
        let mut missing = Vec::new();
        for place in self.places {
            for volume in place.volumes() {
                if !known.contains(&volume) {
                    let (container, volume) = (place.name().to_owned(), volume.to_owned());
                    missing.push(Refusal::NoVolume { container, volume });
                }
            }
        }
        self.refusals.extend(missing);
        for volume in list(self.pod, "/spec/volumes") {
            self.volume(volume);
        }
    }

    fn volume(&mut self, volume: &Value) {
        let name = name_of(volume);
        let users: Vec<&Place<'_>> = self.places.iter().filter(|place| place.volumes().contains(name)).collect();
        let Some((one, other)) = apart(&users) else { return };
        match sharing(volume, &users) {
            Sharing::Copies => {}
            Sharing::Never(kind) => {
                let refusal = self.not_shared(name, kind, one, other);
                self.refusals.push(refusal);
            }
            sharing @ (Sharing::Same | Sharing::Claim) => {
                let refusals: Vec<Refusal> = users
                    .iter()
                    .filter(|place| has_sub_path(place.verbatim, name))
                    .map(|place| {
                        let others = users.iter().find(|other| other.part != place.part).unwrap_or(&other);
                        Refusal::SubPath {
                            container: place.name().to_owned(),
                            part: self.in_part(place),
                            volume: name.to_owned(),
                            others: format!("container {:?} ({})", others.name(), self.in_part(others)),
                        }
                    })
                    .collect();
                if refusals.is_empty() && sharing == Sharing::Claim {
                    self.warnings.push(format!(
                        "the claim of the volume {name:?} is used by {} and {}: of one that is ReadWriteOncePod, only one starts",
                        self.in_part(one),
                        self.in_part(other),
                    ));
                }
                self.refusals.extend(refusals);
            }
        }
    }

    fn not_shared(&self, volume: &str, kind: &str, one: &Place<'_>, other: &Place<'_>) -> Refusal {
        let (volume, kind) = (volume.to_owned(), kind.to_owned());
        let (init, container) = match (one.is_init(), other.is_init()) {
            (true, false) => (one, other),
            (false, true) => (other, one),
            _ => {
                return Refusal::Volume {
                    volume,
                    kind,
                    one: one.name().to_owned(),
                    one_part: self.in_part(one),
                    other: other.name().to_owned(),
                    other_part: self.in_part(other),
                };
            }
        };
        Refusal::HandedOver {
            volume,
            kind,
            init: init.name().to_owned(),
            init_part: self.in_part(init),
            container: container.name().to_owned(),
            part: self.in_part(container),
        }
    }
}

/// Two who use a volume and go to different parts; rather two that run at the same time, or one that comes before the other.
fn apart<'p>(users: &[&'p Place<'p>]) -> Option<(&'p Place<'p>, &'p Place<'p>)> {
    let after = |index: usize| users.iter().skip(index + 1);
    let pairs = users.iter().enumerate().flat_map(|(index, one)| after(index).map(move |other| (*one, *other)));
    let apart = pairs.filter(|(one, other)| one.part != other.part);
    apart.min_by_key(|(one, other)| u8::from(one.is_init()) + u8::from(other.is_init()))
}

fn sharing(volume: &Value, users: &[&Place<'_>]) -> Sharing {
    let is = |source: &str| volume.get(source).is_some_and(|source| !source.is_null());
    let read_only = |pointer: &str| volume.pointer(pointer).and_then(Value::as_bool) == Some(true);
    let name = name_of(volume);
    if ["configMap", "secret", "downwardAPI", "projected", "image"].iter().any(|source| is(source)) {
        return Sharing::Copies;
    }
    if is("persistentVolumeClaim") {
        return Sharing::Claim;
    }
    // On one node, and on every node of its kind, these lead to the same place.
    if ["hostPath", "nfs", "cephfs", "glusterfs", "azureFile"].iter().any(|source| is(source)) {
        return Sharing::Same;
    }
    if is("csi") {
        // An inline volume is made for its pod: what one writes there, the other does not see.
        let reads = |place: &&&Place<'_>| {
            mounts(place.verbatim, name).all(|mount| mount.get("readOnly") == Some(&Value::Bool(true)))
        };
        let reads_only = read_only("/csi/readOnly") || users.iter().filter(reads).count() == users.len();
        return if reads_only { Sharing::Copies } else { Sharing::Never("an inline CSI volume that they write to") };
    }
    if is("emptyDir") {
        return Sharing::Never("an emptyDir");
    }
    if is("ephemeral") {
        return Sharing::Never("an ephemeral volume");
    }
    // A volume without a source is an emptyDir, and one of an unknown source may be anything.
    Sharing::Never("a volume of one pod")
}

fn mounts<'v>(container: &'v Value, volume: &'v str) -> impl Iterator<Item = &'v Value> {
    list(container, "/volumeMounts").iter().filter(move |mount| name_of(mount) == volume)
}

fn has_sub_path(container: &Value, volume: &str) -> bool {
    let given =
        |mount: &Value, field: &str| mount.get(field).and_then(Value::as_str).is_some_and(|path| !path.is_empty());
    mounts(container, volume).any(|mount| given(mount, "subPath") || given(mount, "subPathExpr"))
}
