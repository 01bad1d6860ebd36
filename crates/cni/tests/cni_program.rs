//! The program itself, run as a container runtime runs it, in real network namespaces, against an agent's socket of the
//! test's own. Needs root.

use serde_json::{Value, json};
use sidewall_cni::names::Namespace;
use sidewall_cni::serve::{self, Listening};
use sidewall_cni::state::{Standing, State};
use sidewall_cni::wire::{Answer, Ask, Free, Reason};
use sidewall_netns::{NetNs, NsId};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const POD: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=0b7c;\
                   K8S_POD_INFRA_CONTAINER_ID=4f6e";
const RESULT: &str = r#"{ "cniVersion":"1.1.0", "interfaces":[{"name":"eth0","sandbox":"/x"}],
 "ips":[{"interface":0,"address":"10.99.1.7/24"}], "dns":{}, "kept":{"order":1,"as":2.50,"is":[ ]} }"#;

/// A directory with a socket's and a state file's place, and a pod's network namespace.
struct Scene {
    directory: tempfile::TempDir,
    pod: NetNs,
}

/// What the program did.
struct Done {
    success: bool,
    output: String,
    remark: String,
    took: Duration,
}

impl Done {
    /// What it printed, as an error with this code; its message and details.
    fn error(&self, code: u32) -> String {
        let error: Value = serde_json::from_str(&self.output).unwrap_or_else(|e| panic!("{e}: {}", self.output));
        assert!(!self.success);
        assert_eq!(error["code"], code, "{error}");
        assert!(error["cniVersion"].is_string());
        format!("{}; {}", error["msg"].as_str().unwrap(), error["details"].as_str().unwrap_or(""))
    }
}

impl Scene {
    fn new() -> Scene {
        Scene { directory: tempfile::tempdir().unwrap(), pod: NetNs::new().expect("this test must run as root") }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("cni.sock")
    }

    fn state_path(&self) -> PathBuf {
        self.directory.path().join("cni.json")
    }

    fn leave_state(&self, standing: &[(&str, Standing)]) {
        let standing = standing.iter().map(|(name, standing)| (Namespace::try_from(*name).unwrap(), *standing));
        State::new(standing.collect()).write(&self.state_path()).unwrap();
    }

    /// The configuration that a runtime would write, with other members.
    fn config(&self, version: &str, more: Value) -> String {
        let mut config = json!({
            "cniVersion": version, "name": "podnet", "type": "sidewall-cni",
            "socket": self.socket(), "state": self.state_path(), "timeoutMilliseconds": 1500,
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config.to_string()
    }

    /// The same with RESULT as it is written.
    fn chained(&self, version: &str) -> String {
        let config = self.config(version, json!({}));
        format!("{},\"prevResult\":{}}}", config.strip_suffix('}').unwrap(), RESULT.replace("1.1.0", version))
    }

    fn namespace_path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsFd::as_fd(&self.pod).as_raw_fd())
    }

    fn run(&self, command: &str, input: &str) -> Done {
        self.run_with(command, input.as_bytes(), &[])
    }

    /// Runs the program with the variables of a pod, changed or (None) without.
    fn run_with(&self, command: &str, input: &[u8], variables: &[(&str, Option<&str>)]) -> Done {
        let mut program = Command::new(env!("CARGO_BIN_EXE_sidewall-cni"));
        program.env_clear().env("CNI_COMMAND", command).env("CNI_CONTAINERID", "4f6e").env("CNI_IFNAME", "eth0");
        program.env("CNI_NETNS", self.namespace_path()).env("CNI_ARGS", POD).env("CNI_PATH", "/opt/cni/bin");
        for (name, value) in variables {
            match value {
                Some(value) => program.env(name, value),
                None => program.env_remove(name),
            };
        }
        let begun = Instant::now();
        let mut program = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It may have heard enough before the end.
        let _ = program.stdin.take().unwrap().write_all(input);
        let output = program.wait_with_output().unwrap();
        Done {
            success: output.status.success(),
            output: String::from_utf8(output.stdout).unwrap(),
            remark: String::from_utf8(output.stderr).unwrap(),
            took: begun.elapsed(),
        }
    }

