//! What is refused, and what passes without a look.

use super::*;

#[test]
fn what_is_not_ours_passes() {
    let good = proxy(USERS);
    for (pointer, value) in [
        ("/request/operation", json!("DELETE")),
        ("/request/operation", json!("CONNECT")),
        ("/request/subResource", json!("status")),
        ("/request/resource/group", json!("apps")),
        ("/request/resource/resource", json!("nodeenforcements")),
    ] {
        let mut review = review(&good, Some(&good));
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        review.pointer_mut(parent).unwrap()[key] = value;
        let question = question(&review);
        assert_eq!(question.wants(), Wants { access: Vec::new(), others: None });
        assert_eq!(decided(&question, &Facts::default()), Decision::NotOurs, "{pointer}");
    }
}

#[test]
fn a_version_that_is_not_known_is_refused() {
    let mut review = review(&proxy(USERS), None);
    review["request"]["resource"]["version"] = json!("v9");
    assert_eq!(
        refused(&question(&review), &Facts::default()),
        "this version: sidewall.dev/v9 is not known to this operator, which knows sidewall.dev/v1alpha1: write that, or update the operator"
    );
}

#[test]
fn dry_runs_are_told_and_decided_like_others() {
    let mut review = review(&proxy(USERS), None);
    review["request"]["dryRun"] = json!(true);
    let question = question(&review);
    assert!(question.is_dry_run());
    assert!(question.answer(&Facts::default(), &settings()).unwrap().dry_run);
    refused(&question, &Facts::default());
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let bad = proxy(
        "
podSelecter: {}
podSelector: {matchLabels: {app: web}}
listeners:
- {port: 0, forward: {port: 8080, protcol: HTTP}, anonymous: true}
- {port: 81, forward: {port: 8081}}
",
    );
    let question = question(&review(&bad, None));
    assert_eq!(question.wants().access, Vec::<&Access>::new());
    assert_eq!(
        refused(&question, &Facts::default()),
        "SidecarProxy \"web\": \
         spec.listeners[0].forward.protcol: unknown field \"protcol\"; did you mean `protocol`?; \
         spec.podSelecter: unknown field \"podSelecter\"; did you mean `podSelector`?; \
         spec.listeners[0].port: 0 is not a port; use 1 to 65535; \
         spec.listeners[1].authentication: nothing authenticates requests here; add an entry, or say `anonymous: true` to let everybody in"
    );
    let answer: Value = serde_json::from_slice(&question.answer(&Facts::default(), &settings()).unwrap().body).unwrap();
    assert_eq!(answer["response"]["status"]["code"], 422);
    assert_eq!(answer["response"]["status"]["reason"], "Invalid");
}

#[test]
fn an_unknown_field_of_a_policy_is_refused() {
    let question = question(&review(&policy("{podSelector: {}, ingres: []}"), None));
    assert_eq!(
        refused(&question, &Facts::default()),
        "ContainerNetworkPolicy \"shipper\": spec.ingres: unknown field \"ingres\"; did you mean `ingress`?"
    );
}

#[test]
fn names_and_ports_for_which_every_pod_would_be_refused_are_refused() {
    let settings = settings();
    let spec = USERS
        .replace("web-users", "Web_Users")
        .replace("port: 80\n", &format!("port: {}\n", settings.proxy.ports.probe));
    let question = question(&review(&proxy(&spec), None));
    let message = refused(&question, &allowed(&question));
    assert_eq!(
        message,
        "SidecarProxy \"web\": \
         SidecarProxy \"web\" has port 15411 in spec.listeners[0].port, which the proxy itself uses (probe): take another one, or change \
         proxy.ports.probe in the operator's settings; \
         SidecarProxy \"web\" names \"Web_Users\", which is no name of a Secret: a-z, 0-9, - and ."
    );
}

#[test]
fn a_message_has_an_end() {
    let long = "y".repeat(2000);
    let listener = |i: i32| json!({"port": 0, "forward": {"port": 0, &long: i}, "anonymous": true});
    let mut object = proxy("{}");
    object["spec"] = json!({"podSelector": {}, "listeners": (0..500).map(listener).collect::<Vec<_>>()});
    let message = refused(&question(&review(&object, None)), &Facts::default());
    assert!(message.chars().count() <= 4096, "{}", message.len());
    assert!(message.ends_with(" more"), "{message}");
}

#[test]
fn a_proxy_in_a_namespace_without_injection_closes_pods_and_opens_nothing() {
    let question = question(&review(&proxy(USERS), None));
    let with =
        |namespace: &Surroundings| warned(&question, &Facts { namespace: Some(namespace), ..allowed(&question) });
    assert_eq!(with(&namespace()), [""; 0]);
    let bare = Surroundings { labels: BTreeMap::new(), ..namespace() };
    assert_eq!(
        with(&bare),
        [
            "no pod of namespace \"shop\" gets a proxy, and yet this closes the pods that it selects: kubectl label namespace shop sidewall.dev/injection=enabled"
        ]
    );
    let mut excluding = settings();
    excluding.excluded_namespaces.insert("shop".to_owned());
    let answer = question.answer(&Facts { namespace: Some(&bare), ..allowed(&question) }, &excluding).unwrap();
    let warnings =
        vec!["the operator leaves namespace \"shop\" alone: no pod there gets a proxy, and yet this closes the pods that it selects".to_owned()];
    assert_eq!(answer.decision, Decision::Allowed { warnings });
}

#[test]
fn a_proxy_that_names_files_is_for_pods_that_bring_theirs() {
    let spec = "
podSelector: {matchLabels: {app: web}}
containerName: door
listeners:
- {port: 80, forward: {port: 8080}, authentication: [{basic: {htpasswdFile: users}}]}
";
    let question = question(&review(&proxy(spec), None));
    let pods = [pod(&["app", "dor: 80"])];
    let pods = [pods[0].known()];
    assert_eq!(
        warned(&question, &Facts { pods: Some(&pods), ..Facts::default() }),
        [
            "names files, so that nothing is injected: each pod must bring container \"door\" along, with a proxy and its files; name Secrets to have it injected",
            "spec.containerName: the pod that it selects has no container \"door\", which would be the proxy; did you mean \"dor\"?",
            "spec.listeners[0].port: container \"dor\" declares port 80 too, and such pods are refused: let the application listen elsewhere, or take another port",
            "spec.listeners[0].forward.port: no container of the pod that it selects declares port 8080; declared: 80",
        ]
    );
}

#[test]
fn nothing_of_a_question_or_of_facts_is_printed() {
    let facts = Facts { contents: [("s".to_owned(), content(&[("k", "sesame")]))].into(), ..Facts::default() };
    let shown = format!("{facts:?}");
    assert!(shown.contains("SecretContent(1 keys)") && !shown.contains("sesame"), "{shown}");
}
