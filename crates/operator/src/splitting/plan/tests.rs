use super::*;
use serde_json::json;
use sidewall_api::PodSplit;
use sidewall_api::names::{ANNOTATION_SPLIT, LABEL_PART, PRIMARY};
use sidewall_split::divide;

const UID: &str = "6f1c9a34-0000-4000-8000-000000000001";

fn key() -> Key {
    Key::new(&[7; 32]).unwrap()
}

/// An application, its exporter in a part of its own, and a log shipper that is a sidecar, in another.
fn primary() -> Value {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "web-", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {
            "serviceAccountName": "web", "restartPolicy": "Always",
            "initContainers": [{"name": "log-shipper", "image": "shipper:1", "restartPolicy": "Always"}],
            "containers": [
                {"name": "app", "image": "app:1", "ports": [{"containerPort": 8080}]},
                {"name": "exporter", "image": "exporter:1", "ports": [{"containerPort": 9100}]},
            ],
        },
    });
    let split: PodSplit = serde_json::from_value(json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "PodSplit",
        "metadata": {"name": "web", "namespace": "shop", "uid": "split-uid"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "web"}},
            "parts": [
                {"name": "metrics", "containers": ["exporter"]},
                {"name": "logs", "containers": ["log-shipper"]},
            ],
        },
    }))
    .unwrap();
    let mut pod = divide(&pod, "shop", &split, &key()).unwrap().pod;
    pod["metadata"]["name"] = json!("web-x7k2p");
    pod["metadata"]["uid"] = json!(UID);
    pod["spec"]["nodeName"] = json!("n1");
    pod
}

/// A cluster of one split pod.
struct Bed {
    primary: Value,
    pods: BTreeMap<String, Value>,
    policies: BTreeMap<String, Value>,
    resting: BTreeSet<String>,
}

impl Bed {
    fn new() -> Self {
        Self { primary: primary(), pods: BTreeMap::new(), policies: BTreeMap::new(), resting: BTreeSet::new() }
    }

    fn plan(&self) -> Plan {
        let pods = self.pods.iter().map(|(name, pod)| (name.clone(), pod)).collect();
        let policies = self.policies.iter().map(|(name, policy)| (name.clone(), policy)).collect();
        plan(&Seen {
            primary: &self.primary,
            pods: &pods,
            policies: &policies,
            world: &World::default(),
            key: &key(),
            resting: &self.resting,
        })
    }

    /// Does what is planned, as an API server would, until nothing is left.
    fn settle(&mut self) -> Standing {
        for _ in 0..10 {
            let Plan { acts, standing } = self.plan();
            if acts.is_empty() {
                return standing;
            }
            for act in acts {
                match act {
                    Act::Name => self.primary["metadata"]["labels"][LABEL_PRIMARY] = json!(UID),
                    Act::Policy(policy) => {
                        self.policies.insert(text(&policy, "/metadata/name").unwrap().to_owned(), *policy);
                    }
                    Act::Create(part) => {
                        let mut pod = part.pod.clone();
                        pod["metadata"]["uid"] = json!(format!("uid-of-{}", part.part));
                        assert!(self.pods.insert(part.name.clone(), pod).is_none(), "created twice");
                    }
                    Act::Delete { name, uid: of, .. } => {
                        let gone = self.pods.remove(&name).expect("it is there");
                        assert_eq!(uid(&gone), of);
                    }
                }
            }
        }
        panic!("it never comes to rest: {:?}", self.plan());
    }

    fn part(&mut self, part: &str) -> &mut Value {
        self.pods.values_mut().find(|pod| pod["metadata"]["labels"][LABEL_PART] == part).expect("the part is there")
    }

    fn say(&mut self, part: &str, status: Value) {
        self.part(part)["status"] = status;
    }

    fn all_ready(&mut self) {
        for part in ["metrics", "logs"] {
            self.say(part, json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}));
        }
    }
}

#[test]
fn a_pod_with_a_node_gets_its_parts_and_closed_policies_first() {
    let mut bed = Bed::new();
    let acts = bed.plan().acts;
    let order: Vec<&str> = acts
        .iter()
        .map(|act| match act {
            Act::Name => "name",
            Act::Policy(_) => "policy",
            Act::Create(_) => "create",
            Act::Delete { .. } => "delete",
        })
        .collect();
    assert_eq!(order, ["name", "policy", "policy", "policy", "create", "create"]);
    assert_eq!(bed.settle(), Standing::Unready(vec!["metrics".to_owned(), "logs".to_owned()]));
    bed.all_ready();
    assert_eq!(bed.settle(), Standing::Ready);
    assert_eq!(bed.pods.len(), 2);
}

#[test]
fn a_pod_without_a_node_has_its_policies_and_no_part_yet() {
    let mut bed = Bed::new();
    bed.primary["spec"].as_object_mut().unwrap().remove("nodeName");
    assert_eq!(bed.settle(), Standing::Unplaced);
    assert_eq!(bed.policies.len(), 3);
    assert!(bed.pods.is_empty());
}

#[test]
fn nothing_is_made_of_what_somebody_else_wrote() {
    let other = |change: &dyn Fn(&mut Value)| {
        let mut bed = Bed::new();
        change(&mut bed.primary);
        let plan = bed.plan();
        assert!(plan.acts.is_empty(), "{plan:?}");
        assert!(matches!(plan.standing, Standing::Untrusted(_)), "{plan:?}");
    };
    other(&|pod| {
        let annotation = &mut pod["metadata"]["annotations"][ANNOTATION_SPLIT];
        *annotation = json!(annotation.as_str().unwrap().replace("exporter:1", "miner:1"));
    });
    other(&|pod| pod["spec"]["serviceAccountName"] = json!("admin"));
    other(&|pod| pod["metadata"]["namespace"] = json!("bank"));
    other(&|pod| {
        pod["metadata"]["annotations"].as_object_mut().unwrap().remove(ANNOTATION_SPLIT);
    });
}

