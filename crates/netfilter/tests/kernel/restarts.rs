//! Containers that restart in a loop: cgroups come and go, and identities with them.

use crate::cgroup::Own;
use crate::pod::number;
use crate::support::*;
use sidewall_netfilter::{Kernel, LoadOptions, Standing, Way};
use sidewall_netns::{Cgroup, NetNs};
use sidewall_policy::ruleset::{Compare, Field, HookPoint, Kind, Ruleset, Statement, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const PLAIN: LoadOptions = LoadOptions { owner: false };

/// Lets out what sockets of known cgroups send, each counted by its container, and nothing else.
fn walls(level: u8, containers: &[(u64, &str)], generation: u32) -> Ruleset {
    let field = Field::SocketCgroup { level };
    let containers: BTreeMap<u64, &str> = containers.iter().copied().collect();
    let known = containers.iter().map(|(id, name)| to(&[(*id).into()], Verdict::Goto((*name).into()))).collect();
    let counting = |name: &str| chain(name, [rule([Statement::Count(name.to_owned()), verdict(Verdict::Accept)])]);
    // As in a pod: what passed under an older ruleset is asked again.
    let mark = sidewall_policy::mark::generation(number(generation));
    let now = compare(Field::CtMark, Some(sidewall_policy::mark::GENERATION), Compare::NotEqual, mark.into());
    let out = [
        rule([now, Statement::SetMark { keep: !sidewall_policy::mark::GENERATION, set: mark }]),
        rule([Statement::Dispatch { fields: vec![field], mask: None, map: "who".into() }]),
        rule([Statement::Count("unknown".into())]),
    ];
    let mut map = growing(set("who", &[Kind::Cgroup], false, known));
    map.map = true;
    let chains = vec![base("out", HookPoint::Output, false, out), counting("app"), counting("other")];
    let mut ruleset = ruleset(vec![table(&["app", "other", "unknown"], vec![map], chains)]);
    ruleset.generation = number(generation);
    ruleset
}

/// A process that made its socket in a cgroup and then went elsewhere; it sends when it is told to.
struct Talker {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Talker {
    fn new(namespace: &NetNs, cgroup: &Cgroup, then: &Cgroup) -> Self {
        let script = format!(
            "echo $$ > {}/cgroup.procs && exec 3<>/dev/udp/127.0.0.1/4000 && echo $$ > {}/cgroup.procs && echo ready && \
             while read -r _; do if echo x >&3; then echo sent; else echo refused; fi; done 2>/dev/null",
            cgroup.path().display(),
            then.path().display()
        );
        let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_fd().as_raw_fd());
        let mut child = Command::new("nsenter")
            .args([&format!("--net={path}"), "--", "bash", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (orders, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut talker = Self { child, orders, answers };
        assert_eq!(talker.answer(), "ready");
        talker
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn sends(&mut self) -> bool {
        writeln!(self.orders, "go").unwrap();
        self.answer() == "sent"
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        // Ends at the end of its input, too; this is for the case that it does not.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn counts(kernel: &mut Kernel) -> [u64; 3] {
    let counted = counted(kernel);
    ["app", "other", "unknown"].map(|name| counted[name])
}

#[test]
fn a_restarted_container_is_known_and_its_former_self_is_not() {
    const RESTARTS: u32 = 200;
    let own = Own::new("restarts");
    let (namespace, mut kernel) = namespace();
    let _receiver = namespace.run(|| std::net::UdpSocket::bind("127.0.0.1:4000").unwrap()).unwrap();
    let level = u8::try_from(own.0.level()).unwrap() + 1;
    let elsewhere = own.0.create("elsewhere").unwrap();
    let other = elsewhere.id().unwrap().0;
    let mut ids = BTreeSet::new();
    let mut standing = walls(level, &[(other, "other")], 1);
    kernel.load(&standing, PLAIN).unwrap();
    let mut former: Option<Talker> = None;
    for restart in 0..RESTARTS {
        // The runtime gives a restarted container a cgroup of the same name.
        let cgroup = own.0.create("app").unwrap();
        let id = cgroup.id().unwrap().0;
        assert!(ids.last().is_none_or(|last| *last < id) && ids.insert(id), "an id came back: {id}");
        let next = walls(level, &[(id, "app"), (other, "other")], restart + 2);
        let way = kernel.change(&standing, &next, PLAIN).unwrap().way;
        let deleted = usize::from(restart > 0);
        assert_eq!(way, Way::Amended { added: 1, deleted, chains: 1 }, "restart {restart}");
        standing = next;
        if restart % 20 == 0 {
            // Its former self still has its socket, which the kernel keeps the removed cgroup for.
            let before = counts(&mut kernel);
            if let Some(mut former) = former.take() {
                assert!(!former.sends(), "restart {restart}");
                assert_eq!(counts(&mut kernel), [before[0], before[1], before[2] + 1]);
            }
            let mut talker = Talker::new(&namespace, &cgroup, &elsewhere);
            let before = counts(&mut kernel);
            assert!(talker.sends(), "restart {restart}");
            // By the cgroup of its socket, not by that of the process now.
            assert_eq!(counts(&mut kernel), [before[0] + 1, before[1], before[2]]);
            former = Some(talker);
        }
        cgroup.remove().unwrap();
        if let Some(talker) = former.as_mut().filter(|_| restart % 20 == 0) {
            // The cgroup is gone and its id still stands in the map: it means that socket, and nobody else ever.
            assert!(talker.sends());
        }
    }
    assert_eq!(kernel.verify(&standing).unwrap(), Standing::AsLoaded);
    let text = nft(&namespace, &["list", "ruleset"]);
    assert_eq!(text.matches("goto a.app").count() + text.matches("goto b.app").count(), 1, "one element is left");
    drop(former);
    elsewhere.remove().unwrap();
}
