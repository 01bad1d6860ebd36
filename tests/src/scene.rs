//! The pod that the attacks are about: an application, a proxy, a log shipper, and a container that may nothing.

use crate::lab::{self, By, Lab};
use crate::party::Maker;
use crate::sockets;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{SocketType, sockopt};
use serde_json::{Value, json};
use sidewall_api::{ContainerNetworkPolicy, read::read_policy};
use sidewall_flow::{ContainerId, Party, Protocol};
use sidewall_netns::Capability;
use sidewall_policy::model::{DeclaredPort, Identities};
use sidewall_policy::ruleset::{Generation, Ruleset};
use sidewall_policy::world::SubjectContainer;
use sidewall_policy::{Compiled, Subject, World, compile, resolve};
use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The application: the proxy may reach 8080, the shipper 8081; it may reach [`COLLECTORS`] on 7000.
pub const APP: u8 = 1;
/// The proxy: the network may reach 8443.
pub const PROXY: u8 = 2;
/// The log shipper: nobody may reach it; it may reach [`COLLECTORS`] on 7001.
pub const SHIPPER: u8 = 3;
/// May nothing: the attacker.
pub const MALLORY: u8 = 4;
/// The containers' names.
pub const NAMES: [&str; 4] = ["app", "proxy", "shipper", "mallory"];
/// The ports that each container declares, over TCP and UDP.
const DECLARED: [&[u16]; 4] = [&[8080, 8081], &[8443], &[9000], &[9100]];

/// Somebody on the network, in both families.
pub const COLLECTORS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 51, 100, 10)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10))];
/// A client on the network, in both families.
pub const CLIENTS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 5)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 5))];
/// Where the pod's own sockets are reached over loopback, in both families.
pub const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
/// The pod's own addresses, in both families.
pub const POD: [IpAddr; 2] = [lab::POD4, lab::POD6];
/// The transports that are tried.
pub const TRANSPORTS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// How long something that must happen may take.
pub const LIMIT: Duration = Duration::from_secs(5);

/// A lab in which policies are enforced.
pub struct Scene {
    /// The lab.
    pub lab: Lab,
    /// How containers are told apart.
    pub by: By,
    /// What was loaded last.
    pub loaded: Option<Ruleset>,
    program: PathBuf,
    last_port: Cell<u16>,
}

/// A policy of the scene's namespace that selects every pod.
///
/// # Panics
/// Where it is not valid: a test must not enforce something else than it says.
pub fn policy(name: &str, mut spec: Value) -> ContainerNetworkPolicy {
    spec["podSelector"] = json!({});
    let object = json!({
        "apiVersion": "sidewall.dev/v1alpha1",
        "kind": "ContainerNetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": spec,
    });
    read_policy(object).unwrap_or_else(|problems| panic!("{name}: {problems:?}")).object
}

/// Ports of both transports, as a policy names them.
pub fn ports(numbers: &[u16]) -> Value {
    let both = |port| [json!({"protocol": "TCP", "port": port}), json!({"protocol": "UDP", "port": port})];
    numbers.iter().flat_map(both).collect()
}

/// The policies of the scene, as the constants of the containers tell.
pub fn walls() -> Vec<ContainerNetworkPolicy> {
    let both = json!(["Ingress", "Egress"]);
    let collectors = json!([{"ipBlock": {"cidr": "198.51.100.0/24"}}, {"ipBlock": {"cidr": "2001:db8:1::/64"}}]);
    let world = json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]);
    vec![
        policy(
            "app",
            json!({
                "containers": ["app"], "policyTypes": both,
                "ingress": [
                    {"from": [{"container": "proxy"}], "ports": ports(&[8080])},
                    {"from": [{"container": "shipper"}], "ports": ports(&[8081])},
                ],
                "egress": [{"to": collectors, "ports": ports(&[7000])}],
            }),
        ),
        policy(
            "proxy",
            json!({
                "containers": ["proxy"], "policyTypes": both,
                "ingress": [{"from": world, "ports": ports(&[8443])}],
                "egress": [{"to": [{"container": "app"}], "ports": ports(&[8080])}],
            }),
        ),
        policy(
            "shipper",
            json!({
                "containers": ["shipper"], "policyTypes": both,
                "egress": [
                    {"to": collectors, "ports": ports(&[7001])},
                    {"to": [{"container": "app"}], "ports": ports(&[8081])},
                ],
            }),
        ),
        policy("mallory", json!({"containers": ["mallory"], "policyTypes": both})),
    ]
}

