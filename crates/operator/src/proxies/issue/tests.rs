use std::collections::VecDeque;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::*;
use crate::certificates::tests::accepts;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn asking(name: &str, certificate: &Value) -> SidecarProxy {
    serde_json::from_value(json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "SidecarProxy",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}")},
        "spec": {"podSelector": {}, "listeners": [
            {"port": 443, "forward": {"port": 8080}, "anonymous": true,
             "tls": {"secretName": format!("{name}-tls"), "certificate": certificate}},
            {"port": 444, "forward": {"port": 8080}, "anonymous": true, "tls": {"secretName": format!("{name}-tls")}},
            {"port": 445, "forward": {"port": 8080}, "anonymous": true, "tls": {"secretName": "brought"}},
        ]},
    }))
    .unwrap()
}

fn one(name: &str) -> WantedCertificate {
    wanted(&asking(name, &json!({}))).remove(0)
}

fn decided(wanted: &WantedCertificate, existing: Option<&Secret>, by: &ProxyAuthority, now: SystemTime) -> Decision {
    next(wanted, existing, by, now).map_err(|error| error.to_string()).unwrap()
}

fn written(
    wanted: &WantedCertificate,
    existing: Option<&Secret>,
    by: &ProxyAuthority,
    now: SystemTime,
) -> (Secret, Why) {
    match decided(wanted, existing, by, now) {
        Decision::Write(write) => (write.secret().clone(), write.why()),
        Decision::Keep { .. } => panic!("it is kept"),
        Decision::NotOurs(whose) => panic!("{whose}"),
    }
}

fn text<'a>(secret: &'a Secret, entry: &str) -> &'a str {
    std::str::from_utf8(&secret.data.as_ref().unwrap()[entry].0).unwrap()
}

#[test]
fn what_is_asked_for() {
    let asked = wanted(&asking("web", &json!({})));
    assert_eq!(asked.len(), 1, "one Secret, though two listeners have it");
    assert_eq!(asked[0].names, ["web.shop.svc", "web.shop.svc.cluster.local"]);
    assert_eq!((asked[0].secret.as_str(), &asked[0].signer), ("web-tls", &Signer::SelfManaged));
    let asked = wanted(&asking("web", &json!({"dnsNames": ["localhost"]})));
    assert_eq!(asked[0].names, ["localhost"]);
    let mut brought = asking("web", &json!({}));
    brought.spec.listeners[0].tls.as_mut().unwrap().certificate = None;
    assert_eq!(wanted(&brought), []);
}

#[test]
fn a_secret_is_made_that_serves() {
    let authority = ProxyAuthority::new(start()).unwrap();
    let wanted = one("web");
    let (secret, why) = written(&wanted, None, &authority, start());
    assert_eq!((why, secret.type_.as_deref()), (Why::Missing, Some("kubernetes.io/tls")));
    assert_eq!(wanted.owns_secret(&secret.metadata), Ok(()));
    for name in &wanted.names {
        assert_eq!(accepts(text(&secret, "ca.crt"), text(&secret, "tls.crt"), name, start()), Ok(()));
    }
    assert!(accepts(text(&secret, "ca.crt"), text(&secret, "tls.crt"), "db.shop.svc", start()).is_err());
    let Decision::Keep { good_until, until } = decided(&wanted, Some(&secret), &authority, start() + HOUR) else {
        panic!("it is made anew");
    };
    assert!(good_until == start() + LIFE && until < start() + LIFE * 2 / 3);
}

