//! A cluster as there are many: namespaces of teams, Deployments, Services, and what runs beside them.
//!
//! Only what tells objects apart is held here; the objects are made when they are asked for, so that a process that
//! measures its memory holds nothing but what it measures.

use sidewall_flow::{ContainerId, Protocol};
use sidewall_policy::model::{DeclaredPort, Identities};
use sidewall_policy::testing::Draw;
use sidewall_policy::world::{Labels, Network, Pod, Service, ServicePort, Subject, SubjectContainer};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How large, and of what seed.
#[derive(Clone, Debug, clap::Args)]
pub struct Size {
    /// Pods with an address of their own
    #[arg(long, default_value_t = 10_000)]
    pub pods: usize,
    /// Policies of all kinds
    #[arg(long, default_value_t = 1_000)]
    pub policies: usize,
    /// Namespaces
    #[arg(long, default_value_t = 120)]
    pub namespaces: usize,
    /// Pods on the measured node
    #[arg(long, default_value_t = 250)]
    pub local: usize,
    /// IPv6 addresses too
    #[arg(long)]
    pub dual_stack: bool,
    /// A Prometheus that scrapes every pod of the cluster runs on the measured node
    #[arg(long)]
    pub scraper: bool,
    /// What the cluster is drawn from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Replicas that have the same labels, ports and Service.
pub struct Workload {
    pub namespace: usize,
    pub app: String,
    pub tier: &'static str,
    version: u8,
    hash: u64,
    /// The port `http`: not the same everywhere.
    http: u16,
    sidecars: &'static [&'static str],
}

/// A pod: its workload and where it runs.
#[derive(Clone)]
pub struct Replica {
    pub workload: usize,
    pub number: usize,
    pub node: usize,
    /// Its place in its node's range of addresses.
    pub host: usize,
    /// A label that it has beyond its workload's.
    pub marked: bool,
}

/// A cluster.
pub struct Cluster {
    pub size: Size,
    pub namespaces: Vec<String>,
    pub workloads: Vec<Workload>,
    pub replicas: Vec<Replica>,
    pub nodes: usize,
    hosts: Vec<usize>,
}

/// Namespaces that are everywhere; teams have the others.
pub const COMMON: [&str; 4] = ["kube-system", "monitoring", "logging", "ingress"];
/// The place of `monitoring` among them.
pub const MONITORING: usize = 1;
pub const TIERS: [&str; 4] = ["frontend", "backend", "worker", "data"];
pub const STAGES: [&str; 3] = ["production", "staging", "development"];
const TEAMS: usize = 24;
/// How many replicas Deployments have: mostly few.
const REPLICAS: [usize; 20] = [1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 5, 5, 6, 8, 10, 15, 25, 50];
const SIDECARS: [&[&str]; 5] = [
    &["log-shipper"],
    &["front-proxy", "log-shipper"],
    &["metrics"],
    &["front-proxy", "log-shipper", "metrics"],
    &["log-shipper", "metrics"],
];
const HTTP: [u16; 4] = [8080, 8080, 8000, 3000];
const DNS: u16 = 53;

impl Cluster {
    /// Draws a cluster.
    pub fn new(size: &Size) -> Self {
        let mut draw = Draw::new(size.seed);
        let teams = size.namespaces.max(COMMON.len() + 1) - COMMON.len();
        let mut namespaces: Vec<String> = COMMON.map(str::to_owned).to_vec();
        namespaces.extend((0..teams).map(|i| format!("team-{:02}-{}", i % TEAMS, i / TEAMS)));
        let nodes = size.pods.div_ceil(size.local.max(1)).max(1);
        let mut cluster = Self {
            size: size.clone(),
            namespaces,
            workloads: Vec::new(),
            replicas: Vec::new(),
            nodes,
            hosts: vec![0; nodes],
        };
        cluster.fill(&mut draw);
        cluster
    }

