//! Who the processes of a pod are: privileges, cgroups, users, environment, logs. Needs root.

mod common;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use common::{Bench, IDLE, LONG, assert_nothing_left, manifest, pod, shell, wait_status, with};
use serde_json::json;
use sidewall_netns::{Links, NetNs};
use sidewall_sandbox::{Error, Identity, Options, Phase, Sandbox, attach, list};

fn fields(text: &str) -> BTreeMap<&str, String> {
    let pairs = text.lines().filter_map(|l| l.split_once(':'));
    pairs.map(|(k, v)| (k, v.split_whitespace().collect::<Vec<_>>().join(" "))).collect()
}

#[test]
fn containers_have_no_privileges_and_their_own_user_cgroup_and_namespace() {
    let bench = Bench::new();
    let look = "cat /proc/self/status /proc/self/cgroup; readlink /proc/self/ns/net; echo end; exec sleep 1000";
    let running = bench.run(pod(
        "who",
        json!({
            "securityContext": {"supplementalGroups": [555], "fsGroup": 556},
            "containers": [
                shell("own", look),
                with(shell("given", look), json!({"securityContext": {"runAsUser": 4321, "runAsGroup": 4322}})),
            ],
        }),
    ));
    let info = running.pod().info().clone();
    for (i, name) in ["own", "given"].into_iter().enumerate() {
        bench.wait_for_line(name, "end");
        let container = &info.containers[i];
        let text = bench.output(name).join("\n");
        let status = fields(&text);
        for set in ["CapEff", "CapBnd", "CapPrm", "CapInh", "CapAmb"] {
            assert_eq!(status[set], "0000000000000000", "{name} {set}");
        }
        assert_eq!(status["NoNewPrivs"], "1");
        assert_eq!(status["Groups"], "555 556");
        assert_eq!(
            status["Uid"],
            [
                container.uid.to_string(),
                container.uid.to_string(),
                container.uid.to_string(),
                container.uid.to_string()
            ]
            .join(" ")
        );
        assert_eq!(status["Gid"].split(' ').next().unwrap(), container.gid.to_string());
        assert!(text.contains(&format!("0::/sidewall-sandbox/{}/{name}", info.uid)), "{text}");
        assert!(text.contains(&format!("net:[{}]", running.pod().netns().id().inode)), "{text}");
        use std::os::unix::fs::MetadataExt;
        assert_eq!(container.cgroup.id, std::fs::metadata(&container.cgroup.path).unwrap().ino());
        assert_eq!(container.cgroup.level, info.pods_cgroup.level + 2);
    }
    let [own, given] = &info.containers[..] else { panic!() };
    assert_eq!((own.uid, own.gid, given.uid, given.gid), (10001, 10001, 4321, 4322));
    running.stop().unwrap();
    assert_nothing_left(&info, bench.root.path());
}

#[test]
fn variables_are_expanded_and_fields_filled_in() {
    let bench = Bench::new();
    let running = bench.run(json!({
        "metadata": {"name": "env", "namespace": "test", "labels": {"app": "web"}},
        "spec": {"restartPolicy": "Never", "containers": [{
            "name": "web",
            "command": ["/bin/sh", "-c", "echo \"$*\"; echo $A,$B,$IP,$IPS,$LABEL,$HOSTNAME; pwd"],
            "args": ["sh", "$(B)", "$(NAME)", "$$(A)", "$(NONE)"],
            "workingDir": "/usr/bin",
            "env": [
                {"name": "A", "value": "a"},
                {"name": "B", "value": "b$(A)$(C)"},
                {"name": "C", "value": "later"},
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
                {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            ],
        }]},
    }));
    wait_status(&running, "finished", |s| s.finished);
    let ips = &running.pod().info().addresses;
    bench.wait_for_line("web", "/usr/bin");
    assert_eq!(
        bench.output("web"),
        [
            "ba$(C) env $(A) $(NONE)".to_owned(),
            format!("a,ba$(C),{},{},{},web,env", ips[0], ips[0], ips[1]),
            "/usr/bin".to_owned(),
        ]
    );
}

#[test]
fn logs_are_kept_in_files_and_handed_out() {
    let bench = Bench::new();
    let logs = tempfile::tempdir().unwrap();
    let options = Options { log_dir: Some(logs.path().into()), ..bench.options() };
    let spec = json!({"restartPolicy": "Never", "containers": [shell("web", "echo out; echo err >&2; printf tail")]});
    let running = Sandbox::prepare(&manifest(pod("logs", spec)), &options).unwrap().start().unwrap();
    running.wait();
    assert_eq!(bench.output("web"), ["out", "tail"], "nothing is lost at the end");
    running.stop().unwrap();
    let text = std::fs::read_to_string(logs.path().join("web.log")).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.splitn(4, ' ').collect()).collect();
    assert!(lines.iter().all(|l| l[0].ends_with('Z') && l[0].contains('T')), "{text}");
    // The two streams are two pipes: between them there is no order.
    let of = |stream: &str| lines.iter().filter(|l| l[1] == stream).map(|l| (l[2], l[3])).collect::<Vec<_>>();
    assert_eq!(of("stdout"), [("F", "out"), ("F", "tail")]);
    assert_eq!(of("stderr"), [("F", "err")]);
}