#[test]
fn whoever_believes_the_authority_believes_it_of_services_only() {
    let authority = ProxyAuthority::new(start()).unwrap();
    for (name, good) in [
        ("web.shop.svc", true),
        ("web.shop.svc.cluster.local", true),
        ("localhost", true),
        ("www.example.com", false),
        ("svc.example.com", false),
        ("mysvc", false),
    ] {
        let names = [name.to_owned()];
        let wanted = crate::certificates::pair::Wanted { called: "x", names: &names, life: LIFE };
        // Even were it to sign such a name.
        let pair = authority.0.sign(&wanted, start()).unwrap();
        let accepted = accepts(&authority.bundle(), pair.certificate.pem(), name, start());
        assert_eq!(accepted.is_ok(), good, "{name}: {accepted:?}");
    }
    let wanted = WantedCertificate { names: vec!["*.web.shop.svc".to_owned()], ..one("web") };
    let (secret, _) = written(&wanted, None, &authority, start());
    for (name, good) in [("web-0.web.shop.svc", true), ("a.web-0.web.shop.svc", false), ("db.shop.svc", false)] {
        let accepted = accepts(text(&secret, "ca.crt"), text(&secret, "tls.crt"), name, start());
        assert_eq!(accepted.is_ok(), good, "{name}: {accepted:?}");
    }
    for name in ["web.bank.svc", "www.example.com", "*.svc", "shop.svc"] {
        let wanted = WantedCertificate { names: vec!["web.shop.svc".to_owned(), name.to_owned()], ..one("web") };
        let error = next(&wanted, None, &authority, start()).err().unwrap();
        assert!(matches!(error, IssueError::ForeignName { .. }) && error.to_string().contains(name));
    }
}

#[test]
fn what_is_somebody_elses_is_left_alone() {
    let authority = ProxyAuthority::new(start()).unwrap();
    let wanted = one("web");
    let (ours, _) = written(&wanted, None, &authority, start());
    let changed = |change: &dyn Fn(&mut Secret)| {
        let mut secret = ours.clone();
        change(&mut secret);
        match decided(&wanted, Some(&secret), &authority, start() + DAY) {
            Decision::NotOurs(whose) => whose.to_string(),
            _ => panic!("it is taken for ours"),
        }
    };
    assert!(changed(&|secret| secret.metadata.labels = None).contains("was not made by Sidewall"));
    assert!(changed(&|secret| secret.metadata.owner_references = None).contains("nobody who is known"));
    let owned = |change: fn(&mut OwnerReference)| {
        changed(&|secret| change(&mut secret.metadata.owner_references.as_mut().unwrap()[0]))
    };
    assert!(owned(|owner| owner.uid = "uid-before".to_owned()).contains("of this name that is gone"));
    let other = |owner: &mut OwnerReference| {
        owner.name = "other".to_owned();
        owner.uid = "uid-other".to_owned();
    };
    assert!(owned(other).contains("SidecarProxy \"other\""));
    assert!(owned(|owner| owner.kind = "Deployment".to_owned()).contains("Deployment"));
    // One that is about to be created owns nothing.
    let unborn = WantedCertificate { uid: String::new(), ..wanted.clone() };
    let mut forged = ours.clone();
    forged.metadata.owner_references.as_mut().unwrap()[0].uid = String::new();
    assert!(matches!(next(&unborn, Some(&forged), &authority, start()), Ok(Decision::NotOurs(_))));
}

#[test]
fn what_is_damaged_is_mended_and_what_was_added_stays() {
    let authority = ProxyAuthority::new(start()).unwrap();
    let wanted = one("web");
    let (mut ours, _) = written(&wanted, None, &authority, start());
    ours.metadata.resource_version = Some("7".to_owned());
    ours.metadata.annotations = Some([("a".to_owned(), "b".to_owned())].into());
    let other = written(&one("db"), None, &authority, start()).0;
    let stranger = written(&wanted, None, &ProxyAuthority::new(start()).unwrap(), start()).0;
    let with = |entry: &str, content: Option<&[u8]>| {
        let mut secret = ours.clone();
        let data = secret.data.as_mut().unwrap();
        match content {
            Some(content) => drop(data.insert(entry.to_owned(), ByteString(content.to_vec()))),
            None => drop(data.remove(entry)),
        }
        secret
    };
    let mut stolen = ours.clone();
    stolen.data = stranger.data;
    let believed = format!("{}{}", text(&ours, "ca.crt"), text(&stolen, "ca.crt"));
    for (secret, expected) in [
        (with("tls.key", None), Why::Damaged),
        (with("tls.crt", Some(b"\xff")), Why::Damaged),
        (with("tls.key", Some(text(&other, "tls.key").as_bytes())), Why::Damaged),
        (stolen.clone(), Why::Authority),
        (with("ca.crt", None), Why::Authorities),
        (with("ca.crt", Some(b"")), Why::Authorities),
        // Another's authority among ours would be believed by our clients.
        (with("ca.crt", Some(believed.as_bytes())), Why::Authorities),
    ] {
        let (mended, why) = written(&wanted, Some(&secret), &authority, start() + DAY);
        assert_eq!(why, expected);
        assert_eq!(mended.metadata, ours.metadata, "{expected:?}");
        assert_eq!(text(&mended, "ca.crt"), authority.bundle());
        assert_eq!(text(&mended, "tls.crt") == text(&ours, "tls.crt"), expected == Why::Authorities);
        assert!(matches!(decided(&wanted, Some(&mended), &authority, start() + DAY), Decision::Keep { .. }));
    }
    let renamed = WantedCertificate { names: vec!["localhost".to_owned()], ..wanted.clone() };
    assert_eq!(written(&renamed, Some(&ours), &authority, start() + DAY).1, Why::Names);
    assert!(matches!(next(&wanted, Some(&ours), &authority, start() + 400 * DAY), Err(IssueError::Over)));
}