    fn fill(&mut self, draw: &mut Draw) {
        // What the cluster itself runs, scaled with it.
        let common = [
            (0, "coredns", (self.nodes / 4).max(2)),
            (MONITORING, "prometheus", 2),
            (MONITORING, "grafana", 2),
            (2, "fluentd", self.nodes),
            (3, "ingress-nginx", (self.nodes / 6).max(2)),
        ];
        let mut wanted: Vec<usize> = Vec::new();
        for (namespace, app, replicas) in common {
            let workload = self.workload(draw, namespace, app.to_owned());
            wanted.extend(std::iter::repeat_n(workload, replicas));
        }
        // The sizes of namespaces fall as in a list of cities by size: some have hundreds of pods, most have few.
        let teams = self.namespaces.len() - COMMON.len();
        let weights: Vec<f64> = (0..teams).map(|rank| 1.0 / (rank as f64 + 3.0)).collect();
        let sum: f64 = weights.iter().sum();
        let left = self.size.pods.saturating_sub(wanted.len());
        for (rank, weight) in weights.iter().enumerate() {
            let mut pods = ((left as f64 * weight / sum) as usize).max(1);
            let mut number = 0;
            while pods > 0 {
                let workload = self.workload(draw, COMMON.len() + rank, format!("app-{number}"));
                number += 1;
                let replicas = (*draw.pick(&REPLICAS)).min(pods);
                pods -= replicas;
                wanted.extend(std::iter::repeat_n(workload, replicas));
            }
        }
        wanted.truncate(self.size.pods);
        // The scheduler spreads them.
        let mut places: Vec<usize> = (0..wanted.len()).map(|i| i % self.nodes).collect();
        draw.shuffle(&mut places);
        // What scrapes everything is on the measured node, or is not, but by chance.
        let scrapers = wanted.iter().enumerate().filter(|(_, id)| self.workloads[**id].app == "prometheus");
        let scrapers: Vec<usize> = scrapers.map(|(place, _)| place).collect();
        for (number, scraper) in scrapers.iter().copied().enumerate() {
            let here = self.size.scraper && number == 0;
            let other = (0..places.len()).find(|i| (places[*i] == 0) == here && !scrapers.contains(i));
            if let Some(other) = other.filter(|_| (places[scraper] == 0) != here) {
                places.swap(scraper, other);
            }
        }
        for (workload, node) in wanted.into_iter().zip(places) {
            self.add(workload, node);
        }
    }

    fn workload(&mut self, draw: &mut Draw, namespace: usize, app: String) -> usize {
        self.workloads.push(Workload {
            namespace,
            app,
            tier: TIERS[draw.below(TIERS.len())],
            version: 1 + draw.below(4) as u8,
            hash: draw.number() & 0xff_ffff_ffff,
            http: *draw.pick(&HTTP),
            sidecars: SIDECARS[draw.below(SIDECARS.len())],
        });
        self.workloads.len() - 1
    }

    /// One more replica of a workload, on a node.
    pub fn add(&mut self, workload: usize, node: usize) -> &Replica {
        let host = self.hosts[node];
        self.hosts[node] += 1;
        self.replicas.push(Replica { workload, number: self.replicas.len(), node, host, marked: false });
        &self.replicas[self.replicas.len() - 1]
    }

    /// The labels of a namespace.
    pub fn namespace_labels(&self, namespace: usize) -> Labels {
        let team =
            if namespace < COMMON.len() { "platform".to_owned() } else { format!("team-{:02}", namespace % TEAMS) };
        let stage = STAGES[namespace % STAGES.len()];
        [("team", team), ("stage", stage.to_owned())].map(|(key, value)| (key.to_owned(), value)).into()
    }

    /// Where things are.
    pub fn network(&self) -> Network {
        let net = |text: &str| text.parse::<ipnet::IpNet>().ok();
        let nets = |texts: &[&str]| texts.iter().filter_map(|text| net(text)).collect();
        Network {
            services: nets(&["10.96.0.0/12", "fd00:96::/108"]),
            pods: nets(&["10.128.0.0/10", "fd00:128::/32"]),
            nodes: (0..self.nodes).map(node_address).collect(),
            this_node: BTreeSet::from([node_address(0)]),
            dns: BTreeSet::new(),
        }
    }

    /// A pod as others see it.
    pub fn pod(&self, replica: &Replica) -> Pod {
        let workload = &self.workloads[replica.workload];
        Pod {
            namespace: self.namespaces[workload.namespace].clone(),
            name: self.pod_name(replica),
            labels: self.labels(replica),
            addresses: self.addresses(replica),
            ports: workload.containers().flat_map(|(_, ports)| ports).collect(),
            ..Pod::default()
        }
    }

