//! What is deployed: that a real API server takes it, and that the agent may do what it needs and nothing else. Needs root.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use sidewall_node_tests::api::Api;
use sidewall_node_tests::cell::output;
use sidewall_node_tests::parts;

use deployed::{Bed, CREATE, LIMIT, NAMESPACE, event, helm, patch, refused, rendered, root, rules};

mod deployed;

/// OpenShift's kind, as far as the chart says anything of it: its API server is not to be had here, and a field that this does
/// not know would be refused.
const SECURITY_CONTEXT_CONSTRAINTS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: securitycontextconstraints.security.openshift.io}
spec:
  group: security.openshift.io
  scope: Cluster
  names: {kind: SecurityContextConstraints, listKind: SecurityContextConstraintsList, plural: securitycontextconstraints, singular: securitycontextconstraints}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          allowHostDirVolumePlugin: {type: boolean}
          allowHostIPC: {type: boolean}
          allowHostNetwork: {type: boolean}
          allowHostPID: {type: boolean}
          allowHostPorts: {type: boolean}
          allowPrivilegedContainer: {type: boolean}
          allowPrivilegeEscalation: {type: boolean}
          allowedCapabilities: {type: array, items: {type: string}}
          defaultAddCapabilities: {type: array, items: {type: string}}
          requiredDropCapabilities: {type: array, items: {type: string}}
          readOnlyRootFilesystem: {type: boolean}
          runAsUser: {type: object, properties: {type: {type: string}}}
          seLinuxContext: {type: object, properties: {type: {type: string}}}
          fsGroup: {type: object, properties: {type: {type: string}}}
          supplementalGroups: {type: object, properties: {type: {type: string}}}
          seccompProfiles: {type: array, items: {type: string}}
          volumes: {type: array, items: {type: string}}
          users: {type: array, items: {type: string}}
          groups: {type: array, items: {type: string}}
"#;

/// cert-manager's kinds, as far as the chart says anything of them, for the same reason.
const CERT_MANAGER: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: certificates.cert-manager.io}
spec:
  group: cert-manager.io
  scope: Namespaced
  names: {kind: Certificate, listKind: CertificateList, plural: certificates, singular: certificate}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [issuerRef, secretName]
            properties:
              commonName: {type: string}
              dnsNames: {type: array, items: {type: string}}
              duration: {type: string}
              isCA: {type: boolean}
              issuerRef:
                type: object
                required: [name]
                properties: {group: {type: string}, kind: {type: string}, name: {type: string}}
              privateKey:
                type: object
                properties:
                  algorithm: {type: string, enum: [RSA, ECDSA, Ed25519]}
                  rotationPolicy: {type: string, enum: [Never, Always]}
                  size: {type: integer}
              secretName: {type: string}
              usages: {type: array, items: {type: string, enum: [digital signature, server auth]}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: issuers.cert-manager.io}
spec:
  group: cert-manager.io
  scope: Namespaced
  names: {kind: Issuer, listKind: IssuerList, plural: issuers, singular: issuer}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              ca: {type: object, required: [secretName], properties: {secretName: {type: string}}}
              selfSigned: {type: object}
"#;

/// Has the programs themselves read the configurations that a manifest brings.
fn programs_understand(api: &Api, manifest: &str) -> Result<(), String> {
    for (program, workload) in [("sidewall-agent", "DaemonSet"), ("sidewall-operator", "Deployment")] {
        if manifest.contains(&format!("\nkind: {workload}\n")) {
            understands(api, manifest, program)?;
        }
    }
    Ok(())
}

fn understands(api: &Api, manifest: &str, program: &str) -> Result<(), String> {
    let printed =
        api.with_input(&["create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-"], manifest);
    let printed = printed.map_err(|error| error.to_string())?;
    let objects = serde_json::Deserializer::from_str(&printed).into_iter::<Value>().map(Result::unwrap);
    let named = |object: &Value| object["kind"] == "ConfigMap" && object["metadata"]["name"] == program;
    let maps: Vec<Value> = objects.filter(named).collect();
    let [map] = maps.as_slice() else { return Err(format!("{} ConfigMaps {program}", maps.len())) };
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), map["data"][program.replace("sidewall-", "") + ".yaml"].as_str().unwrap()).unwrap();
    let mut check = Command::new(parts::built(program).unwrap());
    output(check.args(["check", "--config"]).arg(file.path())).map(drop).map_err(|error| error.to_string())
}

