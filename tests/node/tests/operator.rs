//! The operator on a real cluster: kubelet, containerd, agent, API server. Needs root.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};
use sidewall_node_tests::agent::{self, Agent};
use sidewall_node_tests::operator::{self, Operator};
use sidewall_node_tests::until::until;
use sidewall_node_tests::{Api, Cluster, parts};

const LIMIT: Duration = Duration::from_secs(90);
/// `openssl passwd -apr1 -salt saltsalt changed`
const CHANGED: &str = "admin:$apr1$saltsalt$MRmgWQHqC19/jZeccZmVv1";

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/cluster").join(name);
    fs::read_to_string(path).unwrap().replace("busybox:1.37", "localhost/busybox:1")
}

/// What a server answers: its status and its body.
fn get(at: SocketAddr, user: Option<&str>) -> Result<(u16, String), String> {
    let limit = Duration::from_secs(3);
    let ask = || {
        let mut connection = TcpStream::connect_timeout(&at, limit)?;
        connection.set_read_timeout(Some(limit))?;
        let user = user.map(|user| {
            let word = base64::prelude::BASE64_STANDARD.encode(user);
            format!("authorization: Basic {word}\r\n")
        });
        let user = user.unwrap_or_default();
        connection.write_all(
            format!("GET /index.html HTTP/1.1\r\nhost: hello\r\n{user}connection: close\r\n\r\n").as_bytes(),
        )?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).map(|_| answer)
    };
    let answer: std::io::Result<String> = ask();
    let answer = answer.map_err(|error| error.to_string())?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| answer.clone())?;
    Ok((status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
}

/// `kubectl port-forward`, until it is dropped.
struct Forward {
    child: Child,
    at: SocketAddr,
    /// It says something of each connection, and ends where nobody listens.
    _says: BufReader<ChildStdout>,
}

impl Forward {
    fn new(api: &Api, target: &str, port: u16) -> Self {
        let mut command = Command::new(parts::kubernetes("kubectl").unwrap());
        command.arg("--kubeconfig").arg(api.kubeconfig());
        command.args(["-n", "shop", "port-forward", target, &format!(":{port}")]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut says = BufReader::new(child.stdout.take().unwrap());
        says.read_line(&mut line).unwrap();
        // Forwarding from 127.0.0.1:40123 -> 8000
        let at = line.split(' ').nth(2).and_then(|at| at.parse().ok());
        match at {
            Some(at) => Self { child, at, _says: says },
            None => {
                let _ = child.kill();
                panic!("kubectl port-forward says {line:?}");
            }
        }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The only pod of the example that is not on its way out.
fn pod(api: &Api) -> Option<Value> {
    let pods = api.get(&["-n", "shop", "pods", "-l", "app.kubernetes.io/name=hello"]).ok()?;
    let mut all = pods["items"].as_array()?.iter();
    all.find(|pod| pod["metadata"].get("deletionTimestamp").is_none()).cloned()
}

fn ready(api: &Api, operator: &Operator<'_>) -> String {
    let made = until("a pod of the example", LIMIT, || Ok(pod(api).ok_or_else(|| operator.log())));
    let name = made.unwrap()["metadata"]["name"].as_str().unwrap().to_owned();
    if let Err(error) = api.ready("shop", &name, LIMIT) {
        panic!("{error}\n{}", operator.log());
    }
    name
}

/// The article's example, as its author would try it.
#[test]
fn an_application_without_authentication_gets_a_front_door() {
    let cluster = Cluster::start(1).unwrap();
    let (api, node) = (cluster.api(), &cluster.nodes()[0]);
    agent::install(api).unwrap();
    operator::install(api).unwrap();
    node.import(&operator::proxy().unwrap()).unwrap();
    let operator = Operator::start(cluster.control(), 0, json!({})).unwrap();
    operator::serve(api, &[&operator]).unwrap();
    let agent = Agent::start(node, cluster.control(), json!({})).unwrap();

    api.kubectl(&["create", "namespace", "shop"]).unwrap();
    api.kubectl(&["label", "namespace", "shop", "sidewall.dev/injection=enabled"]).unwrap();
    let apply = |text: &str| api.with_input(&["-n", "shop", "apply", "-f", "-"], text);
    // The webhooks have just been told whom to believe.
    until("the front door", LIMIT, || Ok(apply(&example("front-door.yaml")).map_err(|error| error.to_string())))
        .unwrap_or_else(|error| panic!("{error}\n{}", operator.log()));
    apply(&example("application.yaml")).unwrap();
    let name = ready(api, &operator);

    let forward = Forward::new(api, &format!("pod/{name}"), 8000);
    let (status, _) = get(forward.at, None).unwrap();
    assert_eq!(status, 401, "{}", agent.log());
    assert_eq!(get(forward.at, Some("admin:admin")).unwrap(), (200, "Hello World!\n".to_owned()));
    // Another pod comes to the proxy, at its own port and at that of the Service, and to nothing else.
    let address: IpAddr = api.addresses("shop", &name).unwrap()[0];
    let inside = |port: u16, user: Option<&str>| {
        cluster.control().cell().netns().run(|| get(SocketAddr::new(address, port), user)).unwrap()
    };
    for port in [8000, 8080] {
        assert_eq!(inside(port, None).unwrap().0, 401, "port {port}");
        assert_eq!(inside(port, Some("admin:admin")).unwrap().0, 200, "port {port}");
    }
    for port in [15410, 15411, 15412] {
        let answer = inside(port, Some("admin:admin"));
        assert!(answer.is_err(), "port {port}: {answer:?}");
    }

    // The password is changed: the old one is of no more use within seconds, and nothing is started again.
    let before = pod(api).unwrap();
    let users = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hello-users"},
        "stringData": {"htpasswd": format!("{CHANGED}\n")}});
    let changed = Instant::now();
    apply(&users.to_string()).unwrap();
    until("the new password", LIMIT, || {
        let (old, new) = (get(forward.at, Some("admin:admin")), get(forward.at, Some("admin:changed")));
        Ok(match (&old, &new) {
            (Ok((401, _)), Ok((200, _))) => Ok(()),
            _ => Err(format!("{old:?} {new:?}\n{}", operator.log())),
        })
    })
    .unwrap();
    println!("the password was changed after {:?}", changed.elapsed());
    assert!(changed.elapsed() < Duration::from_secs(20), "{:?}", changed.elapsed());
    let after = pod(api).unwrap();
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    // What has become of both is told.
    for (kind, condition) in [("sidecarproxy", "Ready"), ("containernetworkpolicy", "Enforced")] {
        let told = api.until("the status", LIMIT, &["-n", "shop", kind, "hello"], |object| {
            let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
            conditions.into_iter().any(|found| found["type"] == condition && found["status"] == "True")
        });
        told.unwrap_or_else(|error| panic!("{error}\n{}", operator.log()));
    }
    let restarts = |pod: &Value| pod.pointer("/status/initContainerStatuses/0/restartCount").cloned();
    assert_eq!((restarts(&before), restarts(&after)), (Some(json!(0)), Some(json!(0))));
}
