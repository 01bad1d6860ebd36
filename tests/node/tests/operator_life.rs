//! What operators, the API server and the webhook may go through: nothing is lost, nothing is done twice, nothing is open. Needs
//! root.
#![forbid(unsafe_code)]

mod tls_clients;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use base64::Engine;
use rustix::process::Signal;
use serde_json::{Value, json};
use sidewall_node_tests::agent::{self, Agent};
use sidewall_node_tests::api::list;
use sidewall_node_tests::operator::{self, Operator};
use sidewall_node_tests::run::alone;
use sidewall_node_tests::until::until;
use sidewall_node_tests::{Api, Cell, Cluster};

use tls_clients::Clients;

const LIMIT: Duration = Duration::from_secs(90);
/// The proxy's image as the next version of the operator calls it.
const NEXT: &str = "localhost/sidewall-proxy:next";
/// How long another operator may take to lead: until the Lease is over, and two looks at it.
const LEADS: Duration = Duration::from_secs(15 + 2 * 2 + 1);
/// Lines for `admin`, each with its password: `openssl passwd -apr1 -salt saltsalt …`
const ONE: (&str, &str) = ("one", "admin:$apr1$saltsalt$IP7yWiChhoRI2om0qaAGf/");
const TWO: (&str, &str) = ("two", "admin:$apr1$saltsalt$msqbSX5ekc9V0rzPMl0KG.");
const THREE: (&str, &str) = ("three", "admin:$apr1$saltsalt$V2Vpo2kwXgIYg3cWj605A.");
/// How many pods there are.
const PODS: usize = 6;

fn users((_, line): (&str, &str)) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "users", "namespace": "shop"},
        "stringData": {"htpasswd": format!("{line}\n")}})
}

fn proxy(listener: Value) -> Value {
    json!({"apiVersion": "sidewall.dev/v1alpha1", "kind": "SidecarProxy",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "listeners": [listener]}})
}

/// A listener that asks for a password.
fn asking(realm: &str) -> Value {
    json!({"port": 8000, "forward": {"port": 8080},
        "authentication": [{"basic": {"secretName": "users", "key": "htpasswd", "realm": realm}}]})
}

/// Serves a page at an address.
fn spec(listen: &str) -> Value {
    let serve =
        format!("mkdir -p /tmp/w && echo 'Hello World!' > /tmp/w/index.html && exec httpd -f -p {listen} -h /tmp/w");
    json!({"terminationGracePeriodSeconds": 1, "containers": [{
        "name": "app", "image": "localhost/busybox:1", "command": ["sh", "-c", serve],
        "readinessProbe": {"httpGet": {"path": "/index.html", "port": 8080}, "periodSeconds": 1},
        "securityContext": {"runAsUser": 20002},
    }]})
}

fn pod(name: &str, app: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "spec": spec,
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": app}}})
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"}, "spec": {
        "replicas": PODS, "selector": {"matchLabels": {"app": "web"}},
        "strategy": {"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": spec("127.0.0.1:8080")},
    }})
}

/// A namespace whose pods are given proxies, with a SidecarProxy.
fn shop(api: &Api, listener: Value, operator: &Operator<'_>) {
    api.kubectl(&["create", "namespace", "shop"]).unwrap();
    api.kubectl(&["label", "namespace", "shop", "sidewall.dev/injection=enabled"]).unwrap();
    let objects = list(&[users(ONE), proxy(listener)]);
    // The webhooks have just been told whom to believe.
    until("the SidecarProxy", LIMIT, || Ok(api.apply(&objects).map_err(|error| error.to_string())))
        .unwrap_or_else(|error| panic!("{error}\n{}", operator.log()));
}