/// Two years of many Secrets: each is asked when it said that it wanted to be, and when the authority has changed.
#[test]
fn for_two_years_nothing_expires_and_nothing_changes_all_at_once() {
    const SECRETS: usize = 24;
    let mut authority = ProxyAuthority::new(start()).unwrap();
    let all: Vec<WantedCertificate> = (0..SECRETS).map(|n| one(&format!("web-{n}"))).collect();
    let mut secrets: Vec<Secret> = all.iter().map(|one| written(one, None, &authority, start()).0).collect();
    let mut ask: Vec<SystemTime> = vec![start(); SECRETS];
    let mut good: Vec<SystemTime> = vec![start() + LIFE; SECRETS];
    // What clients have copied, up to five days ago.
    let mut copied = VecDeque::from([text(&secrets[0], "ca.crt").to_owned()]);
    let (mut renewed, mut told, mut authorities) = (0, 0, 0);
    for step in 1..=(2 * 365 * 4) {
        let now = start() + 6 * HOUR * step;
        let followed = authority.next(now).unwrap();
        let changed = followed.is_some();
        if let Some(followed) = followed {
            authorities += 1;
            authority = ProxyAuthority::read(&followed.written()).unwrap();
        }
        let (mut certificates, mut bundles) = (0, 0);
        for index in 0..SECRETS {
            assert!(good[index] > now + 5 * DAY, "{index} at step {step}");
            if now < ask[index] && !changed {
                continue;
            }
            let before = text(&secrets[index], "tls.crt").to_owned();
            match decided(&all[index], Some(&secrets[index]), &authority, now) {
                Decision::Keep { until, good_until } => (ask[index], good[index]) = (until, good_until),
                Decision::NotOurs(whose) => panic!("{whose}"),
                Decision::Write(write) => {
                    (secrets[index], good[index]) = (write.secret().clone(), write.good_until());
                    ask[index] = now;
                    match write.why() {
                        Why::Age => certificates += 1,
                        Why::Authorities => bundles += 1,
                        why => panic!("{why:?}"),
                    }
                    assert_eq!(before == text(&secrets[index], "tls.crt"), write.why() == Why::Authorities);
                    for trust in [&copied[0], text(&secrets[index], "ca.crt")] {
                        let served = text(&secrets[index], "tls.crt");
                        assert_eq!(accepts(trust, served, &all[index].names[0], now), Ok(()), "{index} at step {step}");
                    }
                }
            }
        }
        // Of six hours; five days are the width of a renewal, and one of the news of an authority.
        assert!(certificates <= SECRETS / 3 && bundles <= SECRETS * 2 / 3, "step {step}: {certificates}, {bundles}");
        (renewed, told) = (renewed + certificates, told + bundles);
        copied.push_back(text(&secrets[0], "ca.crt").to_owned());
        if copied.len() > 20 {
            copied.pop_front();
        }
        if step % 240 == 0 {
            for (index, secret) in secrets.iter().enumerate() {
                let (served, name) = (text(secret, "tls.crt"), &all[index].names[0]);
                assert_eq!(accepts(&copied[0], served, name, now), Ok(()), "{index} at step {step}");
            }
        }
    }
    // Every 14 to 20 days; an authority is announced and follows every eight months, and the one before goes.
    assert!((SECRETS * 33..=SECRETS * 52).contains(&renewed), "{renewed}");
    assert!(authorities >= 6 && (SECRETS * 2..SECRETS * 8).contains(&told), "{authorities}, {told}");
}

