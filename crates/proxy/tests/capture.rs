//! Connections that the kernel redirects to the proxy, in a network namespace of their own. Needs root, `nft` and `nsenter`.

mod common;

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::time::Duration;

use common::client::{Answer, Client};
use common::upstream::Upstream;
use common::{ADMIN, USERS, eventually, free_port, spawn};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sidewall_netns::{Links, NetNs};

/// Where the pod is, as a client sees it.
const POD: [&str; 2] = ["10.9.0.2", "fd09::2"];

/// A pod with an application and a proxy, and a client at the other end of a wire. All of it goes with this.
struct Pod {
    pod: NetNs,
    client: NetNs,
    application: Upstream,
    open: u16,
    listener: u16,
    capture: u16,
    admin: u16,
    directory: tempfile::TempDir,
    proxy: std::process::Child,
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

impl Pod {
    fn start() -> Self {
        let (pod, client) =
            (NetNs::new().expect("a network namespace: this test needs root"), NetNs::new().expect("one"));
        let mut at_pod = Links::of(&pod).expect("its links");
        let mut at_client = Links::of(&client).expect("its links");
        at_pod.add_veth("eth0", &client, "eth0").expect("a wire");
        for (links, v4, v6) in
            [(&mut at_pod, "10.9.0.2/30", "fd09::2/126"), (&mut at_client, "10.9.0.1/30", "fd09::1/126")]
        {
            links.set_up("lo").expect("lo is up");
            links.add_address("eth0", v4.parse().expect("an address")).expect("added");
            links.add_address("eth0", v6.parse().expect("an address")).expect("added");
            links.set_up("eth0").expect("it is up");
        }
        at_pod.wait_operational("eth0", Duration::from_secs(10)).expect("it works");
        at_client.wait_operational("eth0", Duration::from_secs(10)).expect("it works");

        let application = pod.run(Upstream::start).expect("an application");
        let [open, listener, capture, admin] =
            pod.run(|| [free_port(), free_port(), free_port(), free_port()]).expect("free ports");
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("users"), USERS).expect("written");
        let text = format!(
            "listeners:\n- port: {open}\n  forward: {{port: {app}}}\n  anonymous: true\n- port: {listener}\n  forward: {{port: {app}}}\n  \
             authentication: [{{basic: {{htpasswdFile: users}}}}]\n\
             capture: {{inbound: [{app}], port: {capture}}}\nadmin: {{port: {admin}}}\n",
            app = application.port
        );
        fs::write(directory.path().join("proxy.yaml"), text).expect("written");
        let at = directory.path().to_owned();
        let proxy = pod.run(move || spawn(&at, &["--workers", "2"])).expect("the proxy starts");
        let pod = Self { pod, client, application, open, listener, capture, admin, directory, proxy };
        eventually("the proxy listens", || pod.errors().contains("listening"));
        pod
    }

    fn errors(&self) -> String {
        fs::read_to_string(self.directory.path().join("stderr")).expect("readable")
    }