#[test]
fn a_real_api_server_takes_every_manifest() {
    let bed = Bed::new();
    let admin = bed.admin();
    admin.apply(SECURITY_CONTEXT_CONSTRAINTS).unwrap();
    admin.apply(CERT_MANAGER).unwrap();
    let kinds =
        ["securitycontextconstraints.security.openshift.io", "certificates.cert-manager.io", "issuers.cert-manager.io"];
    for kind in kinds {
        let kind = format!("crd/{kind}");
        admin.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &kind]).unwrap();
    }
    for namespace in ["shop", "bank"] {
        admin.kubectl(&["create", "namespace", namespace]).unwrap();
    }
    admin
        .apply("apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: node-agents}\nvalue: 1000\n")
        .unwrap();
    let strictly = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
    let mut seen = BTreeSet::new();
    for folder in ["deploy/manifests", "deploy/golden"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let (name, text) =
                (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap());
            let said = admin.with_input(&strictly, &text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(said.contains("daemonset.apps/sidewall-agent"), !name.ends_with("-proxies"), "{name}: {said}");
            let operator = !name.ends_with("-walls") && !name.ends_with("-uninstall");
            assert_eq!(said.contains("deployment.apps/sidewall-operator"), operator, "{name}: {said}");
            // To uninstall takes the configuration that is there.
            if !name.ends_with("-uninstall") {
                programs_understand(admin, &text).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            seen.insert(name);
        }
    }
    for preset in ["kubeadm", "k3s", "talos", "bottlerocket", "cos", "openshift"] {
        for end in ["", "-walls", "-proxies", "-uninstall"] {
            assert!(seen.contains(&format!("{preset}{end}")), "{seen:?}");
        }
    }
    // The definitions too, as Helm brings them; and with what no other file has.
    for values in
        [&[][..], &["uninstall.enabled=true", "uninstall.keepRules=true"], &["nri=false", "agent.cni.install=false"]]
    {
        let text = rendered(values);
        let said = admin.with_input(&strictly, &text).unwrap();
        programs_understand(admin, &text).unwrap();
        assert!(said.contains("containernetworkpolicies.sidewall.dev"), "{said}");
    }
    // That strictness means something.
    let wrong =
        fs::read_to_string(root().join("deploy/manifests/kubeadm.yaml")).unwrap().replace("hostPID:", "hostPIDs:");
    assert!(admin.with_input(&strictly, &wrong).unwrap_err().to_string().contains("hostPIDs"));
    let wrong = wrong.replace("exemptNamespaces:", "exemptNamespace:");
    assert!(programs_understand(admin, &wrong).unwrap_err().contains("exemptNamespace"));
    let wrong = rendered(&["crds.install=false"]).replace("uidRange:", "uidRanges:");
    assert!(programs_understand(admin, &wrong).unwrap_err().contains("uidRanges"));
}

#[test]
fn helm_accepts_the_chart_and_refuses_wrong_values() {
    helm(&["lint", "--strict", "sidewall", "--quiet"]).unwrap();
    let chart = helm(&["show", "chart", "sidewall"]).unwrap();
    let version = format!("appVersion: {}", env!("CARGO_PKG_VERSION"));
    assert!(chart.lines().any(|line| line == version), "{chart}");
    for (value, field) in [
        ("operator.replicas=0", "replicas"),
        ("operator.secrets=Nowhere", "secrets"),
        ("operator.injection.uidRange=all", "uidRange"),
        ("operator.injection.identity=Uid", "identity"),
        ("operator.injection.namespaceSelector.matchLabels.a=b'c", "namespaceSelector"),
        ("operator.certificates.source=Nobody", "source"),
        ("operator.webhook.timeoutSeconds=31", "timeoutSeconds"),
        ("proxy.uid=0", "uid"),
        ("proxy.ports.probe=80", "probe"),
        ("admissionPolicies=some", "admissionPolicies"),
        ("preset=kops", "preset"),
        ("pathes.criSocket=/x", "pathes"),
        ("paths.criSocket=run/x", "criSocket"),
        ("agent.identity=cgroup", "identity"),
        ("agent.listen.flows=0.0.0.0:9553", "flows"),
        ("agent.cni.timeoutMilliseconds=5", "timeoutMilliseconds"),
        ("agent.exemptNamespaces={Kube}", "exemptNamespaces"),
        ("agent.timing.checkSeconds=0", "checkSeconds"),
        ("image.digest=sha256:1", "digest"),
        ("seccomp.type=Unconfined", "seccomp"),
        ("updateStrategy.maxUnavailable=0", "maxUnavailable"),
        ("nri=maybe", "nri"),
    ] {
        let error = helm(&["template", "sidewall", "sidewall", "--set", value]).unwrap_err();
        assert!(error.contains(field), "{value}: {error}");
    }
    // Before 1.30 nothing could hold an agent to its own node.
    let error = helm(&["template", "sidewall", "sidewall", "--kube-version=1.29.9"]).unwrap_err();
    assert!(error.contains("1.30.0"), "{error}");
}