/// The scene's pod as policies see it, with its containers told apart in a way.
pub fn subject(identities: Identities) -> Subject {
    let declared = |ports: &[u16]| {
        let both = |port: &u16| TRANSPORTS.map(|protocol| DeclaredPort { name: None, protocol, port: *port });
        ports.iter().flat_map(both).collect()
    };
    let containers = NAMES.iter().zip(DECLARED).zip(1..).map(|((name, ports), number)| {
        let container =
            SubjectContainer { name: (*name).to_owned(), ports: declared(ports), ..SubjectContainer::default() };
        (id(number), container)
    });
    Subject {
        namespace: "shop".into(),
        name: "web".into(),
        labels: Default::default(),
        addresses: POD.to_vec(),
        interface: Some(lab::DEVICE.into()),
        containers: containers.collect(),
        identities,
        networks: Default::default(),
        link: None,
    }
}

impl Scene {
    /// A scene in which no rule has ever been loaded.
    pub fn bare(program: &str) -> Self {
        let lab = Lab::new(Path::new(program));
        Self { lab, by: By::Cgroup, loaded: None, program: program.into(), last_port: Cell::new(20_000) }
    }

    /// A scene whose [`walls`] stand, by cgroup.
    pub fn new(program: &str) -> Self {
        let mut scene = Self::bare(program);
        scene.stand(By::Cgroup);
        scene
    }

    /// Lets the [`walls`] stand.
    pub fn stand(&mut self, by: By) {
        self.by = by;
        self.enforce(&walls());
    }

    /// The pod as policies see it.
    pub fn subject(&self) -> Subject {
        subject(self.lab.identities(self.by, lab::CONTAINERS))
    }

    /// The policies' rules as a generation.
    pub fn compiled(&self, policies: &[ContainerNetworkPolicy], generation: Generation) -> Compiled {
        let world = World { policies: policies.to_vec(), ..World::default() };
        self.compiled_in(&world, generation)
    }

    fn compiled_in(&self, world: &World, generation: Generation) -> Compiled {
        compile(&resolve(world, &self.subject()), generation)
    }

    /// Enforces policies as the next generation.
    pub fn enforce(&mut self, policies: &[ContainerNetworkPolicy]) {
        self.enforce_in(&World { policies: policies.to_vec(), ..World::default() });
    }

    /// Enforces what there is in a world as the next generation.
    pub fn enforce_in(&mut self, world: &World) {
        let generation = self.lab.next_generation();
        let compiled = self.compiled_in(world, generation);
        self.lab.load(&compiled.ruleset);
        self.loaded = Some(compiled.ruleset);
    }

    /// Another process of a container, with capabilities.
    pub fn armed(&mut self, number: u8, capabilities: &[Capability]) -> Maker {
        let program = self.program.clone();
        self.lab.container(&program, id(number), capabilities).expect("a party can be started")
    }

    /// A process in a container's cgroup, or in no container's, under a user and group of one's choice.
    pub fn disguised(&mut self, number: Option<u8>, user: (u32, u32), capabilities: &[Capability]) -> Maker {
        let program = self.program.clone();
        self.lab.process(&program, number.map(id), user, capabilities).expect("a party can be started")
    }

    /// A process in the pods' cgroup that is no container's.
    pub fn stranger(&mut self, uid: u32) -> Maker {
        let program = self.program.clone();
        self.lab.stranger(&program, uid).expect("a party can be started")
    }

    /// A container's party.
    pub fn app(&self, number: u8) -> &Maker {
        self.lab.app(number)
    }

    /// Somebody on the network.
    pub fn outside(&self) -> &Maker {
        &self.lab.outside
    }

    /// The party of the node's own processes in the pod.
    pub fn node(&self) -> &Maker {
        self.lab.party(Party::Node)
    }

    /// A port that no flow of this scene had: the connection tracker remembers who used one.
    pub fn port(&self) -> u16 {
        self.last_port.set(self.last_port.get() + 1);
        self.last_port.get()
    }

    /// A socket's address at a fresh port.
    pub fn fresh(&self, address: IpAddr) -> SocketAddr {
        SocketAddr::new(address, self.port())
    }

    /// How often a packet was found to pretend to belong to another's flow.
    pub fn forged(&mut self) -> u64 {
        self.lab.counted("deny/forged")
    }

    /// How often a packet was refused that no policy can allow.
    pub fn improper(&mut self) -> u64 {
        self.lab.counted("deny/improper")
    }

    /// Does something and waits until the rules have denied a packet.
    ///
    /// # Panics
    /// Where they don't.
    pub fn denied<T>(&mut self, what: &str, act: impl FnOnce(&mut Self) -> T) -> T {
        self.counts(what, Lab::denials, act)
    }

