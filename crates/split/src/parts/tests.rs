use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

use super::*;
use crate::divide;
use crate::fixture::{key, pod, running, split, split_of};
use crate::place::{list, name_of};

fn primary() -> Value {
    running(divide(&pod(), "shop", &split(), &key()).expect("it can be divided").pod)
}

fn made() -> Vec<PartPod> {
    parts(&primary(), &key()).expect("its parts")
}

#[test]
fn each_part_is_a_pod_of_its_own_on_the_primarys_node() {
    let made = made();
    assert_eq!(made.iter().map(|part| part.part.as_str()).collect::<Vec<_>>(), ["metrics", "logs"]);
    for part in &made {
        let typed: Pod = serde_json::from_value(part.pod.clone()).expect("a pod");
        assert_eq!(typed.metadata.name.as_deref(), Some(part.name.as_str()));
        assert!(part.name.starts_with(&format!("web-x7k2p-{}-", part.part)), "{}", part.name);
        let owner = &typed.metadata.owner_references.expect("an owner")[0];
        assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("Pod", "web-x7k2p"));
        assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), Some(false)));
        // Nothing of the user's selects it.
        let labels: BTreeSet<String> = typed.metadata.labels.expect("labels").into_keys().collect();
        assert_eq!(
            labels,
            ["app.kubernetes.io/managed-by", "sidewall.dev/part", "sidewall.dev/primary"].map(String::from).into()
        );
        let spec = typed.spec.expect("a spec");
        assert_eq!(spec.node_name, None);
        let terms = &part.pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
        assert_eq!(terms, &json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]));
        assert_eq!(part.pod["metadata"]["annotations"]["sidewall.dev/link"], "shop/sidewall-web");
    }
    assert_eq!(made, self::made());
}

#[test]
fn a_part_has_what_its_containers_need_and_no_more() {
    let metrics = made().remove(0).pod;
    let spec = &metrics["spec"];
    let original = pod();
    assert_eq!(spec["initContainers"], json!([original["spec"]["initContainers"][1]]));
    let mut container = original["spec"]["containers"][1].clone();
    container["env"] = json!([{"name": "POD", "value": "web-x7k2p"}]);
    assert_eq!(spec["containers"], json!([container]));
    let volumes: Vec<&str> = list(&metrics, "/spec/volumes").iter().map(name_of).collect();
    assert_eq!(volumes, ["config", "exporter", "kube-api-access-x7k2p"]);
    let fields: BTreeSet<&str> = spec.as_object().expect("fields").keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        BTreeSet::from([
            "affinity",
            "containers",
            "enableServiceLinks",
            "hostname",
            "initContainers",
            "restartPolicy",
            "serviceAccountName",
            "terminationGracePeriodSeconds",
            "tolerations",
            "volumes",
        ])
    );
    assert_eq!(spec["hostname"], "web-x7k2p");
}

#[test]
fn a_part_of_sidecars_alone_is_a_pod_that_restarts_them() {
    let mut job = pod();
    job["spec"]["restartPolicy"] = json!("Never");
    let primary = running(divide(&job, "shop", &split(), &key()).expect("it can be divided").pod);
    let made = parts(&primary, &key()).expect("its parts");
    let (metrics, logs) = (&made[0].pod["spec"], &made[1].pod["spec"]);
    assert_eq!((&metrics["restartPolicy"], &logs["restartPolicy"]), (&json!("Never"), &json!("Always")));
    assert!(logs.get("initContainers").is_none());
    let mut shipper = job["spec"]["initContainers"][2].clone();
    shipper.as_object_mut().expect("fields").remove("restartPolicy");
    assert_eq!(logs["containers"], json!([shipper]));
    // Beside a container of the application it stays a sidecar.
    let split = split_of(
        json!([{"name": "x", "containers": ["log-shipper", "metrics-exporter"], "initContainers": ["fetch-config"]}]),
    );
    let primary = running(divide(&job, "shop", &split, &key()).expect("it can be divided").pod);
    let made = parts(&primary, &key()).expect("its parts");
    assert_eq!(
        made[0].pod["spec"]["initContainers"],
        json!([job["spec"]["initContainers"][1], job["spec"]["initContainers"][2]])
    );
}

#[test]
fn nothing_is_made_of_what_is_not_ours() {
    let mut changed = primary();
    changed["metadata"]["namespace"] = json!("bank");
    assert!(matches!(parts(&changed, &key()), Err(PartsError::Untrusted(BadRecord::Mac { .. }))));
    let mut changed = primary();
    changed["spec"]["serviceAccountName"] = json!("admin");
    assert!(matches!(parts(&changed, &key()), Err(PartsError::Untrusted(BadRecord::Mac { .. }))));
    assert!(matches!(parts(&pod(), &key()), Err(PartsError::Untrusted(BadRecord::Missing { .. }))));
    // The link, too, is the one that was admitted, whatever another annotation says.
    let mut changed = primary();
    changed["metadata"]["annotations"]["sidewall.dev/link"] = json!("kube-system/host");
    let made = parts(&changed, &key()).expect("its parts");
    assert!(!made[0].pod.to_string().contains("kube-system"));
}

#[test]
fn a_pod_that_has_no_node_has_no_parts_yet() {
    let mut pending = primary();
    pending["spec"].as_object_mut().expect("fields").remove("nodeName");
    assert_eq!(parts(&pending, &key()), Err(PartsError::NoNode));
    let fresh = divide(&pod(), "shop", &split(), &key()).expect("it can be divided").pod;
    assert_eq!(parts(&fresh, &key()), Err(PartsError::NotCreated));
}

#[test]
fn whose_part_it_is_is_signed() {
    let part = made().remove(1).pod;
    let told = annotations(&part);
    let member = Member::verify(&told, "shop", &key()).expect("ours");
    assert_eq!((member.primary.as_str(), member.part.as_str()), ("web-x7k2p", "logs"));
    assert_eq!(member.uid, primary()["metadata"]["uid"]);
    assert!(Member::verify(&told, "bank", &key()).is_err());
    let mut forged = told.clone();
    forged.insert(ANNOTATION_PART.to_owned(), told[ANNOTATION_PART].replace("web-x7k2p", "web-other"));
    assert_eq!(Member::verify(&forged, "shop", &key()), Err(BadRecord::Mac { key: ANNOTATION_PART }));
    assert!(matches!(Member::verify(&annotations(&pod()), "shop", &key()), Err(BadRecord::Missing { .. })));
}