#[test]
fn a_policy_that_was_changed_or_deleted_is_written_again() {
    let mut bed = Bed::new();
    bed.settle();
    let name = bed.policies.keys().next().unwrap().clone();
    let good = bed.policies[&name].clone();
    // A rule too many would be a hole.
    bed.policies.get_mut(&name).unwrap()["spec"]["ingress"] = json!([{}]);
    bed.settle();
    assert_eq!(bed.policies[&name], good);
    bed.policies.remove(&name);
    bed.settle();
    assert_eq!(bed.policies[&name], good);
    // What the API server fills in is no change.
    let filled = bed.policies.get_mut(&name).unwrap();
    filled["metadata"]["uid"] = json!("u");
    filled["metadata"]["annotations"]["other"] = json!("x");
    assert!(bed.plan().acts.iter().all(|act| !matches!(act, Act::Policy(_))));
}

#[test]
fn a_part_that_was_evicted_is_made_again_after_a_rest() {
    let mut bed = Bed::new();
    bed.settle();
    bed.say("metrics", json!({"phase": "Failed", "reason": "Evicted", "message": "the node was low on memory"}));
    let plan = bed.plan();
    let [Act::Delete { failed: Some(why), .. }] = plan.acts.as_slice() else { panic!("{plan:?}") };
    assert_eq!(why, "Evicted: the node was low on memory");
    bed.resting.insert("metrics".to_owned());
    bed.settle();
    assert_eq!(bed.pods.len(), 1, "it rests");
    bed.resting.clear();
    bed.settle();
    assert_eq!(bed.pods.len(), 2);
}

#[test]
fn a_part_whose_containers_are_not_to_be_restarted_is_left_failed() {
    let mut bed = Bed::new();
    bed.settle();
    bed.part("metrics")["spec"]["restartPolicy"] = json!("Never");
    bed.say("metrics", json!({"phase": "Failed"}));
    let plan = bed.plan();
    assert!(plan.acts.is_empty());
    assert!(matches!(plan.standing, Standing::Failed { .. }));
    bed.say("metrics", json!({"phase": "Failed", "reason": "OutOfcpu"}));
    assert!(matches!(bed.plan().acts.as_slice(), [Act::Delete { failed: Some(_), .. }]));
    bed.say("metrics", json!({"phase": "Succeeded"}));
    assert!(bed.plan().acts.is_empty());
}

#[test]
fn a_part_that_finds_no_room_says_so() {
    let mut bed = Bed::new();
    bed.settle();
    let unschedulable =
        json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]);
    bed.say("metrics", json!({"phase": "Pending", "conditions": unschedulable}));
    let (part, why) = ("metrics".to_owned(), "0/1 nodes".to_owned());
    assert_eq!(bed.settle(), Standing::Unschedulable { part, why });
}

#[test]
fn a_stranger_of_a_parts_name_is_left_alone() {
    let mut bed = Bed::new();
    bed.settle();
    let name = text(bed.part("metrics"), "/metadata/name").unwrap().to_owned();
    for change in [
        json!({"ownerReferences": []}),
        json!({"annotations": {}}),
        json!({"annotations": {ANNOTATION_PART: "{\"version\":1,\"mac\":\"AAAA\"}"}}),
    ] {
        let mut stranger = bed.pods[&name].clone();
        for (field, value) in change.as_object().unwrap() {
            stranger["metadata"][field] = value.clone();
        }
        let mut other = Bed::new();
        other.settle();
        other.pods.insert(name.clone(), stranger);
        let plan = other.plan();
        assert!(plan.acts.is_empty(), "{plan:?}");
        assert_eq!(plan.standing, Standing::Blocked { part: "metrics".to_owned(), pod: name.clone() });
    }
}

#[test]
fn parts_end_with_their_primary_and_sidecars_after_it() {
    let deleted = |bed: &Bed| -> Vec<String> {
        let acts = bed.plan().acts;
        let name = |act: &Act| match act {
            Act::Delete { name, failed: None, .. } => Some(name.clone()),
            _ => None,
        };
        acts.iter().filter_map(name).collect()
    };
    let mut bed = Bed::new();
    bed.settle();
    let mut deleting = Bed { primary: bed.primary.clone(), pods: bed.pods.clone(), ..Bed::new() };
    deleting.primary["metadata"]["deletionTimestamp"] = json!("2026-11-22T00:00:00Z");
    assert_eq!(deleting.plan().standing, Standing::Ending);
    let ends = deleted(&deleting);
    assert!(ends.len() == 1 && ends[0].contains("-metrics-"), "{ends:?}");
    // A Job's pod has done its work: nothing of it goes on.
    for phase in ["Succeeded", "Failed"] {
        bed.primary["status"] = json!({"phase": phase});
        assert_eq!(deleted(&bed).len(), 2);
    }
    bed.say("metrics", json!({"phase": "Succeeded"}));
    assert_eq!(deleted(&bed).len(), 1, "what has ended by itself stays, so that its log can be read");
}

#[test]
fn the_primary_is_no_part_of_its_own() {
    let mut bed = Bed::new();
    bed.settle();
    let name = text(&bed.primary, "/metadata/name").unwrap().to_owned();
    assert_eq!(bed.primary["metadata"]["labels"][LABEL_PART], PRIMARY);
    bed.pods.insert(name, bed.primary.clone());
    assert!(bed.plan().acts.is_empty());
}