    /// Does something and waits until a packet was found to be forged.
    ///
    /// # Panics
    /// Where none was.
    pub fn found_forged<T>(&mut self, what: &str, act: impl FnOnce(&mut Self) -> T) -> T {
        self.counts(what, |lab| lab.counted("deny/forged"), act)
    }

    /// Does something and waits until a packet was found to be improper.
    ///
    /// # Panics
    /// Where none was.
    pub fn found_improper<T>(&mut self, what: &str, act: impl FnOnce(&mut Self) -> T) -> T {
        self.counts(what, |lab| lab.counted("deny/improper"), act)
    }

    /// The counters that have counted anything since the last rules were loaded.
    pub fn moved(&mut self) -> String {
        let all = self.lab.kernel.counters().unwrap_or_default();
        let moved: Vec<_> = all.iter().filter(|(_, count)| count.packets > 0).collect();
        format!("{moved:?}")
    }

    fn counts<T>(&mut self, what: &str, count: fn(&mut Lab) -> u64, act: impl FnOnce(&mut Self) -> T) -> T {
        let before = count(&mut self.lab);
        let done = act(self);
        let until = Instant::now() + LIMIT;
        while count(&mut self.lab) == before {
            if Instant::now() > until {
                let all = self.lab.kernel.counters().expect("the counters can be read");
                let moved: Vec<_> = all.iter().filter(|(_, count)| count.packets > 0).collect();
                panic!("{:?}: {what}: no rule denied it; {moved:?}", self.by);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        done
    }

    /// Does something and says by how much that moved the denials.
    pub fn denials_during<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> (T, u64) {
        let before = self.lab.denials();
        let done = act(self);
        (done, self.lab.denials() - before)
    }

    /// Opens a flow that must pass, and sends data there and back.
    ///
    /// # Panics
    /// Where it does not pass.
    pub fn flow(&mut self, client: End<'_>, server: End<'_>, protocol: Protocol, to: SocketAddr) -> Flow {
        let source = if to.ip().is_ipv4() { "0.0.0.0" } else { "::" };
        let source = self.fresh(source.parse().expect("an address"));
        self.flow_from(client, server, protocol, source, to)
    }

    /// As [`Self::flow`], from an address.
    ///
    /// # Panics
    /// Where it does not pass.
    pub fn flow_from(
        &mut self,
        client: End<'_>,
        server: End<'_>,
        protocol: Protocol,
        source: SocketAddr,
        to: SocketAddr,
    ) -> Flow {
        let by = self.by;
        let flow = Flow::open(client.maker(self), server.maker(self), protocol, source, to);
        flow.unwrap_or_else(|error| {
            let all = self.lab.kernel.counters().unwrap_or_default();
            let moved: Vec<_> = all.iter().filter(|(_, count)| count.packets > 0).collect();
            panic!("{by:?}: {protocol} from {source} to {to}: {error}; {moved:?}")
        })
    }
}

/// Who stands at an end of a flow.
#[derive(Clone, Copy)]
pub enum End<'a> {
    /// A container.
    Container(u8),
    /// Somebody on the network.
    Outside,
    /// A process of the node in the pod's namespace.
    Node,
    /// A process that the test has started.
    Maker(&'a Maker),
}

impl<'a> End<'a> {
    fn maker<'s>(self, scene: &'s Scene) -> &'s Maker
    where
        'a: 's,
    {
        match self {
            Self::Container(number) => scene.app(number),
            Self::Outside => scene.outside(),
            Self::Node => scene.node(),
            Self::Maker(maker) => maker,
        }
    }
}

/// A container's number.
pub fn id(number: u8) -> ContainerId {
    ContainerId::try_from(number).expect("a container's number")
}

/// A live flow: both its ends are connected sockets.
pub struct Flow {
    /// Its transport.
    pub protocol: Protocol,
    /// The client's end.
    pub client: OwnedFd,
    /// The server's end.
    pub server: OwnedFd,
    /// Where the client is.
    pub from: SocketAddr,
    /// Where the server is.
    pub to: SocketAddr,
}

impl Flow {
    /// Opens a flow, and sends data there and back.
    ///
    /// # Errors
    /// Whatever stopped it.
    pub fn open(
        client: &Maker,
        server: &Maker,
        protocol: Protocol,
        source: SocketAddr,
        to: SocketAddr,
    ) -> Result<Self, String> {
        let listener = sockets::listen(server, protocol, to).map_err(|error| format!("listen: {error}"))?;
        let client = bound(client, protocol, source).map_err(|error| format!("bind: {error}"))?;
        let flow = Self::between(server, protocol, client, listener, to)?;
        flow.works()?;
        Ok(flow)
    }