#[test]
fn commands_run_in_every_identity() {
    let bench = Bench::new();
    let running = bench.run(pod(
        "exec",
        json!({"containers": [
            with(shell("web", IDLE), json!({"env": [{"name": "A", "value": "x"}]})),
            shell("shipper", IDLE),
        ]}),
    ));
    let live = running.pod();
    let info = live.info().clone();
    let look = [
        "sh",
        "-c",
        "cat /proc/self/cgroup; id -u; grep -E 'CapEff|NoNewPrivs' /proc/self/status; readlink /proc/self/ns/net; echo A=$A",
    ];
    let run = |identity: Identity| {
        let output = live.exec(&identity, &look, LONG).unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let here = format!("net:[{}]", live.netns().id().inode);
    let ours = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let (web, shipper) = (info.containers[0].uid, info.containers[1].uid);
    for (identity, cgroup, uid, a, free) in [
        (Identity::Container("web".into()), Some("/web\n"), web, "A=x\n", false),
        (Identity::ContainerAs { container: "shipper".into(), uid: web }, Some("/shipper\n"), web, "A=\n", false),
        (Identity::Container("shipper".into()), Some("/shipper\n"), shipper, "A=\n", false),
        (Identity::Unknown { uid: 31337 }, Some("\n"), 31337, "A=\n", false),
        (Identity::Node, None, 0, "A=\n", true),
    ] {
        let text = run(identity.clone());
        match cgroup {
            Some(end) => {
                assert!(text.contains(&format!("0::/sidewall-sandbox/{}{end}", info.uid)), "{identity:?} {text}")
            }
            None => assert!(text.starts_with(&ours), "{identity:?} {text}"),
        }
        assert!(
            text.contains(&format!("\n{uid}\n")) && text.ends_with(a) && text.contains(&here),
            "{identity:?} {text}"
        );
        assert_eq!(text.contains("CapEff:\t0000000000000000") && text.contains("NoNewPrivs:\t1"), !free, "{text}");
    }
    let failed = live.exec(&Identity::Container("web".into()), &["sh", "-c", "echo no >&2; exit 4"], LONG).unwrap();
    assert_eq!((failed.status.code(), failed.stderr.as_slice()), (Some(4), &b"no\n"[..]));
    let slow = live.exec(&Identity::Node, &["sh", "-c", "sleep 1000 & wait"], Duration::from_millis(100));
    assert!(matches!(slow, Err(Error::Timeout { .. })), "{slow:?}");
    assert!(matches!(live.exec(&Identity::Container("x".into()), &["true"], LONG), Err(Error::NoContainer { .. })));
}

#[test]
fn node_and_pod_reach_each_other_over_both_families_and_low_ports_are_open_to_all() {
    let bench = Bench::new();
    let prepared =
        Sandbox::prepare(&manifest(pod("net", json!({"containers": [shell("web", IDLE)]}))), &bench.options()).unwrap();
    let info = prepared.pod().info().clone();
    assert_eq!((info.addresses.len(), info.node_addresses.len(), info.interface.as_str()), (2, 2, "eth0"));
    for (pod_ip, node_ip) in info.addresses.iter().zip(&info.node_addresses) {
        let at = SocketAddr::new(*pod_ip, 80);
        let inside = prepared.pod().netns().run(|| TcpListener::bind(at)).unwrap().unwrap();
        let start = std::time::Instant::now();
        TcpStream::connect_timeout(&at, LONG).unwrap();
        assert_eq!(inside.accept().unwrap().1.ip(), *node_ip, "the node's address is the one that probes come from");
        assert!(start.elapsed() < Duration::from_millis(900), "{at}: {:?}", start.elapsed());
        let outside = TcpListener::bind((*node_ip, 0)).unwrap();
        let to = outside.local_addr().unwrap();
        prepared.pod().netns().run(|| TcpStream::connect_timeout(&to, LONG)).unwrap().unwrap();
        assert_eq!(outside.accept().unwrap().1.ip(), *pod_ip);
    }
    let low = prepared.pod().netns().run(|| std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start"));
    assert_eq!(low.unwrap().unwrap().trim(), "0");
    drop(prepared);
    assert_nothing_left(&info, bench.root.path());
}

#[test]
fn nothing_runs_before_start_and_the_pod_is_found_from_outside() {
    let bench = Bench::new();
    let prepared =
        Sandbox::prepare(&manifest(pod("steps", json!({"containers": [shell("web", IDLE)]}))), &bench.options())
            .unwrap();
    assert!(common::processes_of(&prepared.pod().info().uid).is_empty());
    assert!(bench.lines.lock().unwrap().is_empty());
    let twice =
        Sandbox::prepare(&manifest(pod("steps", json!({"containers": [shell("web", IDLE)]}))), &bench.options());
    assert!(matches!(twice, Err(Error::Running { .. })));
    let running = prepared.start().unwrap();
    let status = wait_status(&running, "ready", |s| s.ready);
    assert_eq!(status.phase, Phase::Running);

    let listed = list(bench.root.path()).unwrap();
    assert_eq!(listed.len(), 1);
    common::wait("the process is written down", || list(bench.root.path()).unwrap()[0].processes.contains_key("web"));
    let found = attach(bench.root.path(), "test", "steps").unwrap();
    assert_eq!((found.info(), found.netns()), (running.pod().info(), running.pod().netns()));
    let output = found.exec(&Identity::Container("web".into()), &["id", "-u"], LONG).unwrap();
    assert_eq!(output.stdout, b"10001\n");
    assert!(matches!(attach(bench.root.path(), "test", "other"), Err(Error::NoPod { .. })));
    running.stop().unwrap();
    assert!(list(bench.root.path()).unwrap().is_empty());
}

#[test]
fn several_pods_live_side_by_side_and_a_private_node_keeps_them_off_the_machine() {
    let bench = Bench::new();
    let node = NetNs::new().unwrap();
    let options = |private: bool| Options { node: private.then(|| node.clone()), ..bench.options() };
    let make = |name: &str, private| {
        Sandbox::prepare(&manifest(pod(name, json!({"containers": [shell("web", IDLE)]}))), &options(private))
            .unwrap()
            .start()
            .unwrap()
    };
    let pods = std::thread::scope(|scope| {
        let make = &make;
        let threads: Vec<_> = (0..6).map(|i| scope.spawn(move || make(&format!("many-{i}"), i >= 4))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>()
    });
    let mut seen = std::collections::BTreeSet::new();
    for running in &pods {
        wait_status(running, "ready", |s| s.ready);
        let info = running.pod().info();
        assert!(seen.insert(info.addresses.clone()) && seen.insert(info.node_addresses.clone()), "{info:?}");
    }
    let here: Vec<_> = Links::current().unwrap().links().unwrap().into_iter().map(|l| l.name).collect();
    let there: Vec<_> = Links::of(&node).unwrap().links().unwrap().into_iter().map(|l| l.name).collect();
    for (i, running) in pods.iter().enumerate() {
        let link = &running.pod().info().node_interface;
        assert_eq!((here.contains(link), there.contains(link)), (i < 4, i >= 4), "{link}");
    }
    for running in pods {
        let info = running.pod().info().clone();
        running.stop().unwrap();
        assert_nothing_left(&info, bench.root.path());
    }
}

#[test]
fn a_manifest_that_can_not_be_honoured_is_refused_whole_and_leaves_nothing() {
    let bench = Bench::new();
    let spec = json!({"hostNetwork": true, "containers": [{"name": "web", "image": "nginx"}]});
    let Err(Error::Manifest(findings)) = Sandbox::prepare(&manifest(pod("bad", spec)), &bench.options()) else {
        panic!()
    };
    let fields: Vec<_> = findings.iter().map(|f| f.field.as_str()).collect();
    assert_eq!(fields, ["spec.hostNetwork", "spec.containers[0].command"]);

    // A failure half-way: the setting does not exist, which only the kernel can say.
    let spec = json!({"securityContext": {"sysctls": [{"name": "net.no.such", "value": "1"}]}, "containers": [shell("web", IDLE)]});
    let Err(error) = Sandbox::prepare(&manifest(pod("half", spec)), &bench.options()) else { panic!() };
    assert!(error.to_string().contains("/proc/sys/net/no/such"), "{error}");
    assert!(!bench.root.path().join("pods/test_half").exists());
}