#[test]
fn a_lost_authority_makes_another_and_all_follow() {
    let authority = ProxyAuthority::new(start()).unwrap();
    let wanted = one("web");
    let (ours, _) = written(&wanted, None, &authority, start());
    let late = start() + 366 * DAY;
    let another = authority.next(late).unwrap().unwrap();
    let (followed, _) = written(&wanted, Some(&ours), &another, late);
    assert_eq!(accepts(&another.bundle(), text(&followed, "tls.crt"), "web.shop.svc", late), Ok(()));
    for entry in ["ca.crt", "ca.key"] {
        let mut secret = authority.written();
        secret.remove(entry);
        let error = ProxyAuthority::read(&secret).err().unwrap().to_string();
        assert!(error.contains(entry) && !error.contains("BEGIN"), "{error}");
    }
}

fn managed_by(issuer: &str) -> Value {
    json!({"source": "CertManager", "issuerRef": {"name": issuer}, "dnsNames": ["www.example.com"]})
}

#[test]
fn cert_manager_is_asked_and_what_it_fills_in_stays() {
    let wanted = wanted(&asking("web", &managed_by("ca"))).remove(0);
    assert_eq!(managed(&one("web"), None, None), None, "that is signed by ourselves");
    let Some(Managed::Create(mut object)) = managed(&wanted, None, None) else { panic!("it is not created") };
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "uid-web");
    assert_eq!(object["spec"]["issuerRef"], json!({"name": "ca", "kind": "Issuer", "group": "cert-manager.io"}));
    assert_eq!(
        (&object["spec"]["secretName"], &object["spec"]["dnsNames"]),
        (&json!("web-tls"), &json!(["www.example.com"]))
    );
    object["metadata"]["resourceVersion"] = json!("7");
    object["spec"]["duration"] = json!("2160h");
    let keep = |object: &Value| match managed(&wanted, Some(object), None) {
        Some(Managed::Keep(standing)) => standing,
        other => panic!("{other:?}"),
    };
    assert!(matches!(keep(&object), Standing::Pending { .. }));
    object["status"] = json!({"conditions": [{"type": "Ready", "status": "False", "message": "no such Issuer"}]});
    assert_eq!(keep(&object), Standing::Pending { why: "cert-manager: no such Issuer".to_owned() });
    object["status"] = json!({"notAfter": "2027-01-15T08:00:00Z", "conditions": [{"type": "Ready", "status": "True"}]});
    assert_eq!(keep(&object), Standing::Good { until: Some(start()) });
    object["spec"]["issuerRef"]["name"] = json!("other");
    let Some(Managed::Replace(replaced)) = managed(&wanted, Some(&object), None) else { panic!("it is not replaced") };
    assert_eq!(
        (&replaced["spec"]["issuerRef"]["name"], &replaced["metadata"]["resourceVersion"]),
        (&json!("ca"), &json!("7"))
    );
    object["metadata"]["labels"] = json!({});
    assert!(matches!(managed(&wanted, Some(&object), None), Some(Managed::NotOurs(_))));
}

#[test]
fn cert_manager_is_not_asked_to_fill_a_secret_that_is_somebody_elses() {
    let wanted = wanted(&asking("web", &managed_by("ca"))).remove(0);
    let brought = ObjectMeta { name: Some("web-tls".to_owned()), ..ObjectMeta::default() };
    assert!(matches!(managed(&wanted, None, Some(&brought)), Some(Managed::NotOurs(NotOurs::Unlabelled { .. }))));
    let Some(Managed::Create(object)) = managed(&wanted, None, None) else { panic!("it is not created") };
    let template = object["spec"]["secretTemplate"].clone();
    let filled: ObjectMeta = serde_json::from_value(template).unwrap();
    assert!(matches!(managed(&wanted, Some(&object), Some(&filled)), Some(Managed::Keep(_))));
    let another = WantedCertificate { uid: "uid-other".to_owned(), ..wanted };
    assert!(matches!(managed(&another, None, Some(&filled)), Some(Managed::NotOurs(NotOurs::Owned { .. }))));
}
