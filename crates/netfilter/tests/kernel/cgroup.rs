//! Identity by cgroup: of the sender at OUTPUT, of the receiver at INPUT.

use crate::support::*;
use sidewall_netfilter::LoadOptions;
use sidewall_netns::{Cgroup, Cgroups};
use sidewall_policy::ruleset::{Field, HookPoint, Kind, Statement, Verdict};
use std::net::UdpSocket;
use std::time::Duration;

/// A cgroup of a test's own, removed in the end with those below it.
pub struct Own(pub Cgroup);

impl Own {
    pub fn new(test: &str) -> Self {
        let name = format!("sidewall-netfilter-{test}-{}", std::process::id());
        let top = Cgroups::find().expect("a cgroup2 mount").top();
        Self(top.create(&name).expect("a cgroup: this test needs root"))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Err(error) = self.0.remove_tree() {
            eprintln!("{error}");
        }
    }
}

#[test]
fn a_socket_is_known_by_its_cgroup() {
    let own = Own::new("owner");
    let level = u8::try_from(own.0.level()).unwrap();
    let id = u128::from(own.0.id().unwrap().0);
    let field = Field::SocketCgroup { level };
    let dispatch = |port: Field, map: &str| {
        rule([equal(port, 4000), Statement::Dispatch { fields: vec![field], mask: None, map: map.into() }])
    };
    let counting = |name: &str| chain(name, [rule([Statement::Count(name.to_owned()), verdict(Verdict::Accept)])]);
    let map =
        |name: &str, to_chain: &str| set(name, &[Kind::Cgroup], false, vec![to(&[id], Verdict::Goto(to_chain.into()))]);
    let ruleset = ruleset(vec![table(
        &["sent", "received", "other"],
        vec![map("senders", "sent"), map("receivers", "received")],
        vec![
            base("out", HookPoint::Output, true, [dispatch(Field::DestinationPort, "senders")]),
            base(
                "in",
                HookPoint::Input,
                true,
                [
                    dispatch(Field::SourcePort, "receivers"),
                    // The receiver of what goes there is outside the cgroup.
                    dispatch(Field::DestinationPort, "receivers"),
                    rule([equal(Field::DestinationPort, 4000), Statement::Count("other".into())]),
                ],
            ),
            counting("sent"),
            counting("received"),
        ],
    )]);
    let (namespace, mut kernel) = namespace();
    kernel.load(&ruleset, LoadOptions::default()).unwrap();
    let receiver = namespace.run(|| UdpSocket::bind("127.0.0.1:4000").unwrap()).unwrap();
    let sender = namespace.run(|| UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    let counted = |kernel: &mut sidewall_netfilter::Kernel| {
        let counters = kernel.counters().unwrap();
        ["sent", "received", "other"].map(|name| counters[name].packets)
    };
    // From a socket of this process, outside the cgroup, to another one.
    sender.send_to(b"x", "127.0.0.1:4000").unwrap();
    assert_eq!(counted(&mut kernel), [0, 0, 1]);
    receiver.recv(&mut [0; 8]).unwrap();
    // From inside the cgroup, and an answer back into it.
    receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let talk = format!(
        "echo $$ > {}/cgroup.procs && exec 3<>/dev/udp/127.0.0.1/4000 && echo x >&3 && read -t 10 <&3",
        own.0.path().display()
    );
    let output = std::thread::scope(|scope| {
        let bash = scope.spawn(|| inside(&namespace, "bash", &["-c", &talk]));
        let (_, from) = receiver.recv_from(&mut [0; 8]).unwrap();
        // One byte: bash reads no more of a datagram.
        receiver.send_to(b"\n", from).unwrap();
        bash.join().unwrap()
    });
    assert!(output.status.success(), "{output:?}");
    assert_eq!(counted(&mut kernel), [1, 1, 2]);
}