    /// The pods that share their node's network.
    pub fn host_pods(&self) -> impl Iterator<Item = Pod> + '_ {
        (0..self.nodes).flat_map(|node| {
            ["kube-proxy", "cni"].map(|app| Pod {
                namespace: COMMON[0].to_owned(),
                name: format!("{app}-{node}"),
                labels: [("app".to_owned(), app.to_owned())].into(),
                addresses: vec![node_address(node)],
                host_network: true,
                ..Pod::default()
            })
        })
    }

    pub fn pod_name(&self, replica: &Replica) -> String {
        let workload = &self.workloads[replica.workload];
        format!("{}-{:010x}-{:05}", workload.app, workload.hash, replica.number)
    }

    fn labels(&self, replica: &Replica) -> Labels {
        let workload = &self.workloads[replica.workload];
        let team = self.namespace_labels(workload.namespace).remove("team").unwrap_or_default();
        let mut labels: Labels = [
            ("app", workload.app.clone()),
            ("tier", workload.tier.to_owned()),
            ("version", format!("v{}", workload.version)),
            ("team", team),
            ("pod-template-hash", format!("{:010x}", workload.hash)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        if replica.marked {
            labels.insert("canary".to_owned(), "true".to_owned());
            labels.insert("version".to_owned(), "v9".to_owned());
        }
        labels
    }

    fn addresses(&self, replica: &Replica) -> Vec<IpAddr> {
        // A node has a /23, or a /64.
        let (node, host) = (replica.node as u32, replica.host as u32 % 510 + 1);
        let v4 = Ipv4Addr::from_bits(Ipv4Addr::new(10, 128, 0, 0).to_bits() + node * 512 + host);
        let v6 = Ipv6Addr::new(0xfd00, 0x128, 0, node as u16, 0, 0, 0, host as u16);
        let mut addresses = vec![IpAddr::V4(v4)];
        addresses.extend(self.size.dual_stack.then_some(IpAddr::V6(v6)));
        addresses
    }

    /// A workload's Service, with its replicas behind it.
    pub fn service(&self, workload: usize, replicas: &[&Replica]) -> Service {
        let Workload { namespace, app, .. } = &self.workloads[workload];
        let dns = app == "coredns";
        let number = workload as u32 + 16;
        let v4 = Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 0, 0).to_bits() + number);
        let mut addresses = vec![IpAddr::V4(v4)];
        let v6 = Ipv6Addr::from_bits(Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0).to_bits() + u128::from(number));
        addresses.extend(self.size.dual_stack.then_some(IpAddr::V6(v6)));
        let behind = |port| -> BTreeSet<(IpAddr, Option<u16>)> {
            let addresses = replicas.iter().flat_map(|replica| self.addresses(replica));
            addresses.map(|address| (address, Some(port))).collect()
        };
        let ports = if dns {
            [Protocol::Udp, Protocol::Tcp]
                .map(|protocol| ServicePort { port: Some((protocol, DNS)), endpoints: behind(DNS) })
                .to_vec()
        } else {
            let http = self.workloads[workload].http;
            vec![ServicePort { port: Some((Protocol::Tcp, 80)), endpoints: behind(http) }]
        };
        let name = if dns { "kube-dns" } else { app };
        Service {
            namespace: self.namespaces[*namespace].clone(),
            name: name.to_owned(),
            addresses,
            ports,
            ..Service::default()
        }
    }

    /// A pod of the measured node, its containers in the cgroups of a start.
    pub fn subject(&self, replica: &Replica, start: u64) -> Subject {
        let Pod { namespace, name, labels, addresses, .. } = self.pod(replica);
        let workload = &self.workloads[replica.workload];
        let ids = (1..).filter_map(|number| ContainerId::try_from(number).ok());
        let containers: BTreeMap<ContainerId, SubjectContainer> = ids
            .zip(workload.containers())
            .map(|(id, (name, ports))| {
                let probes = if name == "app" { BTreeSet::from([workload.http]) } else { BTreeSet::new() };
                (id, SubjectContainer { name: name.to_owned(), ports, probes })
            })
            .collect();
        let first = 10_000 + replica.number as u64 * 64;
        let cgroup = |id: &ContainerId| first + u64::from(id.get()) * 8 + if id.get() == 1 { start % 8 } else { 0 };
        let identities = Identities::Cgroup {
            level: 5,
            containers: containers.keys().map(|id| (*id, BTreeSet::from([cgroup(id)]))).collect(),
            pods_level: 2,
            pods: 2_000,
        };
        Subject {
            namespace,
            name,
            labels,
            addresses,
            interface: Some(crate::node::DEVICE.to_owned()),
            containers,
            identities,
            networks: Default::default(),
            link: None,
        }
    }
}

impl Workload {
    fn containers(&self) -> impl Iterator<Item = (&'static str, Vec<DeclaredPort>)> {
        let port = |name: &str, protocol, port| DeclaredPort { name: Some(name.to_owned()), protocol, port };
        let app = if self.app == "coredns" {
            vec![
                port("dns", Protocol::Udp, DNS),
                port("dns-tcp", Protocol::Tcp, DNS),
                port("metrics", Protocol::Tcp, 9153),
            ]
        } else {
            vec![port("http", Protocol::Tcp, self.http), port("metrics", Protocol::Tcp, 9090)]
        };
        let sidecars = self.sidecars.iter().map(move |name| {
            let ports = match *name {
                "front-proxy" => vec![port("https", Protocol::Tcp, 8443)],
                "metrics" => vec![port("exporter", Protocol::Tcp, 9100)],
                _ => Vec::new(),
            };
            (*name, ports)
        });
        std::iter::once(("app", app)).chain(sidecars)
    }
}

fn node_address(node: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + node as u32))
}
