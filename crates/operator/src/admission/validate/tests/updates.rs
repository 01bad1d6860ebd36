//! Whose Secrets: what of a change needs the right to read them.

use super::*;

fn wanted(new: &Value, old: &Value) -> Vec<String> {
    let question = question(&review(new, Some(old)));
    question.wants().access.iter().map(|access| format!("{access:?}")).collect()
}

#[test]
fn what_stands_as_it_stood_needs_no_right() {
    let old = proxy(TLS);
    for change in [
        json!({"limits": {"headers": 50}}),
        json!({"timeouts": {"drainSeconds": 5}}),
        json!({"admin": {"port": 15001}}),
        json!({"capture": {"inbound": [8080]}}),
    ] {
        let mut new = old.clone();
        new["spec"].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        assert_eq!(wanted(&new, &old), [""; 0], "{change}");
        let question = question(&review(&new, Some(&old)));
        assert_eq!(warned(&question, &Facts::default()), [""; 0], "{change}");
    }
    // The other way round, one fewer, and one more that needs none.
    let mut new = old.clone();
    let listeners = new["spec"]["listeners"].as_array_mut().unwrap();
    listeners.reverse();
    assert_eq!(wanted(&new, &old), [""; 0]);
    new["spec"]["listeners"].as_array_mut().unwrap().pop();
    assert_eq!(wanted(&new, &old), [""; 0]);
    let open = json!({"port": 81, "forward": {"port": 8081}, "anonymous": true});
    new["spec"]["listeners"].as_array_mut().unwrap().push(open);
    assert_eq!(wanted(&new, &old), [""; 0]);
}

#[test]
fn whatever_changes_how_or_where_a_secret_is_used_needs_the_right() {
    let old = proxy(TLS);
    let (tls, users) = ("Secret(\"web-tls\")", "Secret(\"web-users\")");
    for (pointer, value, expected) in [
        ("/spec/listeners/0/port", json!(8444), &[tls, users][..]),
        ("/spec/listeners/0/address", json!("127.0.0.1"), &[tls, users]),
        ("/spec/listeners/0/forward/port", json!(8081), &[tls, users]),
        ("/spec/listeners/0/authentication/0/basic/realm", json!("Other"), &[tls, users]),
        ("/spec/listeners/0/authentication/0/basic/key", json!("others"), &[tls, users]),
        ("/spec/listeners/1/tls/minVersion", json!("1.2"), &[tls]),
        ("/spec/listeners/1/forward/port", json!(9091), &[tls]),
        ("/spec/listeners/1/tls/secretName", json!("web-users"), &[users]),
        ("/spec/podSelector/matchLabels", json!({}), &[tls, users]),
        ("/spec/containerName", json!("door"), &[tls, users]),
    ] {
        let mut new = old.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        new.pointer_mut(parent).unwrap()[key] = value;
        assert_eq!(wanted(&new, &old), expected, "{pointer}");
    }
    // One that could not be understood had no right to anything.
    let mut broken = old.clone();
    broken["spec"]["extra"] = json!(1);
    assert_eq!(wanted(&old, &broken), [tls, users]);
    assert_eq!(wanted(&old, &Value::Null), [tls, users]);
}

#[test]
fn a_refusal_names_user_secret_and_fields_and_what_to_do() {
    let question = question(&review(&proxy(TLS), None));
    let mut facts = allowed(&question);
    facts.access.insert(Access::Secret("web-tls".to_owned()), Permission::Denied);
    assert_eq!(
        refused(&question, &facts),
        "SidecarProxy \"web\": user \"mallory\" may not get Secret shop/web-tls, which spec.listeners[0].tls.secretName, spec.listeners[1].tls.secretName name: \
         name a Secret that this user may read, or grant `get` on this one (resources: [secrets], resourceNames: [web-tls])"
    );
    let body: Value = serde_json::from_slice(&question.answer(&facts, &settings()).unwrap().body).unwrap();
    assert_eq!(body["response"]["status"]["code"], 403);

    facts.access.insert(Access::Secret("web-tls".to_owned()), Permission::Unanswered("timed\u{1b}[2J out".to_owned()));
    assert_eq!(
        refused(&question, &facts),
        "SidecarProxy \"web\": it could not be found out whether user \"mallory\" may get Secret shop/web-tls, which spec.listeners[0].tls.secretName, spec.listeners[1].tls.secretName name (timed [2J out): \
         try again in a moment"
    );
    let body: Value = serde_json::from_slice(&question.answer(&facts, &settings()).unwrap().body).unwrap();
    assert_eq!(body["response"]["status"]["code"], 503);

    // What was not asked is not allowed, and the gravest cause counts.
    facts.access.remove(&Access::Secret("web-tls".to_owned()));
    facts.access.insert(Access::Secret("web-users".to_owned()), Permission::Denied);
    let message = refused(&question, &facts);
    assert!(
        message.contains("could not be found out") && message.contains("may not get Secret shop/web-users"),
        "{message}"
    );
    let body: Value = serde_json::from_slice(&question.answer(&facts, &settings()).unwrap().body).unwrap();
    assert_eq!(body["response"]["status"]["code"], 403);
}