/// Writes a policy where no operator runs, whose word the API server waits for.
fn written_without_the_operator(admin: &Api, policy: &Value) {
    admin.kubectl(&["delete", "validatingwebhookconfiguration", "sidewall-validate"]).unwrap();
    // The API server itself hears of it a moment later.
    sidewall_node_tests::until::until("nobody to be asked", LIMIT, || {
        Ok(admin.apply(&policy.to_string()).map(drop).map_err(|error| error.to_string()))
    })
    .unwrap();
}

#[test]
fn plain_manifests_install_and_uninstall() {
    let bed = Bed::new();
    let admin = bed.admin();
    let apply = |name: &str| {
        let path = root().join("deploy/manifests").join(name);
        admin.kubectl(&["apply", "-f", &path.display().to_string()]).unwrap();
        let object = admin.get(&["-n", NAMESPACE, "daemonset", "sidewall-agent"]).unwrap();
        let pod = object["spec"]["template"]["spec"].clone();
        let names = |kind: &str| -> Vec<String> {
            let all = pod[kind].as_array().into_iter().flatten();
            all.map(|container| container["name"].as_str().unwrap_or_default().to_owned()).collect()
        };
        (object["metadata"]["uid"].clone(), names("initContainers"), names("containers"))
    };
    let (installed, before, agents) = apply("kubeadm.yaml");
    assert_eq!((before, agents), (vec![], vec!["agent".to_owned()]));
    let (uninstalling, before, agents) = apply("kubeadm-uninstall.yaml");
    assert_eq!((before, agents), (vec!["uninstall".to_owned()], vec!["done".to_owned()]));
    assert_eq!(installed, uninstalling);
    assert_eq!(apply("kubeadm.yaml").1, Vec::<String>::new());
}