    /// An agent that gives one answer after the other, and tells what it was asked and for which namespace.
    fn agent(&self, answers: Vec<Answer>) -> TestAgent {
        TestAgent::start(&self.socket(), answers)
    }
}

struct TestAgent {
    asked: Receiver<(Ask, Option<NsId>)>,
    thread: Option<JoinHandle<()>>,
}

impl TestAgent {
    fn start(socket: &Path, answers: Vec<Answer>) -> TestAgent {
        let listening = Listening::at(socket).unwrap();
        let (tell, asked) = channel();
        let thread = thread::spawn(move || {
            for given in answers {
                let (connection, _) = listening.listener().accept().unwrap();
                let deadline = Instant::now() + Duration::from_secs(10);
                serve::answer(&connection, deadline, |ask, namespace| {
                    let namespace = namespace.map(|namespace| NetNs::from_fd(namespace).unwrap().id());
                    tell.send((ask, namespace)).unwrap();
                    given
                })
                .unwrap();
            }
        });
        TestAgent { asked, thread: Some(thread) }
    }

    /// The next question.
    fn asked(&self) -> (Ask, Option<NsId>) {
        self.asked.recv_timeout(Duration::from_secs(10)).expect("the agent was not asked")
    }

    /// Waits until all answers are given.
    fn end(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

fn refusal(reason: Reason, message: &str) -> Answer {
    Answer::refused(reason, message)
}

#[test]
fn add_asks_with_the_namespace_and_passes_the_result_on_untouched() {
    let scene = Scene::new();
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let agent = scene.agent(vec![Answer::Guarded]);
        let done = scene.run("ADD", &scene.chained(version));
        assert!(done.success, "{}", done.output);
        assert_eq!(done.output, RESULT.replace("1.1.0", version));
        assert_eq!(done.remark, "");
        let (Ask::Add(ask), namespace) = agent.asked() else { panic!("another question") };
        assert_eq!(namespace, Some(scene.pod.id()), "the very namespace");
        assert_eq!((ask.network.as_str(), ask.container.as_str(), ask.interface.as_str()), ("podnet", "4f6e", "eth0"));
        assert_eq!((ask.pod.namespace.as_str(), ask.pod.name.as_str()), ("shop", "web-0"));
        assert_eq!((ask.pod.uid.unwrap().as_str(), ask.pod.sandbox.unwrap().as_str()), ("0b7c", "4f6e"));
        assert_eq!(ask.previous.get(), RESULT.replace("1.1.0", version));
        agent.end();
    }
}

#[test]
fn a_pod_that_nothing_selects_passes() {
    let scene = Scene::new();
    let agent = scene.agent(vec![Answer::Free(Free::NothingSelects), Answer::Free(Free::Exempt)]);
    for _ in 0..2 {
        assert_eq!(scene.run("ADD", &scene.chained("1.1.0")).output, RESULT);
    }
    agent.end();
}

#[test]
fn without_the_agent_the_file_decides() {
    let scene = Scene::new();
    let add = || scene.run("ADD", &scene.chained("1.1.0"));
    let told = add().error(100);
    assert!(told.contains("the pod waits") && told.contains("cni.json") && told.contains("exemptNamespaces"), "{told}");
    scene.leave_state(&[("other", Standing::NothingSelects)]);
    assert!(add().error(100).contains("does not name the namespace"));
    scene.leave_state(&[("shop", Standing::Selected)]);
    assert!(add().error(100).contains("they did"));
    scene.leave_state(&[("shop", Standing::NothingSelects)]);
    assert_eq!(add().output, RESULT);
    scene.leave_state(&[("shop", Standing::Exempt)]);
    assert_eq!(add().output, RESULT);
    std::fs::write(scene.state_path(), "{").unwrap();
    assert!(add().error(100).contains("not believed"));
    scene.leave_state(&[("shop", Standing::NothingSelects)]);
    std::os::unix::fs::chown(scene.state_path(), Some(65534), None).unwrap();
    assert!(add().error(100).contains("not root's"));
}

#[test]
fn an_agent_that_is_not_ready_or_of_another_version_is_none() {
    let scene = Scene::new();
    let answers =
        || vec![refusal(Reason::NotReady, "the pods are not listed yet"), refusal(Reason::Version, "mine is 2")];
    let agent = scene.agent(answers());
    assert!(scene.run("ADD", &scene.chained("1.1.0")).error(100).contains("not ready: the pods are not listed yet"));
    assert!(scene.run("ADD", &scene.chained("1.1.0")).error(100).contains("another version: mine is 2"));
    agent.end();
    scene.leave_state(&[("shop", Standing::NothingSelects)]);
    let agent = scene.agent(answers());
    for _ in 0..2 {
        assert!(scene.run("ADD", &scene.chained("1.1.0")).success);
    }
    agent.end();
}

#[test]
fn an_agent_that_can_not_do_it_holds_the_pod_whatever_the_file_says() {
    let scene = Scene::new();
    scene.leave_state(&[("shop", Standing::NothingSelects)]);
    let agent = scene.agent(vec![
        refusal(Reason::Failed, "no nf_tables here"),
        refusal(Reason::NotUnderstood, "what?"),
        Answer::Noted,
        Answer::Ready,
    ]);
    let add = || scene.run("ADD", &scene.chained("1.1.0"));
    assert!(add().error(101).contains("no nf_tables here"));
    for _ in 0..3 {
        add().error(103);
    }
    agent.end();
}

#[test]
fn an_agent_that_hangs_or_talks_nonsense_holds_the_pod() {
    let scene = Scene::new();
    let hung = std::os::unix::net::UnixListener::bind(scene.socket()).unwrap();
    let done = scene.run("ADD", &scene.chained("1.1.0"));
    assert!(done.error(100).contains("no answer within 1500 ms"));
    assert!(done.took > Duration::from_millis(1400) && done.took < Duration::from_secs(8), "{:?}", done.took);
    let _ = hung.accept().unwrap();
    let nonsense = thread::spawn(move || {
        for said in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"\0\0\0\x02{}",
            b"\0\0\0\x1d{\"version\":2,\"answer\":\"fine\"}",
            b"",
        ] {
            let (mut connection, _) = hung.accept().unwrap();
            let mut heard = [0; 16];
            std::io::Read::read_exact(&mut connection, &mut heard).unwrap();
            let _ = connection.write_all(said);
        }
    });
    for words in ["octets", "can't be understood", "version 2", "conversation"] {
        let told = scene.run("ADD", &scene.chained("1.1.0")).error(100);
        assert!(told.contains(words), "{told}");
    }
    nonsense.join().unwrap();
}