#[test]
fn a_refused_change_says_why_a_change_needs_the_right() {
    let old = proxy(USERS);
    let mut new = old.clone();
    new["spec"]["listeners"][0]["forward"]["port"] = json!(22);
    let question = question(&review(&new, Some(&old)));
    let facts =
        Facts { access: [(Access::Secret("web-users".to_owned()), Permission::Denied)].into(), ..Facts::default() };
    assert_eq!(
        refused(&question, &facts),
        "SidecarProxy \"web\": user \"mallory\" may not get Secret shop/web-users, which spec.listeners[0].authentication[0].basic.secretName names: \
         name a Secret that this user may read, or grant `get` on this one (resources: [secrets], resourceNames: [web-users]); \
         who changes a listener that uses it, or the pods that get it, needs the right as who wrote it did"
    );
}

#[test]
fn the_api_server_is_asked_all_that_it_said_of_the_user() {
    let question = question(&review(&proxy(USERS), None));
    let asked = question.access_review(question.wants().access[0]);
    assert_eq!(
        serde_json::to_value(asked).unwrap(),
        json!({
            "user": "mallory", "uid": "7", "groups": ["dev", "system:authenticated"], "extra": {"k": ["v"]},
            "resourceAttributes": {"namespace": "shop", "group": "", "resource": "secrets", "verb": "get", "name": "web-users"},
        })
    );
}

#[test]
fn whoever_has_certificates_made_must_be_allowed_to_make_them() {
    let spec = TLS.replacen(
        "tls: {secretName: web-tls}",
        "tls: {secretName: web-tls, certificate: {source: CertManager, issuerRef: {name: ca}}}",
        1,
    );
    let question = question(&review(&proxy(&spec), None));
    assert_eq!(
        serde_json::to_value(question.access_review(&Access::Certificates)).unwrap()["resourceAttributes"],
        json!({"namespace": "shop", "group": "cert-manager.io", "resource": "certificates", "verb": "create"})
    );
    let mut facts = allowed(&question);
    facts.contents.insert("web-tls".to_owned(), Content::Missing);
    facts.contents.insert("web-users".to_owned(), content(&[("htpasswd", "a:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=")]));
    assert_eq!(warned(&question, &facts), [""; 0], "one that will be made need not be there");
    facts.access.insert(Access::Certificates, Permission::Denied);
    assert_eq!(
        refused(&question, &facts),
        "SidecarProxy \"web\": user \"mallory\" may not create cert-manager's Certificates in namespace shop, for which spec.listeners[0].tls.certificate asks: \
         bring the Secret, say `source: SelfManaged`, or grant `create` on certificates.cert-manager.io"
    );
}

#[test]
fn an_object_whose_spec_stays_is_never_refused() {
    for good in [proxy(USERS), policy("{podSelector: {}, ingress: []}")] {
        let mut bad = good.clone();
        bad["spec"]["unheardOf"] = json!(1);
        for old in [&good, &bad] {
            let mut new = old.clone();
            new["metadata"]["finalizers"] = json!([]);
            let question = question(&review(&new, Some(old)));
            assert_eq!(question.wants(), Wants { access: Vec::new(), others: None });
            let warnings = warned(&question, &Facts::default());
            assert_eq!(warnings.len(), usize::from(old == &bad), "{warnings:?}");
            assert!(warnings.iter().all(|text| {
                text.contains("is stored already, and closes what it selects until it is mended: spec.unheardOf")
            }));
            refused(&super::question(&review(&bad, None)), &Facts::default());
        }
    }
    // Without a spec on either side nothing has stayed.
    let none = json!({"kind": "SidecarProxy", "metadata": {"name": "web"}});
    refused(&question(&review(&none, Some(&none))), &Facts::default());
}