#[test]
fn helm_installs_upgrades_and_uninstalls_and_leaves_the_kinds() {
    let bed = Bed::new();
    let admin = bed.admin();
    // As on a cluster that has never seen us: Helm takes over nothing that it has not made.
    admin.delete(&sidewall_api::crd::crd_yaml()).unwrap();
    let kubeconfig = format!("--kubeconfig={}", admin.kubeconfig().display());
    let helm = |arguments: &[&str]| {
        let all: Vec<&str> = arguments.iter().copied().chain(["--namespace", NAMESPACE, &kubeconfig]).collect();
        helm(&all).unwrap()
    };
    let daemon_set = || admin.get(&["-n", NAMESPACE, "daemonset", "sidewall-agent"]).unwrap();
    let containers = |object: &Value, kind: &str| -> Vec<Value> {
        object["spec"]["template"]["spec"][kind].as_array().cloned().unwrap_or_default()
    };
    helm(&["install", "sidewall", "sidewall"]);
    let installed = daemon_set();
    assert_eq!(containers(&installed, "containers")[0]["args"][0], "run");
    let policy = json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "ContainerNetworkPolicy", "metadata": {"name": "a", "namespace": "default"},
        "spec": {"podSelector": {}},
    });
    written_without_the_operator(admin, &policy);
    // The same DaemonSet, so that no agent runs where its work is taken away.
    helm(&["upgrade", "sidewall", "sidewall", "--reuse-values", "--set", "uninstall.enabled=true"]);
    let uninstalling = daemon_set();
    assert_eq!(uninstalling["metadata"]["uid"], installed["metadata"]["uid"]);
    assert_eq!(containers(&uninstalling, "initContainers")[0]["args"][0], "uninstall");
    assert!(containers(&uninstalling, "containers").iter().all(|container| container["name"] != "agent"));
    assert_eq!(uninstalling["spec"]["template"]["spec"]["automountServiceAccountToken"], false);
    assert_eq!(
        uninstalling["spec"]["updateStrategy"]["rollingUpdate"],
        json!({"maxSurge": 0, "maxUnavailable": "100%"})
    );
    // Once more without, as who changes his mind does.
    helm(&["upgrade", "sidewall", "sidewall", "--reuse-values", "--set", "uninstall.enabled=false"]);
    assert!(containers(&daemon_set(), "initContainers").is_empty());
    helm(&["uninstall", "sidewall"]);
    assert!(admin.get(&["-n", NAMESPACE, "daemonset", "sidewall-agent"]).is_err());
    assert!(admin.get(&["clusterrole", "sidewall-agent"]).is_err());
    admin.get(&["containernetworkpolicy", "a"]).unwrap();
}

const NEEDED: [&str; 18] = [
    "create,patch events.k8s.io/events",
    "create,patch sidewall.dev/nodeenforcements",
    "create authentication.k8s.io/tokenreviews",
    "create authorization.k8s.io/subjectaccessreviews",
    "get apiextensions.k8s.io/customresourcedefinitions containernetworkpolicies.sidewall.dev sidecarproxies.sidewall.dev \
     multi-networkpolicies.k8s.cni.cncf.io",
    "get,list,watch /nodes",
    "list,watch /namespaces",
    "list,watch /pods",
    "list,watch /services",
    "list,watch discovery.k8s.io/endpointslices",
    "list,watch k8s.cni.cncf.io/multi-networkpolicies",
    "list,watch networking.k8s.io/networkpolicies",
    "list,watch networking.k8s.io/servicecidrs",
    "list,watch sidewall.dev/containernetworkpolicies",
    "list,watch sidewall.dev/sidecarproxies",
    "patch sidewall.dev/nodeenforcements/status",
    // What Kubernetes lets everybody do: ask about himself.
    "create authorization.k8s.io/selfsubjectaccessreviews",
    "create authorization.k8s.io/selfsubjectrulesreviews",
];

fn enforcement(node: &str) -> String {
    json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "NodeEnforcement", "metadata": {"name": node}, "spec": {"nodeName": node},
    })
    .to_string()
}

const OURS: &str = "/apis/sidewall.dev/v1alpha1/nodeenforcements";
const APPLY: [&str; 6] = ["apply", "--server-side", "--validate=false", "--field-manager=agent", "-f", "-"];