#[test]
fn exempt_namespaces_and_what_is_no_pod_pass_without_asking() {
    let scene = Scene::new();
    let input = format!(
        "{},\"exemptNamespaces\":[\"kube-system\",\"shop\"]}}",
        scene.chained("1.1.0").strip_suffix('}').unwrap()
    );
    assert_eq!(scene.run("ADD", &input).output, RESULT);
    assert!(scene.run("CHECK", &input).success);
    let nobody = scene.run_with("ADD", scene.chained("1.1.0").as_bytes(), &[("CNI_ARGS", None)]);
    assert_eq!(nobody.output, RESULT);
}

#[test]
fn what_add_needs_must_be_there() {
    let scene = Scene::new();
    let input = scene.chained("1.1.0");
    for (name, value, code, words) in [
        ("CNI_CONTAINERID", None, 4, "CNI_CONTAINERID"),
        ("CNI_CONTAINERID", Some("../x"), 4, "CNI_CONTAINERID"),
        ("CNI_NETNS", None, 4, "CNI_NETNS"),
        ("CNI_NETNS", Some(""), 4, "CNI_NETNS"),
        ("CNI_NETNS", Some("/nowhere"), 5, "/nowhere"),
        ("CNI_NETNS", Some("/dev/null"), 4, "no network namespace"),
        ("CNI_IFNAME", None, 4, "CNI_IFNAME"),
        ("CNI_IFNAME", Some("a/b"), 4, "CNI_IFNAME"),
        ("CNI_ARGS", Some("K8S_POD_NAMESPACE=shop"), 4, "K8S_POD_NAME"),
        ("CNI_ARGS", Some("WHAT=1"), 4, "WHAT"),
        ("CNI_COMMAND", None, 4, "CNI_COMMAND"),
        ("CNI_COMMAND", Some("add"), 4, "CNI_COMMAND"),
    ] {
        let told = scene.run_with("ADD", input.as_bytes(), &[(name, value)]).error(code);
        assert!(told.contains(words), "{name}: {told}");
    }
    for (input, code) in [
        (String::new(), 6),
        ("}".into(), 6),
        (scene.config("1.1.0", json!({})), 7),
        (scene.config("9.9.9", json!({})), 1),
        (scene.config("1.1.0", json!({"exempt": ["shop"]})), 2),
        (scene.config("1.1.0", json!({"prevResult": {"cniVersion": "0.1.0"}})), 1),
        (scene.config("1.1.0", json!({"prevResult": 7})), 6),
        (format!("{{\"x\":\"{}\"}}", "x".repeat(2 << 20)), 6),
    ] {
        scene.run("ADD", &input).error(code);
        scene.run("CHECK", &input).error(if input.contains("prevResult") { 100 } else { code });
    }
}

