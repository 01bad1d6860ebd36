//! Nothing is lost, whatever the pod and wherever its containers go.

use proptest::prelude::*;

use super::*;

/// A pod of some containers that use some volumes, and where each container goes: 0 is the pod itself.
#[derive(Clone, Debug)]
struct Case {
    pod: Value,
    split: PodSplit,
}

const VOLUMES: usize = 5;
const PARTS: usize = 3;

prop_compose! {
    fn container(prefix: &'static str)(
        uses in proptest::collection::btree_set(0..VOLUMES, 0..3),
        part in 0..=PARTS,
        sidecar: bool,
        arg in "[a-z$(){}\"\\\\/é]{0,8}",
    ) -> (&'static str, BTreeSet<usize>, usize, bool, String) {
        (prefix, uses, part, sidecar, arg)
    }
}

fn case() -> impl Strategy<Value = Case> {
    let containers = proptest::collection::vec(container("c"), 1..6);
    let init = proptest::collection::vec(container("i"), 0..5);
    (containers, init).prop_map(|(containers, init)| {
        let mut parts: Vec<(Vec<String>, Vec<String>)> = vec![Default::default(); PARTS];
        let mut make =
            |(index, (prefix, uses, part, sidecar, arg)): (usize, (&str, BTreeSet<usize>, usize, bool, String))| {
                let name = format!("{prefix}{index}");
                let mounts: Vec<Value> =
                    uses.iter().map(|v| json!({"name": format!("v{v}"), "mountPath": format!("/{v}")})).collect();
                let mut container = json!({"name": name, "args": [arg], "volumeMounts": mounts});
                let plain = prefix == "i" && !sidecar;
                if prefix == "i" && sidecar {
                    container["restartPolicy"] = json!("Always");
                }
                if let Some(part) = part.checked_sub(1) {
                    let (own, own_init) = &mut parts[part];
                    if plain { own_init.push(name) } else { own.push(name) }
                }
                container
            };
        let containers: Vec<Value> = containers.into_iter().enumerate().map(&mut make).collect();
        let init: Vec<Value> = init.into_iter().enumerate().map(&mut make).collect();
        // Such as can be shared: what cannot is tried elsewhere.
        let volumes: Vec<Value> =
            (0..VOLUMES).map(|v| json!({"name": format!("v{v}"), "configMap": {"name": v.to_string()}})).collect();
        let mut spec = json!({"containers": containers, "volumes": volumes});
        if !init.is_empty() {
            spec["initContainers"] = json!(init);
        }
        let parts: Vec<Value> = parts
            .into_iter()
            .enumerate()
            .filter(|(_, (own, _))| !own.is_empty())
            .map(|(index, (own, init))| json!({"name": format!("p{index}"), "containers": own, "initContainers": init}))
            .collect();
        Case { pod: json!({"metadata": {"namespace": "shop"}, "spec": spec}), split: split_of(json!(parts)) }
    })
}

/// One of the lists that a part has.
type ListOf = fn(&RecordPart) -> &Vec<Value>;

/// Everything of a list, wherever it is now: in the primary first, then in the parts.
fn scattered<'v>(primary: &'v Value, record: &'v Record, pointer: &str, of: ListOf) -> Vec<&'v Value> {
    let moved = record.parts.iter().flat_map(of);
    list(primary, pointer).iter().chain(moved).collect()
}

fn sorted<'v>(values: impl Iterator<Item = &'v Value>) -> Vec<String> {
    let mut texts: Vec<String> = values.map(Value::to_string).collect();
    texts.sort();
    texts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_nothing_changed(case in case()) {
        let Ok(division) = divide(&case.pod, "shop", &case.split, &key()) else {
            // Only where no container of the application is left.
            let moved: usize = case.split.spec.parts.iter().flat_map(|part| &part.containers).filter(|name| name.starts_with('c')).count();
            prop_assert_eq!(moved, list(&case.pod, "/spec/containers").len());
            return Ok(());
        };
        let primary = &division.pod;
        let record = Record::verify(&annotations(primary), "shop", None, &key()).expect("ours");
        let lists: [(&str, ListOf); 2] =
            [("/spec/containers", |part| &part.containers), ("/spec/initContainers", |part| &part.init_containers)];
        for (pointer, of) in lists {
            let now = scattered(primary, &record, pointer, of);
            prop_assert_eq!(sorted(now.into_iter()), sorted(list(&case.pod, pointer).iter()));
        }
        // Every volume is where it is used, once, and as it was; where nobody uses it, it has stayed.
        for volume in list(&case.pod, "/spec/volumes") {
            let mut places = vec![(list(primary, "/spec/volumes"), [list(primary, "/spec/containers"), list(primary, "/spec/initContainers")].concat())];
            places.extend(record.parts.iter().map(|part| (part.volumes.as_slice(), [part.containers.clone(), part.init_containers.clone()].concat())));
            let mut found = 0;
            for (volumes, containers) in places {
                let used = containers.iter().any(|container| crate::place::volumes(container).contains(name_of(volume)));
                let there = volumes.iter().filter(|one| *one == volume).count();
                prop_assert!(there <= 1 && (!used || there == 1));
                found += there;
            }
            prop_assert!(found >= 1);
        }
        // Twice is once, and once is always the same.
        let again = divide(primary, "shop", &case.split, &key()).expect("again");
        prop_assert_eq!(&again.changes, &vec![]);
        let other = divide(&case.pod, "shop", &case.split, &key()).expect("the same");
        prop_assert_eq!(&other.pod, primary);
        // And each container is in the pod of its part.
        let parts = crate::parts(&running(primary.clone()), &key()).expect("its parts");
        let count: usize = parts.iter().map(|part| list(&part.pod, "/spec/containers").len() + list(&part.pod, "/spec/initContainers").len()).sum();
        let stayed = list(primary, "/spec/containers").len() + list(primary, "/spec/initContainers").len();
        prop_assert_eq!(count + stayed, list(&case.pod, "/spec/containers").len() + list(&case.pod, "/spec/initContainers").len());
        prop_assert!(parts.iter().all(|part| !list(&part.pod, "/spec/containers").is_empty()));
    }

    #[test]
    fn no_change_of_the_annotation_is_believed(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let primary = divided(&pod()).pod;
        let text = primary["metadata"]["annotations"][ANNOTATION_SPLIT].as_str().expect("text").to_owned();
        let mut bytes = text.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let Ok(changed) = String::from_utf8(bytes) else { return Ok(()) };
        let read = Record::verify(&[(ANNOTATION_SPLIT.to_owned(), changed.clone())].into(), "shop", Some("web"), &key());
        if let Ok(read) = read {
            // Spaces, and the last bits of base64, which mean nothing.
            prop_assert_eq!(read, Record::read(&[(ANNOTATION_SPLIT.to_owned(), text)].into()).expect("ours"));
        }
    }
}
