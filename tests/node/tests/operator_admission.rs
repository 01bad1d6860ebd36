//! Drawn pods before a real API server with the operator: nothing panics, the API server refuses nothing for what was put into
//! it, and what was put in once stays as it is. Needs root.
#![forbid(unsafe_code)]

#[path = "operator_admission/draw.rs"]
mod draw;
#[path = "operator_admission/hostile.rs"]
mod hostile;
#[path = "operator_admission/https.rs"]
mod https;
#[path = "operator_admission/meddler.rs"]
mod meddler;
#[path = "operator_admission/refusals.rs"]
mod refusals;
#[path = "operator_admission/stored.rs"]
mod stored;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use draw::{Draw, LEVELS};
use https::Https;
use rustix::process::Signal;
use serde_json::{Value, json};
use sidewall_node_tests::fabric::Addresses;
use sidewall_node_tests::operator::{self, Operator};
use sidewall_node_tests::random::Random;
use sidewall_node_tests::until::until;
use sidewall_node_tests::{ControlPlane, Fabric, agent, api, run};

const LIMIT: Duration = Duration::from_secs(60);
/// How many pods are drawn in every test run, and in one that may go on for long.
const PODS: (u32, u32) = (320, 5000);
/// Of how many pods one is stored.
const STORED: u32 = 8;
/// The most failures that are told of.
const FAILURES: usize = 8;
/// Where the first operator's webhooks are.
const WEBHOOKS: u16 = 9443;

const PROXIES: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: web-users}
stringData: {htpasswd: "admin:$apr1$saltsalt$MRmgWQHqC19/jZeccZmVv1\n"}
---
apiVersion: sidewall.dev/v1alpha1
kind: SidecarProxy
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  listeners:
  - port: 8000
    forward: {port: 8080}
    authentication:
    - basic: {secretName: web-users, key: htpasswd}
  capture: {inbound: [8080]}
---
apiVersion: sidewall.dev/v1alpha1
kind: SidecarProxy
metadata: {name: low}
spec:
  podSelector: {matchLabels: {app: low}}
  listeners:
  - port: 80
    forward: {port: 8080}
    authentication:
    - basic: {secretName: web-users, key: htpasswd}
---
apiVersion: sidewall.dev/v1alpha1
kind: SidecarProxy
metadata: {name: many}
spec:
  podSelector: {matchLabels: {tier: tls}}
  containerName: guard
  listeners:
  - port: 443
    forward: {port: 8080}
    authentication:
    - basic: {secretName: web-users, key: htpasswd}
  - port: 9443
    forward: {port: 9090}
    authentication:
    - basic: {secretName: web-users, key: htpasswd}
  probes: {port: 15500}
  admin: {address: 0.0.0.0, port: 15501}
"#;

/// A review of a pod's creation, as the API server sends it.
fn review(pod: &Value, namespace: &str) -> Vec<u8> {
    let request = json!({
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE", "namespace": namespace, "dryRun": true,
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "userInfo": {"username": "drawer"}, "object": pod, "oldObject": null,
    });
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).to_string().into_bytes()
}

/// The API server with the operator, and a way to each.
struct Bed<'a> {
    api: Https<'a>,
    webhook: Https<'a>,
}