#[test]
fn check_tells_whether_the_walls_stand() {
    let scene = Scene::new();
    let agent = scene.agent(vec![Answer::Guarded, refusal(Reason::Failed, "the table is gone")]);
    let done = scene.run("CHECK", &scene.chained("1.1.0"));
    assert_eq!((done.success, done.output.as_str()), (true, ""));
    let (ask, namespace) = agent.asked();
    assert!(matches!(ask, Ask::Check(_)) && namespace == Some(scene.pod.id()));
    assert!(scene.run("CHECK", &scene.chained("1.1.0")).error(102).contains("the table is gone"));
    agent.end();
    assert!(scene.run("CHECK", &scene.chained("1.1.0")).error(100).contains("can't be checked"));
    assert!(scene.run("CHECK", &scene.chained("0.3.1")).error(1).contains("no CHECK"));
}

#[test]
fn del_never_fails_and_tells_what_it_knows() {
    let scene = Scene::new();
    let agent = scene.agent(vec![Answer::Noted, Answer::Noted, refusal(Reason::Failed, "busy")]);
    let done = scene.run("DEL", &scene.chained("1.1.0"));
    assert_eq!((done.success, done.output.as_str(), done.remark.as_str()), (true, "", ""));
    let (Ask::Del(ask), None) = agent.asked() else { panic!("another question") };
    assert_eq!((ask.container.as_str(), ask.network.unwrap().as_str()), ("4f6e", "podnet"));
    assert_eq!((ask.interface.unwrap().as_str(), ask.pod.unwrap().name.as_str()), ("eth0", "web-0"));
    // A second time, as the runtimes do it.
    let input = scene.config("1.1.0", json!({}));
    let done = scene.run_with("DEL", input.as_bytes(), &[("CNI_NETNS", Some("")), ("CNI_ARGS", None)]);
    assert!(done.success);
    assert!(matches!(agent.asked(), (Ask::Del(ask), None) if ask.pod.is_none()));
    let done = scene.run("DEL", &input);
    assert!(done.success && done.remark.contains("busy"), "{}", done.remark);
    agent.end();

    for input in ["", "garbage", "[]", "{}", &scene.config("9.9.9", json!({})), &scene.config("1.1.0", json!({"x": 1}))]
    {
        for variables in [
            &[][..],
            &[("CNI_CONTAINERID", None)],
            &[("CNI_CONTAINERID", Some("../x")), ("CNI_ARGS", Some("x"))],
            &[("CNI_NETNS", None), ("CNI_IFNAME", None), ("CNI_ARGS", Some("K8S_POD_NAME=;;="))],
        ] {
            let done = scene.run_with("DEL", input.as_bytes(), variables);
            assert!(done.success && done.output.is_empty(), "{input}: {}", done.output);
            assert!(done.remark.starts_with("sidewall-cni: "), "{}", done.remark);
        }
    }
    let _hung = std::os::unix::net::UnixListener::bind(scene.socket()).unwrap();
    let done = scene.run("DEL", &input);
    assert!(done.success && done.took < Duration::from_secs(8), "{:?}", done.took);
}