/// The head of what a server answers that is asked with a password.
fn get(cell: &Cell, at: SocketAddr, password: &str) -> Result<String, String> {
    let limit = Duration::from_secs(3);
    let word = base64::prelude::BASE64_STANDARD.encode(format!("admin:{password}"));
    let ask = || {
        let mut connection = TcpStream::connect_timeout(&at, limit)?;
        connection.set_read_timeout(Some(limit))?;
        let request = format!("GET /index.html HTTP/1.1\r\nhost: web\r\nauthorization: Basic {word}\r\n");
        connection.write_all(format!("{request}connection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).map(|_| answer)
    };
    let answer: std::io::Result<String> = cell.netns().run(ask).unwrap();
    let answer = answer.map_err(|error| error.to_string())?;
    Ok(answer.split("\r\n\r\n").next().unwrap_or_default().to_owned())
}

fn items(api: &Api, what: &[&str]) -> Vec<Value> {
    let mut all = api.get(&[&["-n", "shop"], what].concat()).unwrap();
    serde_json::from_value(all["items"].take()).unwrap()
}

/// The pods that are not on their way out.
fn pods(api: &Api) -> Vec<Value> {
    let mut all = items(api, &["pods", "-l", "app=web"]);
    all.retain(|pod| pod["metadata"].get("deletionTimestamp").is_none());
    all
}

fn configs(api: &Api) -> Vec<Value> {
    items(api, &["configmaps", "-l", "app.kubernetes.io/managed-by=sidewall-operator"])
}

fn text(value: &Value, at: &str) -> String {
    value.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned()
}

const REFRESHED: &str = "/metadata/annotations/sidewall.dev~1refreshed";

/// Whether a pod's parts fit together: one proxy, and all that is written of it says the same. The proxy's image, what is
/// reserved for it and its port of probes.
fn coherent(pod: &Value) -> Result<(String, String, u64), String> {
    let of = |list: &str, name: &str| -> Result<Value, String> {
        let all = pod.pointer(list).and_then(Value::as_array).into_iter().flatten();
        let found: Vec<&Value> = all.filter(|one| one["name"] == name).collect();
        if let [one] = found.as_slice() { Ok((*one).clone()) } else { Err(format!("{} {name}: {pod}", found.len())) }
    };
    let container = of("/spec/initContainers", "front-proxy")?;
    let config = of("/spec/volumes", "sidewall-config")?;
    let record: Value =
        serde_json::from_str(&text(pod, "/metadata/annotations/sidewall.dev~1proxy")).unwrap_or_default();
    let ports = container["ports"].as_array().into_iter().flatten();
    let probe = ports.filter(|port| port["name"] == "sidewall-probe").filter_map(|port| port["containerPort"].as_u64());
    let probe: Vec<u64> = probe.collect();
    let says = [
        &record["probePort"],
        &container["startupProbe"]["httpGet"]["port"],
        &container["readinessProbe"]["httpGet"]["port"],
        &pod["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"],
    ];
    let [probe] = probe.as_slice() else { return Err(format!("{probe:?} {pod}")) };
    let fits = says.iter().all(|says| says.as_u64() == Some(*probe))
        && record["config"] == config["configMap"]["name"]
        && text(pod, "/metadata/labels/sidewall.dev~1fronted") == "true"
        && pod["spec"]["initContainers"].as_array().is_some_and(|all| all.len() == 1);
    let (image, memory) = (text(&container, "/image"), text(&container, "/resources/requests/memory"));
    if fits { Ok((image, memory, *probe)) } else { Err(pod.to_string()) }
}

/// Whether every pod has one proxy with the present configuration and the present users, and is counted so.
fn settled(api: &Api, cell: &Cell, realm: &str, old: &str, new: &str) -> Result<Vec<Value>, String> {
    let (pods, maps) = (pods(api), configs(api));
    if pods.len() != PODS {
        return Err(format!("{} pods", pods.len()));
    }
    let [map] = maps.as_slice() else { return Err(format!("{} ConfigMaps", maps.len())) };
    if !text(map, "/data/proxy.yaml").contains(realm) {
        return Err(map.to_string());
    }
    for pod in &pods {
        coherent(pod)?;
        // Also a pod that was made after the change says of what it knows.
        let told = text(pod, REFRESHED);
        if told.is_empty() || told != text(map, REFRESHED) {
            return Err(format!("{}: {told}, not {}", pod["metadata"]["name"], text(map, REFRESHED)));
        }
        let address: IpAddr = text(pod, "/status/podIP").parse().map_err(|_| format!("no address: {pod}"))?;
        let (refused, let_in) = (get(cell, (address, 8000).into(), old)?, get(cell, (address, 8000).into(), new)?);
        if !(refused.contains(" 401 ") && refused.contains(realm) && let_in.contains(" 200 ")) {
            return Err(format!("{}: {refused}\n{let_in}", pod["metadata"]["name"]));
        }
    }
    let object = api.get(&["-n", "shop", "sidecarproxy", "web"]).map_err(|error| error.to_string())?;
    let status = &object["status"];
    let ready = status["conditions"].as_array().into_iter().flatten().find(|found| found["type"] == "Ready");
    let counted = json!({"selected": PODS, "fronted": PODS, "outdated": 0, "unfronted": 0});
    let told = status["observedGeneration"] == object["metadata"]["generation"] && status["pods"] == counted;
    if told && ready.is_some_and(|ready| ready["status"] == "True") { Ok(pods) } else { Err(status.to_string()) }
}

/// A cluster of one node that has what is deployed for the agent and the operator, and the proxy's image, and not the programs.
fn cluster() -> Cluster {
    let cluster = Cluster::start(1).unwrap();
    agent::install(cluster.api()).unwrap();
    operator::install(cluster.api()).unwrap();
    cluster.nodes()[0].import(&operator::proxy().unwrap()).unwrap();
    cluster
}

/// The leader ends in the middle of a rollout, the API server ends, another version comes.
#[test]
fn operators_lose_nothing_and_put_one_proxy_before_a_pod() {
    let _alone = alone();
    let begun = Instant::now();
    let cluster = cluster();
    let (api, control, node) = (cluster.api(), cluster.control(), &cluster.nodes()[0]);
    let cell = control.cell();
    node.import(&operator::program(NEXT, "sidewall-proxy").unwrap().user("61802:61802")).unwrap();
    let operators = [0, 1].map(|number| Operator::start(control, number, json!({})).unwrap());
    operator::serve(api, &[&operators[0], &operators[1]]).unwrap();
    shop(api, asking("First"), &operators[0]);
    api.apply(&deployment().to_string()).unwrap();
    let logs = || format!("{}\n--\n{}", operators[0].log(), operators[1].log());
    let settles = |realm: &str, old: &str, new: &str| {
        let seen = until("settled pods", LIMIT, || Ok(settled(api, cell, realm, old, new)));
        seen.unwrap_or_else(|error| panic!("{error}\n{}", logs()))
    };
    settles("First", "two", "one");
    println!("{:?}: a Deployment stands", begun.elapsed());

    // The leader ends in the middle of a rollout, and of telling pods of another configuration and other users.
    let (first, map) = (configs(api), |maps: &[Value]| maps[0]["metadata"]["uid"].clone());
    let leads = operators.iter().position(|operator| operator.leads().unwrap()).unwrap();
    let (leader, other) = (&operators[leads], &operators[1 - leads]);
    api.kubectl(&["-n", "shop", "rollout", "restart", "deployment/web"]).unwrap();
    until("new pods", LIMIT, || Ok(if pods(api).len() > PODS { Ok(()) } else { Err(String::new()) })).unwrap();
    api.apply(&list(&[users(TWO), proxy(asking("Second"))])).unwrap();
    leader.stop(Signal::KILL).unwrap();
    let killed = Instant::now();
    operator::serve(api, &[other]).unwrap();
    until("another leader", LIMIT, || Ok(if other.leads()? { Ok(()) } else { Err(other.log()) })).unwrap();
    println!("{:?}: another leads after {:?}", begun.elapsed(), killed.elapsed());
    assert!(killed.elapsed() < LEADS, "{:?}", killed.elapsed());
    api.kubectl(&["-n", "shop", "rollout", "status", "deployment/web", "--timeout=60s"]).unwrap();
    settles("Second", "one", "two");
    assert_eq!(map(&first), map(&configs(api)), "the ConfigMap was lost and made again");
    println!("{:?}: the rollout and the change are through", begun.elapsed());

    // The API server ends and comes back.
    leader.resume().unwrap();
    leader.ready().unwrap();
    operator::serve(api, &[leader, other]).unwrap();
    control.stop_api(Signal::KILL).unwrap();
    for _ in 0..4 {
        for operator in &operators {
            operator.page("readyz").unwrap();
        }
        sleep(Duration::from_millis(500));
    }
    control.start_api().unwrap();
    let restored = Instant::now();
    api.apply(&users(THREE).to_string()).unwrap();
    let told = settles("Second", "two", "three");
    println!("{:?}: told {:?} after the API server came back", begun.elapsed(), restored.elapsed());
    let maps = configs(api);
    assert_eq!(map(&first), map(&maps));
    for pod in &told {
        assert_eq!(text(pod, REFRESHED), text(&maps[0], REFRESHED), "{pod}");
        assert_eq!(pod["status"]["initContainerStatuses"][0]["restartCount"], 0, "{pod}");
    }
    let leading = operators.iter().filter(|operator| operator.leads().unwrap()).count();
    assert_eq!(leading, 1, "{}", logs());
    println!("{:?}: all stands as before", begun.elapsed());

    // The next version of the operator, which gives other proxies, beside the present one. Another webhook has both asked about
    // one pod, and then again: the API server keeps its connection to whom it has asked first, and begins another for whom it
    // believes in other words.
    operators[1].stop(Signal::TERM).unwrap();
    operator::serve(api, &[&operators[0]]).unwrap();
    let singles: Vec<Value> = (0..4).map(|number| pod(&format!("p{number}"), "web", spec("127.0.0.1:8080"))).collect();
    let present = (operator::PROXY.to_owned(), "32Mi".to_owned(), 15411);
    let next = (NEXT.to_owned(), "48Mi".to_owned(), 15511);
    for given in tried(api, &singles) {
        assert_eq!(coherent(&given).unwrap(), present);
    }
    let settings = json!({"injection": {"proxy": {
        "image": NEXT, "ports": {"probe": next.2}, "resources": {"requests": {"memory": next.1}},
    }}});
    let newer = Operator::place(control, 1, settings).unwrap();
    newer.resume().unwrap();
    newer.ready().unwrap();
    operator::serve(api, &[&newer]).unwrap();
    let configuration = api.get(&["mutatingwebhookconfiguration", "sidewall-inject"]).unwrap();
    let mut again = configuration["webhooks"][0].clone();
    again["name"] = json!("again.sidewall.dev");
    let standard = base64::prelude::BASE64_STANDARD;
    let bundle = standard.decode(text(&again, "/clientConfig/caBundle")).unwrap();
    again["clientConfig"]["caBundle"] = json!(standard.encode([&bundle[..], b"\n"].concat()));
    let again = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "sidewall-inject-again"}, "webhooks": [again]});
    api.apply(&again.to_string()).unwrap();
    let patched = |operator: &Operator<'_>| {
        operator.metric("sidewall_operator_reviews_total{path=\"/inject\",decision=\"patched\"}").unwrap()
    };
    let before = (patched(&operators[0]), patched(&newer));
    let both = until("a pod that both have seen", LIMIT, || {
        let given: Vec<_> = tried(api, &singles).iter().map(|pod| coherent(pod).unwrap()).collect();
        let (present, next) = (patched(&operators[0]) - before.0, patched(&newer) - before.1);
        let asked = format!("{present} and {next}");
        Ok(if present > 0.0 && next > 0.0 { Ok((given, asked)) } else { Err(asked) })
    });
    let (given, asked) = both.unwrap_or_else(|error| panic!("{error}\n{}", logs()));
    println!("{:?}: both answered, {asked} times, and gave {given:?}", begun.elapsed());
    assert!(given.iter().all(|given| *given == present || *given == next), "{given:?}");
    // And such a pod comes up, whoever leads; those that were there are not touched.
    let uids = |pods: &[Value]| pods.iter().map(|pod| text(pod, "/metadata/uid")).collect::<Vec<_>>();
    api.apply(&singles[0].to_string()).unwrap();
    let made = api.ready("shop", "p0", LIMIT).unwrap_or_else(|error| panic!("{error}\n{}\n{}", logs(), newer.log()));
    coherent(&made).unwrap();
    let address: IpAddr = text(&made, "/status/podIP").parse().unwrap();
    assert!(get(cell, (address, 8000).into(), "three").unwrap().contains(" 200 "));
    api.kubectl(&["-n", "shop", "delete", "pod", "p0", "--now"]).unwrap();
    let after = pods(api);
    assert_eq!(uids(&after), uids(&told));
    for pod in &after {
        assert_eq!(coherent(pod).unwrap(), present);
        let address: IpAddr = text(pod, "/status/podIP").parse().unwrap();
        assert!(get(cell, (address, 8000).into(), "three").unwrap().contains(" 200 "), "{pod}");
    }
    println!("{:?}: done", begun.elapsed());
}