#[test]
fn an_agent_may_do_what_it_needs_and_nothing_else() {
    let bed = Bed::new();
    let admin = bed.admin();
    admin.apply(&fs::read_to_string(root().join("deploy/manifests/kubeadm.yaml")).unwrap()).unwrap();
    let agent = bed.agent_on("n1");
    let list = ["selfsubjectreviews"].map(|own| format!("create authentication.k8s.io/{own}"));
    let expected: BTreeSet<String> = NEEDED.into_iter().map(str::to_owned).chain(list).collect();
    assert_eq!(rules(&agent, "default"), expected);

    // What it needs, by real requests.
    for watched in [
        "pods",
        "namespaces",
        "services",
        "nodes",
        "endpointslices.discovery.k8s.io",
        "servicecidrs.networking.k8s.io",
        "networkpolicies.networking.k8s.io",
        "containernetworkpolicies.sidewall.dev",
        "sidecarproxies.sidewall.dev",
    ] {
        agent.kubectl(&["get", "--all-namespaces", watched]).unwrap();
    }
    agent.kubectl(&["get", "node", "n1"]).unwrap();
    agent.kubectl(&["get", "crd", "containernetworkpolicies.sidewall.dev", "sidecarproxies.sidewall.dev"]).unwrap();
    let status = json!({"status": {"pods": {"total": 1, "selected": 0, "enforced": 0, "notEnforced": 0}}});
    agent.with_input(&APPLY, &enforcement("n1")).unwrap();
    let tell = |api: &Api, node: &str| patch(api, OURS, node, Some("status"), &status);
    tell(&agent, "n1").unwrap();
    agent.with_input(&CREATE, &event("mine", "sidewall.dev/agent", "n1")).unwrap();
    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}});
    let again =
        |api: &Api, name: &str| patch(api, "/apis/events.k8s.io/v1/namespaces/default/events", name, None, &series);
    again(&agent, "mine").unwrap();
    for review in [
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "nobody's"}}),
        json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": "a", "resourceAttributes": {"group": "sidewall.dev", "resource": "flows", "verb": "get"}},
        }),
    ] {
        agent.with_input(&CREATE, &review.to_string()).unwrap();
    }

    // And what it is refused: by its role,
    admin.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {nodeName: n1, containers: [{name: a, image: none}]}\n").unwrap_or_else(|_| {
        // Nobody makes service accounts here.
        admin.kubectl(&["create", "serviceaccount", "default"]).unwrap();
        admin.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {nodeName: n1, containers: [{name: a, image: none}]}\n").unwrap()
    });
    let policy = json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "ContainerNetworkPolicy", "metadata": {"name": "a", "namespace": "default"},
        "spec": {"podSelector": {}},
    });
    refused(agent.with_input(&CREATE, &policy.to_string()), "to write policies");
    written_without_the_operator(admin, &policy);
    for request in [
        &["get", "secrets", "--all-namespaces"][..],
        &["get", "configmaps", "--all-namespaces"],
        &["get", "serviceaccounts", "--all-namespaces"],
        &["get", "pod", "web"],
        &["exec", "web", "--", "true"],
        &["logs", "web"],
        &["label", "pod", "web", "a=b"],
        &["delete", "pod", "web"],
        &["run", "other", "--image=none"],
        &["label", "node", "n1", "a=b"],
        &["taint", "node", "n1", "a=b:NoSchedule"],
        &["delete", "node", "n2"],
        &["delete", "containernetworkpolicy", "a"],
        &["get", "containernetworkpolicy", "a"],
        &["get", "nodeenforcements"],
        &["delete", "nodeenforcement", "n1"],
        &["get", "crds"],
        &["get", "crd", "nodeenforcements.sidewall.dev"],
        &["get", "events"],
        &["delete", "events.v1.events.k8s.io", "mine"],
        &["create", "token", "default"],
        &["get", "clusterroles"],
        &["-n", NAMESPACE, "get", "daemonsets"],
        &["-n", NAMESPACE, "get", "configmap", "sidewall-agent"],
        &["get", "leases", "--all-namespaces"],
        &["get", "--raw", "/metrics"],
    ] {
        refused(agent.kubectl(request), &request.join(" "));
    }
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    for (path, name, part) in [
        ("/api/v1/nodes", "n1", None),
        ("/api/v1/nodes", "n1", Some("status")),
        ("/api/v1/namespaces/default/pods", "web", None),
        ("/api/v1/namespaces/default/pods", "web", Some("ephemeralcontainers")),
        ("/api/v1/namespaces", "default", None),
        ("/apis/apps/v1/namespaces/sidewall-system/daemonsets", "sidewall-agent", None),
    ] {
        refused(patch(&agent, path, name, part, &label), path);
    }

    // and by the admission policies, which the API server knows a moment later.
    let elsewhere = |api: &Api, node: &str| api.with_input(&APPLY, &enforcement(node));
    let waited = sidewall_node_tests::until::until("the admission policies", LIMIT, || {
        Ok(match elsewhere(&agent, "n2") {
            Err(error) => Ok(error.to_string()),
            Ok(_) => {
                admin.kubectl(&["delete", "nodeenforcement", "n2"])?;
                Err("n2 is written".to_owned())
            }
        })
    });
    let said = waited.unwrap();
    assert!(said.contains("of its own node only, and its token is that of a pod on n1"), "{said}");
    elsewhere(&agent, "n1").unwrap();
    elsewhere(admin, "n2").unwrap();
    refused(tell(&agent, "n2"), "another node's status");
    tell(&bed.agent_on("n2"), "n2").unwrap();
    // A token that is bound to no pod, or to none that has a node, is nobody's.
    let unbound = bed.agent(&[]);
    for node in ["n1", "n2"] {
        let error = elsewhere(&unbound, node).unwrap_err().to_string();
        assert!(error.contains("bound to none"), "{error}");
    }
    refused(unbound.with_input(&CREATE, &event("nobody", "sidewall.dev/agent", "n1")), "an event of no node");
    for (name, controller, instance) in [("as-kubelet", "kubelet", "n1"), ("as-other", "sidewall.dev/agent", "n2")] {
        refused(agent.with_input(&CREATE, &event(name, controller, instance)), name);
    }
    admin.with_input(&CREATE, &event("kubelets", "kubelet", "n1")).unwrap();
    refused(again(&agent, "kubelets"), "to change the kubelet's event");
    again(&agent, "mine").unwrap();
    // Others are not concerned.
    again(admin, "kubelets").unwrap();
}

