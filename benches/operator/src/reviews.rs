//! Questions, as the API server would ask them.

use crate::world;
use bytes::Bytes;
use serde_json::{Value, json};

/// Which pods are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pods {
    /// Only those that get a proxy.
    Fronted,
    /// As in the cluster: three of ten get a proxy.
    AsThere,
}

/// Reviews of pods' creation: of those that controllers make when applications of the cluster get more of them.
pub fn pods(namespaces: usize, which: Pods) -> Vec<Bytes> {
    let all = (0..namespaces).flat_map(|namespace| (0..world::PODS).map(move |number| (namespace, number)));
    let wanted = all.filter(|(_, number)| which == Pods::AsThere || world::fronted(*number));
    // A step that is prime to all of them: namespaces and applications in turn.
    let reviews = wanted.step_by(7).map(|(namespace, number)| {
        let pod = world::pod(namespace, number, "");
        review(namespace, number, ("", "v1", "pods", "Pod"), pod)
    });
    reviews.collect()
}

/// Reviews of new policies.
pub fn policies(namespaces: usize) -> Vec<Bytes> {
    let all = (0..namespaces).flat_map(|namespace| (0..world::POLICIES).map(move |number| (namespace, number)));
    let reviews = all.step_by(7).map(|(namespace, number)| {
        let mut policy = world::policy(number, "another");
        policy["metadata"]["namespace"] = json!(world::namespace(namespace));
        review(
            namespace,
            number,
            ("sidewall.dev", "v1alpha1", "containernetworkpolicies", "ContainerNetworkPolicy"),
            policy,
        )
    });
    reviews.collect()
}

fn review(namespace: usize, number: usize, of: (&str, &str, &str, &str), object: Value) -> Bytes {
    let (group, version, resource, kind) = of;
    let kind = json!({"group": group, "version": version, "kind": kind});
    let resource = json!({"group": group, "version": version, "resource": resource});
    let review = json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": format!("{namespace:08x}-{number:04x}-4000-8000-000000000000"),
            "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
            "name": object["metadata"]["name"], "namespace": world::namespace(namespace), "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "uid": "7d0c9f0e-5f0b-4f0e-9a55-0d4d8f2b1c55",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
            },
            "object": object, "oldObject": null, "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    });
    Bytes::from(review.to_string())
}