impl<'a> Bed<'a> {
    fn new(control: &'a ControlPlane) -> Bed<'a> {
        let own = control.client("drawer", Some("system:masters")).unwrap();
        let at: SocketAddr = control.url().trim_start_matches("https://").parse().unwrap();
        let api = Https::new(move || TcpStream::connect(at), "localhost", &control.authority(), Some(&own));
        let told = control.admin().get(&["mutatingwebhookconfiguration", "sidewall-inject"]).unwrap();
        let authorities = told["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap();
        let authorities = String::from_utf8(BASE64_STANDARD.decode(authorities).unwrap()).unwrap();
        let at = SocketAddr::new(Addresses::hub().node()[0], WEBHOOKS);
        let connect = move || control.cell().netns().run(|| TcpStream::connect(at)).map_err(std::io::Error::other)?;
        let webhook = Https::new(connect, "sidewall-operator.sidewall-system.svc", &authorities, None);
        Bed { api, webhook }
    }

    /// What the API server makes of a pod, or why it refuses it.
    async fn create(&mut self, pod: &Value, namespace: &str, stored: bool) -> Result<Value, String> {
        let dry = if stored { "" } else { "?dryRun=All" };
        let path = format!("/api/v1/namespaces/{namespace}/pods{dry}");
        let (status, body) = self.api.send("POST", &path, "application/json", pod.to_string().into_bytes()).await?;
        let answer: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        if status == 201 { Ok(answer) } else { Err(answer["message"].as_str().unwrap_or_default().to_owned()) }
    }

    async fn delete(&mut self, pod: &Value, namespace: &str) {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}?gracePeriodSeconds=0");
        let (status, body) = self.api.send("DELETE", &path, "application/json", Vec::new()).await.unwrap();
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    }

    /// Asks the webhook for a pod that it has seen; says what it would still change.
    async fn again(&mut self, pod: &Value, namespace: &str) -> Result<(), String> {
        let body = review(pod, namespace);
        let (status, body) = self.webhook.send("POST", "/inject", "application/json", body).await?;
        let answer: Value = serde_json::from_slice(&body).map_err(|error| format!("{status}: {error}"))?;
        let response = &answer["response"];
        if response["allowed"] != true {
            return Err(format!("is refused when it comes again: {}", response["status"]["message"]));
        }
        let Some(patch) = response["patch"].as_str() else { return Ok(()) };
        let patch = BASE64_STANDARD.decode(patch).unwrap_or_default();
        Err(format!("is changed again: {}", String::from_utf8_lossy(&patch)))
    }
}

/// What has come of the drawn pods.
#[derive(Default)]
struct Tally {
    drawn: u32,
    plain: u32,
    fronted: u32,
    meddled: u32,
    stored: u32,
    refused: BTreeMap<&'static str, u32>,
    faults: Vec<String>,
}

impl Tally {
    async fn pod(&mut self, bed: &mut Bed<'_>, pod: &Value, level: &str) {
        let number = self.drawn;
        self.drawn += 1;
        let namespace = format!("in-{level}");
        let plain = bed.create(pod, &format!("plain-{level}"), false).await;
        let store = number.is_multiple_of(STORED);
        let made = bed.create(pod, &namespace, store).await;
        self.plain += u32::from(plain.is_ok());
        let fault = match (&plain, &made) {
            (Ok(plain), Ok(made)) => match self.made(bed, plain, made, &namespace).await {
                Ok(()) => None,
                Err(fault) => Some(format!("{fault}\n  made of it: {}", cut(&made.to_string(), 20_000))),
            },
            (Ok(_), Err(refused)) => match refusals::reason(refused, pod) {
                Some(reason) => {
                    *self.refused.entry(reason).or_default() += 1;
                    None
                }
                None => Some(format!("is refused: {}", cut(refused, 3000))),
            },
            // What is refused without us is no business of ours, as long as it is an answer.
            (Err(refused), _) if refused.is_empty() => Some("is refused without a word".to_owned()),
            (Err(_), _) => None,
        };
        if let Some(fault) = fault {
            self.faults.push(format!("pod {number} ({level}) {fault}\n  drawn: {}", cut(&pod.to_string(), 20_000)));
        }
        if let (true, Ok(made)) = (store, &made) {
            self.stored += 1;
            bed.delete(made, &namespace).await;
        }
    }

    async fn made(&mut self, bed: &mut Bed<'_>, plain: &Value, made: &Value, namespace: &str) -> Result<(), String> {
        let fronted = stored::check(plain, made)?;
        self.fronted += u32::from(fronted);
        self.meddled += u32::from(fronted && made["metadata"]["labels"].get(meddler::LABEL).is_some());
        bed.again(&stored::as_sent(made), namespace).await
    }

