//! Namespaces and links against the real kernel. Needs root.

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use common::need_root;
use sidewall_netns::{Error, Links, NetNs, sysctl};

#[test]
fn a_namespace_is_new_unnamed_and_known_by_device_and_inode() {
    need_root();
    let ns = NetNs::new().unwrap();
    let here = NetNs::current().unwrap();
    assert_ne!(ns.id(), here.id());
    assert_eq!(ns.try_clone().unwrap().id(), ns.id());
    assert_eq!(NetNs::from_pid(std::process::id()).unwrap().id(), here.id());
    let inside = ns.run(|| NetNs::current().unwrap().id()).unwrap();
    assert_eq!(inside, ns.id());
    assert_eq!(NetNs::current().unwrap().id(), here.id(), "the caller's thread never moved");
    let names: Vec<_> = Links::of(&ns).unwrap().links().unwrap().into_iter().map(|l| l.name).collect();
    assert!(names.contains(&"lo".to_owned()) && !names.contains(&"eth0".to_owned()), "{names:?}");
}

#[test]
fn a_panic_inside_is_an_error_and_the_next_run_works() {
    need_root();
    let ns = NetNs::new().unwrap();
    let result = ns.run(|| -> u32 { panic!("told you {}", 7) });
    assert!(matches!(&result, Err(Error::Panicked(text)) if text == "told you 7"), "{result:?}");
    assert_eq!(ns.run(|| 5).unwrap(), 5);
}

#[test]
fn what_is_not_a_network_namespace_is_refused() {
    for path in ["/proc/self/ns/uts", "/proc/self/status", "/dev/null"] {
        assert!(matches!(NetNs::from_path(path), Err(Error::NotANetNs(_))), "{path}");
    }
    assert!(matches!(NetNs::from_path("/proc/self/ns/none"), Err(Error::OpenNs { .. })));
}

#[test]
fn sockets_keep_their_namespace() {
    need_root();
    let ns = NetNs::new().unwrap();
    Links::of(&ns).unwrap().set_up("lo").unwrap();
    let listener = ns.run(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
    let at = listener.local_addr().unwrap();
    assert!(TcpStream::connect(at).is_err(), "the port is not open out here");
    ns.run(|| TcpStream::connect(at).unwrap().write_all(b"hi").unwrap()).unwrap();
    let mut text = String::new();
    listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hi");
}

#[test]
fn two_namespaces_joined_by_a_veth_talk_over_both_families() {
    need_root();
    let (a, b) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    let (mut at_a, mut at_b) = (Links::of(&a).unwrap(), Links::of(&b).unwrap());
    at_a.add_veth("first", &b, "eth0").unwrap();
    at_a.rename("first", "to-b").unwrap();
    for (links, name, v4, v6) in
        [(&mut at_a, "to-b", "10.9.0.1/30", "fd09::1/126"), (&mut at_b, "eth0", "10.9.0.2/30", "fd09::2/126")]
    {
        links.set_up("lo").unwrap();
        links.add_address(name, v4.parse().unwrap()).unwrap();
        links.add_address(name, v6.parse().unwrap()).unwrap();
        links.set_up(name).unwrap();
    }
    at_b.add_route("0.0.0.0/0".parse().unwrap(), Some("10.9.0.1".parse().unwrap()), "eth0").unwrap();
    at_b.add_route("::/0".parse().unwrap(), Some("fd09::1".parse().unwrap()), "eth0").unwrap();

    at_a.wait_operational("to-b", Duration::from_secs(10)).unwrap();
    at_b.wait_operational("eth0", Duration::from_secs(10)).unwrap();

    for ip in ["10.9.0.2", "fd09::2"] {
        let ip: IpAddr = ip.parse().unwrap();
        let listener = b.run(|| TcpListener::bind(SocketAddr::new(ip, 0))).unwrap().unwrap();
        let at = listener.local_addr().unwrap();
        let stream = a.run(|| TcpStream::connect(at)).unwrap().unwrap();
        assert_eq!(listener.accept().unwrap().1, stream.local_addr().unwrap());
    }

    let addresses = at_b.addresses().unwrap();
    let eth0 = at_b.index("eth0").unwrap();
    assert!(addresses.contains(&(eth0, "10.9.0.2/30".parse().unwrap())), "{addresses:?}");
    assert!(addresses.contains(&(eth0, "fd09::2/126".parse().unwrap())), "{addresses:?}");
    let routes = at_b.routes().unwrap();
    for (to, by) in [("0.0.0.0/0", "10.9.0.1"), ("::/0", "fd09::1")] {
        let found = routes.iter().any(|r| {
            r.destination == to.parse().unwrap() && r.gateway == Some(by.parse().unwrap()) && r.link == Some(eth0)
        });
        assert!(found, "{to} in {routes:?}");
    }

    let taken = at_a.add_veth("to-b", &b, "eth1").unwrap_err();
    assert_eq!(taken.errno(), Some(libc::EEXIST), "{taken}");
    at_a.delete("to-b").unwrap();
    assert!(matches!(at_a.index("to-b"), Err(Error::NoLink(_))));
    assert!(matches!(at_b.index("eth0"), Err(Error::NoLink(_))), "the other end goes with it");
}

#[test]
fn sysctls_are_those_of_the_namespace() {
    need_root();
    let key = "net.ipv4.ip_unprivileged_port_start";
    let here = NetNs::current().unwrap();
    let before = sysctl::get(&here, key).unwrap();
    let ns = NetNs::new().unwrap();
    sysctl::set(&ns, key, "79").unwrap();
    assert_eq!(sysctl::get(&ns, key).unwrap(), "79");
    assert_eq!(sysctl::get(&here, key).unwrap(), before);
}

#[test]
fn a_spawned_thread_stays_inside() {
    need_root();
    let ns = NetNs::new().unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    ns.spawn("inside", move || send.send(NetNs::current().unwrap().id()).unwrap()).unwrap().join().unwrap();
    assert_eq!(receive.recv().unwrap(), ns.id());
}