    /// Connects a client's socket to a listening one, which is closed then.
    ///
    /// # Errors
    /// Whatever stopped it.
    pub fn between(
        server: &Maker,
        protocol: Protocol,
        client: OwnedFd,
        listener: OwnedFd,
        to: SocketAddr,
    ) -> Result<Self, String> {
        connect(&client, to).map_err(|error| format!("connect: {error}"))?;
        let own = |socket: &OwnedFd| {
            let name = rustix::net::getsockname(socket).map_err(|error| error.to_string())?;
            SocketAddr::try_from(name).map_err(|error| error.to_string())
        };
        let from = own(&client)?;
        if protocol == Protocol::Udp {
            rustix::net::connect(&listener, &from).map_err(|error| format!("connect back: {error}"))?;
            return Ok(Self { protocol, client, server: listener, from, to });
        }
        if !sockets::decided(&client, LIMIT).map_err(|error| error.to_string())? {
            return Err("the client neither connected nor failed".to_owned());
        }
        if let Some(error) = sockets::pending_error(&client).map_err(|error| error.to_string())? {
            return Err(format!("connect: {error}"));
        }
        sockets::readable(&listener, LIMIT).map_err(|error| error.to_string())?;
        let accepted = server.accept(&listener).map_err(|error| format!("accept: {error}"))?;
        Ok(Self { protocol, client, server: accepted, from, to })
    }

    /// Sends data from the client to the server and back.
    ///
    /// # Errors
    /// What did not arrive, and why.
    pub fn works(&self) -> Result<(), String> {
        carries(&self.client, &self.server, b"there").map_err(|error| format!("client to server: {error}"))?;
        carries(&self.server, &self.client, b"and back").map_err(|error| format!("server to client: {error}"))
    }
}

/// A socket of a party, bound to an address.
///
/// # Errors
/// The system's.
pub fn bound(maker: &Maker, protocol: Protocol, at: SocketAddr) -> io::Result<OwnedFd> {
    let kind = if protocol == Protocol::Udp { SocketType::DGRAM } else { SocketType::STREAM };
    let socket = maker.socket(sockets::family(at.ip()), kind, 0)?;
    if protocol == Protocol::Tcp {
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    }
    sockopt::set_ip_freebind(&socket, true)?;
    sockets::when_free(|| Ok(rustix::net::bind(&socket, &at)?))?;
    Ok(socket)
}

/// Begins to connect.
///
/// # Errors
/// The system's.
pub fn connect(socket: &OwnedFd, to: SocketAddr) -> io::Result<()> {
    match rustix::net::connect(socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Sends data on one connected socket and receives it on another.
///
/// # Errors
/// What happened instead.
pub fn carries(from: &OwnedFd, to: &OwnedFd, data: &[u8]) -> Result<(), String> {
    sockets::send(from, data).map_err(|error| format!("send: {error}"))?;
    match heard(to) {
        Ok(Some(got)) if got == data => Ok(()),
        Ok(Some(got)) => Err(format!("{:?} arrived", String::from_utf8_lossy(&got))),
        Ok(None) => Err("nothing arrived".to_owned()),
        Err(error) => Err(format!("receive: {error}")),
    }
}

/// What arrives within [`LIMIT`].
///
/// # Errors
/// The socket's.
pub fn heard(socket: &OwnedFd) -> io::Result<Option<Vec<u8>>> {
    sockets::readable(socket, LIMIT)?;
    sockets::arrived(socket)
}

/// Fails the test where something has arrived at a socket.
///
/// # Panics
/// Where something has.
pub fn assert_silent(socket: &OwnedFd, what: &str) {
    // The end of a stream is nothing.
    if let Ok(Some(data)) = sockets::arrived(socket)
        && !data.is_empty()
    {
        panic!("{what}: {:?} arrived", String::from_utf8_lossy(&data));
    }
}

/// A datagram sent to an address without connecting.
///
/// # Errors
/// The system's: a refusal is one.
pub fn send_to(socket: &OwnedFd, data: &[u8], to: SocketAddr) -> io::Result<()> {
    rustix::net::sendto(socket, data, rustix::net::SendFlags::NOSIGNAL, &to)?;
    Ok(())
}

/// A bound UDP socket where another's was until now, beside which it could stand: it waits until that is gone.
///
/// # Errors
/// The system's.
pub fn take_left(maker: &Maker, at: SocketAddr) -> io::Result<OwnedFd> {
    drop(bound(maker, Protocol::Udp, at)?);
    sockets::listen(maker, Protocol::Udp, at)
}