#[test]
fn gc_never_fails_and_tells_what_is_valid() {
    let scene = Scene::new();
    let agent = scene.agent(vec![Answer::Noted]);
    let valid = json!({"cni.dev/valid-attachments": [{"containerID": "4f6e", "ifname": "eth0"}]});
    let done = scene.run("GC", &scene.config("1.1.0", valid.clone()));
    assert_eq!((done.success, done.output.as_str(), done.remark.as_str()), (true, "", ""));
    let (Ask::Gc(ask), None) = agent.asked() else { panic!("another question") };
    assert_eq!((ask.network.as_str(), ask.attachments[0].container.as_str()), ("podnet", "4f6e"));
    agent.end();
    // Nobody there; garbage; and no list, which must not be taken for an empty one: nobody is told.
    let agent = scene.agent(vec![Answer::Ready]);
    for input in ["", "garbage", &scene.config("1.1.0", json!({}))] {
        let done = scene.run("GC", input);
        assert!(done.success && done.output.is_empty() && !done.remark.is_empty());
    }
    assert!(scene.run("STATUS", &scene.config("1.1.0", json!({}))).success);
    assert!(matches!(agent.asked(), (Ask::Status, None)));
    agent.end();
    assert!(scene.run("GC", &scene.config("1.1.0", valid)).success);
}

#[test]
fn status_tells_whether_pods_could_start() {
    let scene = Scene::new();
    let status = || scene.run("STATUS", &scene.config("1.1.0", json!({})));
    assert!(status().error(50).contains("DaemonSet sidewall-agent"));
    scene.leave_state(&[("shop", Standing::Selected), ("other", Standing::NothingSelects)]);
    status().error(50);
    scene.leave_state(&[("other", Standing::NothingSelects)]);
    assert!(status().success, "nothing selects anything: pods start");
    scene.leave_state(&[("shop", Standing::Selected)]);
    let agent = scene.agent(vec![Answer::Ready, refusal(Reason::NotReady, "not yet"), Answer::Guarded]);
    let done = status();
    assert_eq!((done.success, done.output.as_str()), (true, ""));
    assert!(status().error(50).contains("not yet"));
    status().error(103);
    agent.end();
    assert!(scene.run("STATUS", &scene.config("1.0.0", json!({}))).error(1).contains("no STATUS"));
}

#[test]
fn version_tells_what_is_spoken_whatever_it_is_given() {
    let scene = Scene::new();
    for (input, version) in [
        ("{\"cniVersion\":\"0.4.0\"}", "0.4.0"),
        ("", "1.1.0"),
        ("garbage", "1.1.0"),
        ("{\"cniVersion\":\"9\"}", "1.1.0"),
    ] {
        let nothing = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"].map(|name| (name, None));
        let done = scene.run_with("VERSION", input.as_bytes(), &nothing);
        let said: Value = serde_json::from_str(&done.output).unwrap();
        assert!(done.success);
        assert_eq!(said["cniVersion"], version);
        assert_eq!(said["supportedVersions"], json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
    }
}

#[test]
fn many_pods_at_once_get_each_their_own_answer() {
    let scene = Scene::new();
    let answers = (0..24).map(|_| Answer::Guarded).collect();
    let agent = scene.agent(answers);
    thread::scope(|scope| {
        for number in 0..24 {
            let scene = &scene;
            scope.spawn(move || {
                let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-{number}");
                let done = scene.run_with("ADD", scene.chained("1.1.0").as_bytes(), &[("CNI_ARGS", Some(&args))]);
                assert!(done.success, "{}", done.output);
            });
        }
    });
    let mut names: Vec<_> = (0..24)
        .map(|_| match agent.asked() {
            (Ask::Add(ask), Some(_)) => ask.pod.name.as_str().to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 24);
    agent.end();
}