#[test]
fn an_agent_takes_the_startup_taint_from_its_own_node_and_nothing_else() {
    let bed = Bed::new();
    let admin = bed.admin();
    admin.apply(&rendered(&["startupTaint.remove=true", "crds.install=false"])).unwrap();
    let agent = bed.agent_on("n1");
    let (ours, other) = (
        json!({"key": "sidewall.dev/agent-not-ready", "effect": "NoExecute"}),
        json!({"key": "other", "value": "x", "effect": "NoSchedule"}),
    );
    for node in ["n1", "n2"] {
        let taints = json!({"spec": {"taints": [other, ours]}}).to_string();
        admin.kubectl(&["patch", "node", node, "--type=merge", "-p", &taints]).unwrap();
    }
    let change = |api: &Api, node: &str, change: Value| {
        let kind = if change.is_array() { "--type=json" } else { "--type=merge" };
        api.kubectl(&["patch", "node", node, kind, "-p", &change.to_string()])
    };
    let taints = |list: Value| json!({"spec": {"taints": list}});
    // Without its policy the role would allow this, so that it tells when the policy is known; it changes nothing that counts.
    sidewall_node_tests::until::until("the admission policy", LIMIT, || {
        let probed = change(&agent, "n1", json!({"metadata": {"annotations": {"probe": "x"}}}));
        Ok(probed.map_or_else(|_| Ok(()), |_| Err("the node can be annotated".to_owned())))
    })
    .unwrap();
    change(admin, "n1", json!({"metadata": {"annotations": {"probe": null}}})).unwrap();
    for (what, node, to) in [
        ("another node's taint", "n2", taints(json!([other]))),
        ("all taints", "n1", taints(json!([]))),
        ("another taint", "n1", taints(json!([ours]))),
        ("another's value", "n1", taints(json!([{"key": "other", "value": "y", "effect": "NoSchedule"}]))),
        ("a new taint", "n1", taints(json!([other, {"key": "new", "effect": "NoExecute"}]))),
        ("a label", "n1", json!({"metadata": {"labels": {"a": "b"}}, "spec": {"taints": [other]}})),
        ("an annotation", "n1", json!({"metadata": {"annotations": {"a": "b"}}})),
        ("a finalizer", "n1", json!({"metadata": {"finalizers": ["a.example/b"]}})),
        ("to cordon", "n1", json!({"spec": {"unschedulable": true}})),
        ("a provider", "n1", json!({"spec": {"providerID": "a://b"}})),
        ("a range", "n1", json!({"spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]}})),
    ] {
        refused(change(&agent, node, to), what);
    }
    refused(patch(&agent, "/api/v1/nodes", "n1", Some("status"), &json!({})), "the node's status");
    refused(agent.kubectl(&["delete", "node", "n1"]), "to delete its node");
    let unbound = bed.agent(&[]);
    refused(change(&unbound, "n1", taints(json!([other]))), "a token that is bound to no pod");
    change(
        &agent,
        "n1",
        json!([
            {"op": "test", "path": "/spec/taints/1", "value": ours},
            {"op": "remove", "path": "/spec/taints/1"},
        ]),
    )
    .unwrap();
    assert_eq!(admin.get(&["node", "n1"]).unwrap()["spec"]["taints"], json!([other]));
    assert_eq!(admin.get(&["node", "n2"]).unwrap()["spec"]["taints"], json!([other, ours]));
}

#[test]
fn people_get_their_rights_by_kubernetes_own_roles() {
    let bed = Bed::new();
    let admin = bed.admin();
    admin.apply(&fs::read_to_string(root().join("deploy/manifests/kubeadm.yaml")).unwrap()).unwrap();
    // Kubernetes' controllers add roles up, and do not run here: what they would find is looked at.
    let roles = admin.get(&["clusterroles", "-l", "app.kubernetes.io/name=sidewall"]).unwrap();
    let role = |name: &str| {
        let all = roles["items"].as_array().unwrap();
        all.iter().find(|role| role["metadata"]["name"] == name).unwrap_or_else(|| panic!("no {name} in {roles}"))
    };
    let to = |name: &str| -> Vec<&str> {
        let labels = role(name)["metadata"]["labels"].as_object().unwrap();
        let aggregate = labels.keys().filter_map(|key| key.strip_prefix("rbac.authorization.k8s.io/aggregate-to-"));
        aggregate.collect()
    };
    assert_eq!(to("sidewall-view"), ["admin", "edit", "view"]);
    assert_eq!(to("sidewall-edit"), ["admin", "edit"]);
    // An agent's rights are nobody's else.
    assert!(to("sidewall-agent").is_empty());
    let may = |who: &str, attributes: Value| {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": format!("system:serviceaccount:default:{who}"), "resourceAttributes": attributes},
        });
        let answer: Value = serde_json::from_str(&admin.with_input(&CREATE, &review.to_string()).unwrap()).unwrap();
        answer["status"]["allowed"] == true
    };
    let can = |who: &str, verb: &str, resource: &str| {
        may(who, json!({"group": "sidewall.dev", "resource": resource, "verb": verb, "namespace": "default"}))
    };
    for who in ["view", "edit"] {
        let (role, account) = (format!("--clusterrole=sidewall-{who}"), format!("--serviceaccount=default:{who}"));
        admin.kubectl(&["create", "rolebinding", who, &role, &account]).unwrap();
    }
    // A binding counts from the moment at which the API server's own watch tells it.
    sidewall_node_tests::until::until("the bindings", LIMIT, || {
        let both = can("view", "get", "flows") && can("edit", "create", "containernetworkpolicies");
        Ok(if both { Ok(()) } else { Err("not yet".to_owned()) })
    })
    .unwrap();
    assert!(can("view", "list", "containernetworkpolicies") && can("view", "watch", "sidecarproxies"));
    assert!(!can("view", "create", "containernetworkpolicies") && !can("view", "patch", "sidecarproxies"));
    assert!(can("edit", "delete", "sidecarproxies"));
    assert!(!can("edit", "patch", "nodeenforcements") && !can("edit", "get", "flows"));
    // Who reads flows of other nodes' agents has to be given the way to them, by a binding.
    let forward = json!({"resource": "pods", "subresource": "portforward", "verb": "create", "namespace": NAMESPACE});
    assert!(!may("view", forward.clone()) && !may("edit", forward.clone()));
    let bind =
        ["-n", NAMESPACE, "create", "rolebinding", "f", "--role=sidewall-agent-forward", "--serviceaccount=default:f"];
    admin.kubectl(&bind).unwrap();
    sidewall_node_tests::until::until("the binding", LIMIT, || {
        Ok(if may("f", forward.clone()) { Ok(()) } else { Err("not yet".to_owned()) })
    })
    .unwrap();
    assert!(may("f", json!({"resource": "pods", "verb": "list", "namespace": NAMESPACE})));
    for (verb, part, namespace) in
        [("create", "exec", NAMESPACE), ("get", "", NAMESPACE), ("create", "portforward", "default")]
    {
        let attributes = json!({"resource": "pods", "subresource": part, "verb": verb, "namespace": namespace});
        assert!(!may("f", attributes), "{verb} pods/{part} in {namespace}");
    }
}