/// What would become of pods.
fn tried(api: &Api, pods: &[Value]) -> Vec<Value> {
    let create = ["create", "--dry-run=server", "-o", "json", "-f", "-"];
    let given = api.with_input(&create, &list(pods)).unwrap();
    let given: Vec<Value> = serde_json::Deserializer::from_str(&given).into_iter().map(Result::unwrap).collect();
    let items = |value: &Value| value["items"].as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    given.iter().flat_map(items).collect()
}

/// A certificate is renewed under load; a job ends; with the webhook away no pod is made, and one that was let through is closed.
#[test]
fn certificates_are_renewed_and_pods_without_a_proxy_are_closed() {
    let _alone = alone();
    let begun = Instant::now();
    let cluster = cluster();
    let (api, control, node) = (cluster.api(), cluster.control(), &cluster.nodes()[0]);
    let cell = control.cell();
    let operator = Operator::start(control, 0, json!({})).unwrap();
    operator::serve(api, &[&operator]).unwrap();
    let agent = Agent::start(node, control, json!({})).unwrap();
    let logs = || format!("{}\n--\n{}", operator.log(), agent.log());
    // `web.shop.svc` is the name that clients use.
    let named = |more: &[&str]| {
        let names: Vec<&str> = ["web.shop.svc"].iter().chain(more).copied().collect();
        proxy(json!({"port": 8443, "forward": {"port": 8080}, "anonymous": true,
            "tls": {"secretName": "web-tls", "certificate": {"source": "SelfManaged", "dnsNames": names}}}))
    };
    shop(api, named(&[])["spec"]["listeners"][0].take(), &operator);
    let once = json!({"restartPolicy": "Never", "containers": [{
        "name": "app", "image": "localhost/busybox:1", "command": ["sh", "-c", "sleep 1"],
        "securityContext": {"runAsUser": 20002},
    }]});
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once", "namespace": "shop"},
        "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": {"app": "web"}}, "spec": once}}});
    api.apply(&list(&[pod("front", "web", spec("127.0.0.1:8080")), job])).unwrap();
    let front = api.ready("shop", "front", LIMIT).unwrap_or_else(|error| panic!("{error}\n{}", logs()));
    println!("{:?}: a pod stands behind its proxy", begun.elapsed());

    // The certificate is renewed twice while clients go on.
    let secret = api.get(&["-n", "shop", "secret", "web-tls"]).unwrap();
    let authority = base64::prelude::BASE64_STANDARD.decode(text(&secret, "/data/ca.crt")).unwrap();
    let address: IpAddr = text(&front, "/status/podIP").parse().unwrap();
    let clients = Clients::new((address, 8443).into(), "web.shop.svc", &authority);
    let renewed = scope(|scope| {
        for _ in 0..2 {
            clients.start(scope, cell.netns());
        }
        let renew = || -> Result<Vec<Duration>, String> {
            let seen = |count| {
                let seen = until("another certificate", LIMIT, || {
                    let (seen, counted) = (clients.certificates(), clients.counted());
                    Ok(if seen >= count { Ok(()) } else { Err(format!("{seen} {counted:?}\n{}", logs())) })
                });
                seen.map_err(|error| error.to_string())
            };
            seen(1)?;
            let mut took = Vec::new();
            for (count, more) in [(2, &["other.shop.svc"][..]), (3, &[][..])] {
                let changed = Instant::now();
                api.apply(&named(more).to_string()).map_err(|error| error.to_string())?;
                seen(count)?;
                took.push(changed.elapsed());
                // And for a while with the new one.
                sleep(Duration::from_secs(1));
            }
            Ok(took)
        };
        let renewed = renew();
        clients.end();
        renewed
    });
    let (answered, failed) = clients.counted();
    println!("{:?}: renewed after {renewed:?}; {answered} requests, {} failed", begun.elapsed(), failed.len());
    let renewed = renewed.unwrap();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(answered > 100, "{answered}");
    assert!(renewed.iter().all(|took| *took < Duration::from_secs(20)), "{renewed:?}");
    let after = api.get(&["-n", "shop", "pod", "front"]).unwrap();
    assert_eq!(after["status"]["initContainerStatuses"][0]["restartCount"], 0);

    // A job has ended, and its proxy with it.
    api.kubectl(&["-n", "shop", "wait", "--for=condition=complete", "--timeout=30s", "job/once"]).unwrap();
    let ended = items(api, &["pods", "-l", "batch.kubernetes.io/job-name=once"]);
    assert_eq!(ended.len(), 1);
    coherent_job(&ended[0]);
    println!("{:?}: a job has ended", begun.elapsed());

    // All operators end: no pod is made that should have a proxy, and others are.
    operator.stop(Signal::TERM).unwrap();
    operator::serve(api, &[]).unwrap();
    let exposed = pod("exposed", "web", spec("0.0.0.0:8080"));
    let refused = api.apply(&exposed.to_string()).unwrap_err().to_string();
    assert!(refused.contains("inject.sidewall.dev") && refused.contains("sidewall-operator"), "{refused}");
    println!("{:?}: {refused}", begun.elapsed());
    // Somebody takes the webhook away: it is let through, and nobody reaches it.
    let configuration = api.get(&["mutatingwebhookconfiguration", "sidewall-inject"]).unwrap();
    api.kubectl(&["delete", "mutatingwebhookconfiguration", "sidewall-inject"]).unwrap();
    let plain = pod("plain", "plain", spec("0.0.0.0:8080"));
    let made = until("pods without a webhook", LIMIT, || {
        Ok(api.apply(&list(&[exposed.clone(), plain.clone()])).map_err(|error| error.to_string()))
    });
    made.unwrap();
    let at = |name: &str| -> SocketAddr {
        let listens = until(&format!("{name} listens"), LIMIT, || {
            let sockets = api.exec("shop", name, "app", &["cat", "/proc/net/tcp"]);
            let listens = sockets.and_then(|sockets| match sockets.contains(" 00000000:1F90 00000000:0000 0A ") {
                true => api.addresses("shop", name),
                false => Ok(Vec::new()),
            });
            Ok(match listens {
                Ok(addresses) if !addresses.is_empty() => Ok(addresses[0]),
                other => Err(format!("{other:?}")),
            })
        });
        (listens.unwrap_or_else(|error| panic!("{error}\n{}", logs())), 8080).into()
    };
    let (exposed, plain) = (at("exposed"), at("plain"));
    assert!(get(cell, plain, "").unwrap().contains(" 200 "));
    let answer = get(cell, exposed, "");
    assert!(answer.is_err(), "{answer:?}");
    let url = format!("http://{exposed}/index.html");
    let asked = api.exec("shop", "plain", "app", &["wget", "-T", "2", "-q", "-O", "-", &url]);
    assert!(asked.is_err(), "{asked:?}");
    // The operator comes back, and says so.
    operator.resume().unwrap();
    let told = api.until("a status", LIMIT, &["-n", "shop", "sidecarproxy", "web"], |object| {
        object["status"]["pods"]["unfronted"] == 1
    });
    let told = told.unwrap_or_else(|error| panic!("{error}\n{}", logs()));
    let conditions = told["status"]["conditions"].as_array().into_iter().flatten();
    let ready =
        conditions.filter(|found| found["type"] == "Ready").map(|found| text(found, "/message")).next().unwrap();
    assert!(ready.contains("exposed") && ready.contains("kubectl rollout restart"), "{ready}");
    assert!(get(cell, exposed, "").is_err());
    // With the webhook back it is as it was.
    let mut webhooks = configuration["webhooks"].clone();
    webhooks[0]["clientConfig"].as_object_mut().unwrap().remove("caBundle");
    let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "sidewall-inject"}, "webhooks": webhooks});
    api.apply(&configuration.to_string()).unwrap();
    operator::serve(api, &[&operator]).unwrap();
    let again = pod("again", "web", spec("127.0.0.1:8080"));
    until("a pod with a proxy", LIMIT, || {
        let given = api.with_input(&["create", "--dry-run=server", "-o", "json", "-f", "-"], &again.to_string());
        Ok(given.map_err(|error| error.to_string()).and_then(|given| coherent(&serde_json::from_str(&given).unwrap())))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", logs()));
    println!("{:?}: done", begun.elapsed());
}

/// A job's pod had its proxy, and both have ended well.
fn coherent_job(pod: &Value) {
    let statuses = ["initContainerStatuses", "containerStatuses"].map(|list| &pod["status"][list][0]);
    assert_eq!((&statuses[0]["name"], &statuses[1]["name"]), (&json!("front-proxy"), &json!("app")), "{pod}");
    for status in statuses {
        assert_eq!(status["state"]["terminated"]["exitCode"], 0, "{pod}");
    }
}