    fn nft(&self, commands: &str) {
        let path = format!("/proc/{}/fd/{}", std::process::id(), self.pod.as_fd().as_raw_fd());
        let output = Command::new("nsenter")
            .arg(format!("--net={path}"))
            .args(["--", "nft", commands])
            .output()
            .expect("nsenter of util-linux and nft of nftables are installed");
        assert!(output.status.success(), "{commands}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Redirects what comes from outside to this port.
    fn redirect(&self, port: u16) {
        self.nft(&format!(
            "table inet capture {{ chain inbound {{ type nat hook prerouting priority dstnat; policy accept; \
             tcp dport {port} redirect to :{}; }}; }}",
            self.capture
        ));
    }

    /// Asks from outside, if anybody answers.
    fn ask(&self, ip: &str, port: u16, headers: &[&str]) -> Option<Answer> {
        let address = SocketAddr::new(ip.parse::<IpAddr>().expect("an address"), port);
        let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        self.client
            .run(|| {
                let stream = TcpStream::connect(address).ok()?;
                stream.set_read_timeout(Some(common::PATIENCE)).expect("a timeout");
                let mut client = Client::over(stream);
                client.try_send(format!("GET /head HTTP/1.1\r\nHost: shop.example\r\n{lines}\r\n")).ok()?;
                client.try_answer(true)
            })
            .expect("the namespace")
    }

    /// Puts another configuration in force.
    fn configure(&self, text: &str) {
        fs::write(self.directory.path().join("proxy.yaml"), text).expect("written");
        kill(Pid::from_raw(i32::try_from(self.proxy.id()).expect("an id")), Signal::SIGHUP).expect("it takes signals");
        let hash = format!("hash={} before", common::mounted::short_hash(text));
        eventually(&hash, || self.errors().contains(&hash));
    }

    fn counted(&self, outcome: &str) -> u64 {
        let row = format!("sidewall_proxy_captured_connections_total{{outcome=\"{outcome}\"}} ");
        let admin = SocketAddr::from(([127, 0, 0, 1], self.admin));
        let answer = self.pod.run(|| Client::connect(admin).get("/metrics", &[])).expect("the namespace");
        let line = answer.text().lines().find_map(|line| line.strip_prefix(&row).map(str::to_owned));
        line.and_then(|number| number.parse().ok()).expect("a number")
    }
}

#[test]
fn what_aimed_at_the_application_meets_its_listeners_authentication() {
    let pod = Pod::start();
    let port = pod.application.port;
    for ip in POD {
        assert!(pod.ask(ip, port, &[]).is_none(), "the application listens on 127.0.0.1 alone");
    }
    pod.redirect(port);
    for ip in POD {
        let answer = pod.ask(ip, port, &[]).expect("an answer");
        assert_eq!((answer.status, answer.header("www-authenticate").is_some()), (401, true), "{ip}");
        assert!(pod.application.heads().is_empty(), "{:?}", pod.application.heads());
    }
    for ip in POD {
        let answer = pod.ask(ip, port, &[ADMIN, "X-Forwarded-User: root"]).expect("an answer");
        assert_eq!(answer.status, 200, "{ip}");
        let head = answer.text().to_ascii_lowercase();
        assert!(head.contains("x-forwarded-user: admin\r\n") && !head.contains("root"), "{head}");
        let own = if ip.contains(':') { "fd09::1" } else { "10.9.0.1" };
        assert!(head.contains(&format!("x-forwarded-for: {own}\r\n")), "{head}");
        assert!(!head.contains("authorization"), "{head}");
    }
    assert_eq!((pod.counted("taken"), pod.counted("refused")), (4, 0));
    let log = || fs::read_to_string(pod.directory.path().join("stdout")).expect("readable");
    eventually("the access log has them", || log().lines().count() == 4);
    let told = format!("\"listener\":{},\"captured\":{port},", pod.listener);
    assert!(log().lines().all(|line| line.contains(&told)), "{}", log());
    // Beside it, both listeners are what they were: the captured ones were the stricter one's.
    assert_eq!(pod.ask(POD[0], pod.open, &[]).expect("an answer").status, 200);
    assert_eq!(pod.ask(POD[0], pod.listener, &[ADMIN]).expect("an answer").status, 200);
    eventually("the access log has them, too", || log().lines().count() == 6);
    assert!(log().lines().skip(4).all(|line| !line.contains("captured")), "they aimed where they arrived: {}", log());
}

#[test]
fn a_new_configuration_holds_for_captured_connections_that_are_there() {
    let pod = Pod::start();
    let port = pod.application.port;
    pod.redirect(port);
    let address = SocketAddr::new(POD[0].parse::<IpAddr>().expect("an address"), port);
    let stream = pod.client.run(|| TcpStream::connect(address)).expect("the namespace").expect("it connects");
    stream.set_read_timeout(Some(common::PATIENCE)).expect("a timeout");
    let mut kept = Client::over(stream);
    assert_eq!(kept.get("/", &[]).status, 401, "the stricter listener's");

    let listener = |port: u16| {
        format!("listeners:\n- {{port: {port}, forward: {{port: {}}}, anonymous: true}}\n", pod.application.port)
    };
    let admin = format!("admin: {{port: {}}}\n", pod.admin);
    pod.configure(&format!("{}{admin}capture: {{inbound: [{port}], port: {}}}\n", listener(pod.open), pod.capture));
    assert_eq!(kept.get("/", &[]).status, 200, "there is no stricter one any more");
    let log = || fs::read_to_string(pod.directory.path().join("stdout")).expect("readable");
    eventually("the access log has both", || log().lines().count() == 2);
    let told = format!("\"listener\":{},\"captured\":{port},", pod.open);
    assert!(log().lines().nth(1).is_some_and(|line| line.contains(&told)), "{}", log());
    assert_eq!(pod.counted("taken"), 1);

    // Nothing is captured any more: such connections end, and there are no new ones.
    pod.configure(&format!("{}{admin}", listener(pod.open)));
    assert!(kept.is_closed());
    assert!(pod.ask(POD[0], port, &[]).is_none());
    assert_eq!(pod.ask(POD[0], pod.open, &[]).expect("an answer").status, 200);
    assert_eq!(pod.counted("taken"), 1, "it is still told");
}

#[test]
fn whoever_comes_to_the_capture_port_by_himself_is_refused() {
    let pod = Pod::start();
    // Without any rule the kernel tracks no connections here; with one it does. Neither lets anybody in.
    for ip in POD {
        assert!(pod.ask(ip, pod.capture, &[ADMIN]).is_none(), "{ip}");
    }
    pod.redirect(pod.application.port);
    for ip in POD {
        assert!(pod.ask(ip, pod.capture, &[ADMIN]).is_none(), "{ip}");
    }
    assert_eq!((pod.counted("taken"), pod.counted("refused")), (0, 4));
    assert!(pod.application.heads().is_empty(), "{:?}", pod.application.heads());
}

#[test]
fn what_another_rule_redirects_here_is_refused() {
    let pod = Pod::start();
    pod.redirect(9);
    for ip in POD {
        assert!(pod.ask(ip, 9, &[ADMIN]).is_none(), "{ip}");
    }
    assert_eq!((pod.counted("taken"), pod.counted("refused")), (0, 2));
    assert!(pod.application.heads().is_empty(), "{:?}", pod.application.heads());
}
