mod properties;
mod refusals;

use serde_json::json;

use super::*;
use crate::fixture::{key, pod, running, split, split_of};
use crate::record::whole;

fn divided(pod: &Value) -> Division {
    divide(pod, "shop", &split(), &key()).expect("it can be divided")
}

fn names(value: &Value, pointer: &str) -> Vec<String> {
    list(value, pointer).iter().map(|value| name_of(value).to_owned()).collect()
}

#[test]
fn what_goes_leaves_the_pod_and_the_rest_stays() {
    let before = pod();
    let Division { pod: primary, warnings, .. } = divided(&before);
    assert_eq!(names(&primary, "/spec/containers"), ["app"]);
    assert_eq!(names(&primary, "/spec/initContainers"), ["migrate"]);
    // A volume that nobody uses stays, and one that both use is in both.
    assert_eq!(names(&primary, "/spec/volumes"), ["data", "config", "unused", "kube-api-access-x7k2p"]);
    assert_eq!(primary["spec"]["readinessGates"], json!([{"conditionType": "sidewall.dev/parts-ready"}]));
    assert_eq!(
        primary["metadata"]["labels"],
        json!({"app": "web", "sidewall.dev/part": "primary", "sidewall.dev/primary": "pending"})
    );
    let told = &primary["metadata"]["annotations"];
    assert_eq!((&told["a"], &told["sidewall.dev/link"]), (&json!("b"), &json!("shop/sidewall-web")));
    let networks = json!([{"name": "sidewall-web", "namespace": "shop", "interface": "link0"}]).to_string();
    assert_eq!(told["k8s.v1.cni.cncf.io/networks"], networks);
    for field in ["serviceAccountName", "tolerations", "nodeSelector", "priority"] {
        assert_eq!(primary["spec"][field], before["spec"][field], "{field}");
    }
    let record = Record::read(&annotations(&primary)).expect("ours");
    let (metrics, logs) = (&record.parts[0], &record.parts[1]);
    assert_eq!(metrics.containers, [before["spec"]["containers"][1].clone()]);
    assert_eq!(metrics.init_containers, [before["spec"]["initContainers"][1].clone()]);
    let volumes = |part: &RecordPart| part.volumes.iter().map(|v| name_of(v).to_owned()).collect::<Vec<_>>();
    assert_eq!(volumes(metrics), ["config", "exporter", "kube-api-access-x7k2p"]);
    assert_eq!((logs.containers.len(), volumes(logs)), (0, vec!["kube-api-access-x7k2p".to_owned()]));
    assert_eq!(logs.init_containers, [before["spec"]["initContainers"][2].clone()]);
    assert_eq!(
        warnings,
        [
            "\"metrics-exporter\" will be reached by localhost only: Services lead to the containers that stay in the pod",
            "the parts will not wait for the init containers \"migrate\" of the pod",
        ]
    );
}

#[test]
fn the_changes_make_the_pod() {
    let before = pod();
    let Division { pod: primary, changes, .. } = divided(&before);
    let mut replayed = before;
    for Change { path, value } in &changes {
        let (last, way) = path.split_last().expect("never the root");
        let mut place = &mut replayed;
        for step in way {
            place = &mut place[step.as_str()];
        }
        let fields = place.as_object_mut().expect("an object");
        match value {
            Some(value) => fields.insert(last.clone(), value.clone()),
            None => fields.remove(last),
        };
    }
    assert_eq!(replayed, primary);
    let paths: Vec<String> = changes.iter().map(|change| change.path.join("/")).collect();
    assert!(paths.iter().all(|path| path.starts_with("spec/") || path.matches('/').count() >= 2), "{paths:?}");
    let shown = format!("{changes:?}");
    assert!(!shown.contains("exporter:1"), "{shown}");
}

#[test]
fn dividing_twice_changes_nothing() {
    let once = divided(&pod()).pod;
    let twice = divided(&once);
    assert_eq!(twice.changes, []);
    assert_eq!(twice.pod, once);
}

#[test]
fn what_came_meanwhile_is_divided_as_if_it_had_been_there() {
    // Another webhook has added a sidecar and a volume; and the PodSplit has lost a part.
    let mut once = divided(&pod()).pod;
    let sidecar =
        json!({"name": "mesh", "restartPolicy": "Always", "volumeMounts": [{"name": "mesh", "mountPath": "/m"}]});
    let volume = json!({"name": "mesh", "emptyDir": {}});
    once["spec"]["initContainers"].as_array_mut().expect("a list").insert(0, sidecar.clone());
    once["spec"]["volumes"].as_array_mut().expect("a list").push(volume.clone());
    let split = split_of(json!([{"name": "logs", "containers": ["log-shipper"]}]));
    let again = divide(&once, "shop", &split, &key()).expect("it can be divided").pod;
    assert_eq!(names(&again, "/spec/initContainers"), ["mesh", "migrate", "fetch-config"]);
    assert_eq!(names(&again, "/spec/containers"), ["app", "metrics-exporter"]);
    let record = Record::read(&annotations(&again)).expect("ours");
    assert_eq!(record.parts.len(), 1);
    assert_eq!(divide(&again, "shop", &split, &key()).expect("it can be divided").changes, []);
}

#[test]
fn an_annotation_that_is_not_ours_refuses_the_pod() {
    let mut forged = divided(&pod()).pod;
    let at = |pod: &Value, namespace: &str| {
        divide(pod, namespace, &split(), &key()).err().map(|refusals| refusals.to_string())
    };
    assert!(at(&forged, "shop").is_none());
    let said = at(&forged, "bank").expect("another namespace");
    assert!(said.contains("was not written by this operator for this namespace"), "{said}");
    forged["spec"]["serviceAccountName"] = json!("admin");
    assert!(at(&forged, "shop").is_some());
    let mut pod = pod();
    pod["metadata"]["annotations"]["sidewall.dev/split"] = json!("{}");
    assert!(at(&pod, "shop").is_some());
}

#[test]
fn app_armor_of_older_clusters_goes_along() {
    let mut pod = pod();
    let (own, other) = (format!("{APP_ARMOR}app"), format!("{APP_ARMOR}metrics-exporter"));
    pod["metadata"]["annotations"][&own] = json!("runtime/default");
    pod["metadata"]["annotations"][&other] = json!("localhost/x");
    let once = divided(&pod).pod;
    let told = &once["metadata"]["annotations"];
    assert!(told.get(&own).is_some() && told.get(&other).is_none());
    let parts = crate::parts(&running(once.clone()), &key()).expect("its parts");
    assert_eq!(parts[0].pod["metadata"]["annotations"][&other], "localhost/x");
    assert_eq!(divided(&once).changes, []);
    assert_eq!(whole(&once).expect("ours")["metadata"]["annotations"][&other], "localhost/x");
}

#[test]
fn further_networks_stay_the_primarys() {
    let mut pod = pod();
    pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"] = json!("storage@net7");
    let division = divided(&pod);
    let networks = &division.pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"];
    assert_eq!(networks, "storage@net7,shop/sidewall-web@link0");
    assert!(division.warnings.iter().any(|warning| warning.contains("further networks")), "{:?}", division.warnings);
    let parts = crate::parts(&running(division.pod), &key()).expect("its parts");
    assert!(!parts[0].pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"].to_string().contains("storage"));
}