    fn end(&self) {
        let Tally { drawn, plain, fronted, meddled, stored, .. } = self;
        println!(
            "{drawn} pods: {plain} are good, {fronted} get a proxy, {meddled} with another's changes, {stored} stored"
        );
        for (reason, count) in &self.refused {
            println!("{count:5} refused: {reason}");
        }
        let faults = &self.faults;
        let told = faults.iter().take(FAILURES).cloned().collect::<Vec<_>>().join("\n\n");
        assert!(faults.is_empty(), "{} of {drawn} pods:\n{told}", faults.len());
        // All this would hold of an API server that refuses everything, or of a webhook that does nothing.
        assert!(plain * 2 > *drawn, "{plain} of {drawn} are good");
        assert!(fronted * 5 > *drawn, "{fronted} of {drawn} get a proxy");
        assert!(meddled * 20 > *drawn, "{meddled} of {drawn} are meddled with");
        assert!(self.refused.len() > 4, "{:?}", self.refused);
    }
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

fn namespaces(api: &sidewall_node_tests::Api) {
    let mut all = Vec::new();
    for level in LEVELS {
        for opted in [false, true] {
            let name = format!("{}-{level}", if opted { "in" } else { "plain" });
            let injection = if opted { "enabled" } else { "disabled" };
            let labels = json!({
                "pod-security.kubernetes.io/enforce": level, "pod-security.kubernetes.io/enforce-version": "latest",
                "sidewall.dev/injection": injection, meddler::NAMESPACE_LABEL: "true",
            });
            all.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}));
            for account in ["default", "other"] {
                let metadata = json!({"name": account, "namespace": name});
                all.push(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}));
            }
        }
    }
    // What a pod's author has forgotten is filled in for all containers, the proxy's too.
    for namespace in ["plain-baseline", "in-baseline"] {
        all.push(json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "usual", "namespace": namespace},
            "spec": {"limits": [{"type": "Container", "defaultRequest": {"cpu": "10m"}, "default": {"cpu": "16", "memory": "1Gi"}}]},
        }));
    }
    api.apply(&api::list(&all)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drawn_pods_are_made_as_they_should_be_or_refused_by_us() {
    let mut random = Random::usual(run::long());
    let fabric = Fabric::new().unwrap();
    let control = ControlPlane::start(&fabric).unwrap();
    let api = control.admin();
    agent::install(api).unwrap();
    operator::install(api).unwrap();
    // The API server writes amounts in another form than these.
    let amounts = json!({"requests": {"cpu": "0.01", "memory": "32768Ki"}, "limits": {"memory": "131072Ki"}});
    let settings = json!({"injection": {"proxy": {"resources": amounts}}});
    let operator = Operator::start(&control, 0, settings).unwrap();
    operator::serve(api, &[&operator]).unwrap();
    let process = operator.pid().unwrap();
    let _meddler = meddler::start(&control).await;
    namespaces(api);
    for level in LEVELS {
        let namespace = format!("in-{level}");
        // The webhooks have just been told whom to believe.
        let apply = || api.with_input(&["-n", &namespace, "apply", "-f", "-"], PROXIES);
        until("the proxies", LIMIT, || Ok(apply().map_err(|error| error.to_string())))
            .unwrap_or_else(|error| panic!("{error}\n{}", operator.log()));
    }
    let mut bed = Bed::new(&control);
    for level in LEVELS {
        await_webhooks(&mut bed, &format!("in-{level}")).await;
    }

    let begun = Instant::now();
    let pods = if run::long() { PODS.1 } else { PODS.0 };
    let mut draw = Draw::new(random.split());
    let mut tally = Tally::default();
    for _ in 0..pods {
        let (pod, level) = draw.pod();
        tally.pod(&mut bed, &pod, level).await;
    }
    println!("after {:?}", begun.elapsed());
    let log = operator.whole_log();
    assert!(!log.contains("panicked"), "{log}");
    tally.end();

    hostile::try_all(&mut bed.webhook, &review(&draw.pod().0, "in-privileged"), random.split()).await;
    let log = operator.whole_log();
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(operator.pid().unwrap(), process, "{}", operator.log());
    let ordinary = stored::ordinary("ordinary");
    assert!(bed.again(&ordinary, "in-restricted").await.is_err_and(|said| said.starts_with("is changed again")));

    ephemeral_containers(&control, &operator, &mut bed).await;
}

/// Waits until the API server asks both webhooks, and Sidewall's knows the namespace.
async fn await_webhooks(bed: &mut Bed<'_>, namespace: &str) {
    let begun = Instant::now();
    let mut pod = stored::ordinary("first");
    pod["metadata"]["labels"][meddler::LABEL] = json!("label");
    loop {
        let made = bed.create(&pod, namespace, false).await;
        let there = made.as_ref().is_ok_and(|made| {
            let metadata = &made["metadata"];
            metadata["labels"].get("bed.example/meddled").is_some()
                && metadata["annotations"].get("sidewall.dev/proxy").is_some()
        });
        if there {
            return;
        }
        assert!(begun.elapsed() < LIMIT, "{made:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// `kubectl debug` of a pod with a proxy needs no webhook.
async fn ephemeral_containers(control: &ControlPlane, operator: &Operator<'_>, bed: &mut Bed<'_>) {
    let namespace = "in-baseline";
    let before = bed.create(&stored::ordinary("debugged"), namespace, true).await.unwrap();
    assert!(before["metadata"]["annotations"].get("sidewall.dev/proxy").is_some(), "{before}");
    operator.stop(Signal::TERM).unwrap();
    let refused = bed.create(&stored::ordinary("another"), namespace, false).await.unwrap_err();
    assert!(refused.contains("failed calling webhook \"inject.sidewall.dev\""), "{refused}");
    let debug = ["-n", namespace, "debug", "debugged", "--image=bed.example/debug:1", "--container=debugger"];
    control.admin().kubectl(&[&debug[..], &["--target=app", "--attach=false"]].concat()).unwrap();
    let after = control.admin().get(&["-n", namespace, "pod", "debugged"]).unwrap();
    assert_eq!(after["spec"]["ephemeralContainers"][0]["name"], "debugger", "{after}");
    assert_eq!(after["metadata"]["annotations"], before["metadata"]["annotations"]);
    let mut without = after["spec"].clone();
    without.as_object_mut().unwrap().remove("ephemeralContainers");
    assert_eq!(without, before["spec"]);
    operator.resume().unwrap();
    operator.ready().unwrap();
    assert_eq!(bed.again(&stored::as_sent(&after), namespace).await, Ok(()));
}
