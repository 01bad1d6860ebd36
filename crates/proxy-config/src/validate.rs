//! What a configuration must keep beyond its shape. All problems are found at once, each with the path of its field.

mod certificates;
mod own_ports;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::listener::{Basic, Listener, Protocol, Tls};
use crate::source::{SourceFault, TlsSource, UsersSource};
use crate::{Limits, ProxyConfig, Timeouts};

/// The longest realm, in characters.
const MAX_REALM: usize = 200;

/// Which of the two forms a configuration has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A configuration file: certificates and users are files.
    File,
    /// The `spec` of a SidecarProxy: certificates and users are Secrets.
    Cluster,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {fault}")]
pub struct Problem {
    /// The field, as `listeners[0].tls.certFile`.
    pub path: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What can be wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is no listener.
    #[error("at least one listener is needed")]
    NoListener,
    /// A port is 0.
    #[error("0 is not a port; use 1 to 65535")]
    PortZero,
    /// Two listeners want the same port.
    #[error("port {port} is already taken by {by}; give each listener an address and port of its own")]
    PortTaken {
        /// The port.
        port: u16,
        /// The other listener's path.
        by: String,
    },
    /// A listener would receive what the proxy itself forwards.
    #[error(
        "the proxy would forward to {listener}, a listener of its own; let the application listen on another port, or \
         set that listener's address to the pod's own"
    )]
    Loop {
        /// The listener's path.
        listener: String,
    },
    /// A protocol that this version does not speak.
    #[error("{protocol:?} is not supported yet; only HTTP is")]
    Protocol {
        /// The protocol.
        protocol: Protocol,
    },
    /// Nothing says who may pass.
    #[error("nothing authenticates requests here; add an entry, or say `anonymous: true` to let everybody in")]
    Open,
    /// The listener authenticates and does not.
    #[error("`anonymous: true` contradicts `authentication`; remove one of them")]
    OpenAndClosed,
    /// An entry without a method.
    #[error("the entry names no method; use `basic`")]
    NoMethod,
    /// A second Basic block would never be asked.
    #[error("a listener can have one `basic` entry; put all users into one htpasswd file")]
    SecondBasic,
    /// A field that excludes another.
    #[error("cannot stand beside `{other}`; remove one of them")]
    Excludes {
        /// The other field.
        other: &'static str,
    },
    /// A field that another one needs.
    #[error("is needed because `{other}` is set")]
    NeededBy {
        /// The other field.
        other: &'static str,
    },
    /// A block without a certificate.
    #[error("names no certificate; a configuration file has `certFile` and `keyFile`, a SidecarProxy `secretName`")]
    NoCertificate,
    /// A block without users.
    #[error("names no users; a configuration file has `htpasswdFile`, a SidecarProxy `secretName` and `key`")]
    NoUsers,
    /// A Secret in a configuration file.
    #[error("a configuration file cannot name a Secret; use `{instead}`")]
    SecretInFile {
        /// The fields to use.
        instead: &'static str,
    },
    /// A file name in a SidecarProxy.
    #[error("a SidecarProxy cannot name a file; use `{instead}`")]
    FileInCluster {
        /// The fields to use.
        instead: &'static str,
    },
    /// A certificate to be made for a configuration file.
    #[error("is made in a cluster only; in a configuration file, name the files alone")]
    CertificateInFile,
    /// What no certificate can bear.
    #[error(
        "is no DNS name: a-z, 0-9 and -, with dots between its labels, at most {} characters; the first label may be `*`",
        crate::DNS_NAME_MAX
    )]
    DnsName,
    /// A name that the operator's own authority must not sign.
    #[error(
        "is not signed by the operator's own authority, which signs names of the namespace's own Services only \
         (NAME.NAMESPACE.svc, NAME.NAMESPACE.svc.cluster.local and localhost); use such a name, or `source: CertManager`"
    )]
    ForeignDnsName,
    /// Two different certificates in one Secret.
    #[error("is not what {other} asks for in the same Secret; ask for the same, or name another Secret")]
    OtherCertificate {
        /// The other's path.
        other: String,
    },
    /// Users in a Secret that holds a certificate of ours.
    #[error("is the Secret that the operator keeps for {by}, which holds a certificate and nothing else; name another")]
    KeptSecret {
        /// The path of the certificate.
        by: String,
    },
    /// An empty name.
    #[error("is empty")]
    Empty,
    /// A realm that cannot stand in a header.
    #[error("must be 1 to {MAX_REALM} characters, none of them a control character")]
    Realm,
    /// Something that must be said once.
    #[error("is there already; remove one of them")]
    Twice,
    /// A list of the wrong length.
    #[error("has {count} entries; {min} to {max} are allowed")]
    Count {
        /// How many there are.
        count: usize,
        /// The fewest.
        min: usize,
        /// The most.
        max: usize,
    },
    /// A captured port behind which there is no listener.
    #[error("no listener forwards to port {port}; captured traffic is treated as that listener's, so add one")]
    NobodyForwards {
        /// The captured port.
        port: u16,
    },
    /// Targets in a SidecarProxy.
    #[error("a SidecarProxy cannot name targets; the operator takes them from the pod's probes")]
    TargetsInCluster,
    /// A name that no container can have.
    #[error("is no container name: 1 to 63 of a-z, 0-9 and -, a letter or digit at both ends")]
    ContainerName,
    /// A hook that anybody could call.
    #[error("a hook needs a key, or whoever reaches the port could call it; draw 20 or more characters at random")]
    NoHookKey,
    /// A probe with a key.
    #[error("is for hooks alone; remove it")]
    KeyOfProbe,
    /// A key that will not do. Not quoted.
    #[error("must be {} to {} of a-z, A-Z, 0-9, - and _", crate::HookKey::MIN, crate::HookKey::MAX)]
    HookKey,
    /// A target that says nothing, or too much.
    #[error("needs exactly one of `httpGet`, `tcpSocket` and `grpc`")]
    OneWay,
    /// A hook that Kubernetes does not know.
    #[error("a hook is an `httpGet`")]
    HookWay,
    /// A probe of a port of the proxy itself.
    #[error("is a port of the proxy itself, which says nothing of the application; name the application's")]
    AsksItself,
    /// A probe of another machine.
    #[error("is not of this pod; leave a probe of another host to the kubelet, or use `localhost`")]
    ForeignHost,
    /// A header's name.
    #[error("is no header name")]
    HeaderName,
    /// A text that is too long, or not one. Not quoted.
    #[error("must have at most {max} octets, none of them a control character")]
    Text {
        /// The most octets.
        max: usize,
    },
    /// A number out of its bounds.
    #[error("{value} is out of bounds; use {min} to {max}")]
    Bounds {
        /// What was given.
        value: u32,
        /// The least.
        min: u32,
        /// The most.
        max: u32,
    },
}

/// Every problem of a configuration, in the order of its fields. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The problems, in the order of the fields.
    pub fn as_slice(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl ProxyConfig {
    /// Checks what the shape alone cannot say.
    ///
    /// # Errors
    ///
    /// All problems at once, each with the path of its field.
    pub fn validate(&self, form: Form) -> Result<(), Problems> {
        let mut checker = Checker { form, problems: Vec::new() };
        checker.config(self);
        if checker.problems.is_empty() { Ok(()) } else { Err(Problems(checker.problems)) }
    }
}

struct Checker {
    form: Form,
    problems: Vec<Problem>,
}

impl Checker {
    fn add(&mut self, path: impl Into<String>, fault: Fault) {
        self.problems.push(Problem { path: path.into(), fault });
    }

    fn config(&mut self, config: &ProxyConfig) {
        if config.listeners.is_empty() {
            self.add("listeners", Fault::NoListener);
        }
        let mut taken: BTreeMap<u16, Vec<(Option<IpAddr>, usize)>> = BTreeMap::new();
        for (index, listener) in config.listeners.iter().enumerate() {
            let path = format!("listeners[{index}]");
            if listener.port == 0 {
                self.add(format!("{path}.port"), Fault::PortZero);
            } else {
                let others = taken.entry(listener.port).or_default();
                let clash = others.iter().find(|(address, _)| overlap(*address, listener.address));
                if let Some((_, by)) = clash {
                    self.add(
                        format!("{path}.port"),
                        Fault::PortTaken { port: listener.port, by: format!("listeners[{by}]") },
                    );
                }
                others.push((listener.address, index));
            }
            self.listener(&path, listener, config);
        }
        self.certificates(config);
        self.limits(&config.limits);
        self.timeouts(&config.timeouts);
        self.own_ports(config);
    }

    fn listener(&mut self, path: &str, listener: &Listener, config: &ProxyConfig) {
        let forward = &listener.forward;
        if forward.port == 0 {
            self.add(format!("{path}.forward.port"), Fault::PortZero);
        }
        // A listener on every address also receives what is sent to 127.0.0.1, where the proxy forwards to.
        let own = config.listeners.iter().position(|other| {
            other.port == forward.port && overlap(other.address, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)))
        });
        if let (Some(own), true) = (own, forward.port != 0) {
            self.add(format!("{path}.forward.port"), Fault::Loop { listener: format!("listeners[{own}]") });
        }
        if forward.protocol != Protocol::Http {
            self.add(format!("{path}.forward.protocol"), Fault::Protocol { protocol: forward.protocol });
        }
        if let Some(tls) = &listener.tls {
            self.tls(&format!("{path}.tls"), tls);
        }
        match (listener.anonymous, listener.authentication.is_empty()) {
            (false, true) => self.add(format!("{path}.authentication"), Fault::Open),
            (true, false) => self.add(format!("{path}.anonymous"), Fault::OpenAndClosed),
            _ => {}
        }
        let mut basics = 0;
        for (index, authentication) in listener.authentication.iter().enumerate() {
            let path = format!("{path}.authentication[{index}]");
            let Some(basic) = &authentication.basic else {
                self.add(path, Fault::NoMethod);
                continue;
            };
            basics += 1;
            if basics > 1 {
                self.add(format!("{path}.basic"), Fault::SecondBasic);
            }
            self.basic(&format!("{path}.basic"), basic);
        }
    }

    fn tls(&mut self, path: &str, tls: &Tls) {
        match tls.source() {
            Err(fault) => self.source_fault(path, fault),
            Ok(TlsSource::Secret { name }) => {
                self.form_is(Form::Cluster, &format!("{path}.secretName"), "certFile` and `keyFile");
                self.not_empty(&format!("{path}.secretName"), name);
            }
            Ok(TlsSource::Files { cert, key }) => {
                self.form_is(Form::File, &format!("{path}.certFile"), "secretName");
                self.not_empty(&format!("{path}.certFile"), cert);
                self.not_empty(&format!("{path}.keyFile"), key);
            }
        }
    }

    fn basic(&mut self, path: &str, basic: &Basic) {
        match basic.source() {
            Err(fault) => self.source_fault(path, fault),
            Ok(UsersSource::Secret { name, key }) => {
                self.form_is(Form::Cluster, &format!("{path}.secretName"), "htpasswdFile");
                self.not_empty(&format!("{path}.secretName"), name);
                self.not_empty(&format!("{path}.key"), key);
            }
            Ok(UsersSource::File(file)) => {
                self.form_is(Form::File, &format!("{path}.htpasswdFile"), "secretName` and `key");
                self.not_empty(&format!("{path}.htpasswdFile"), file);
            }
        }
        let length = basic.realm.chars().count();
        if length == 0 || length > MAX_REALM || basic.realm.chars().any(char::is_control) {
            self.add(format!("{path}.realm"), Fault::Realm);
        }
    }

    fn source_fault(&mut self, path: &str, SourceFault { field, fault }: SourceFault) {
        let dot = if field.is_empty() { "" } else { "." };
        self.add(format!("{path}{dot}{field}"), fault);
    }

    /// Says that the form that was used belongs to the other kind of configuration.
    fn form_is(&mut self, needed: Form, path: &str, instead: &'static str) {
        match (needed, self.form) {
            (Form::Cluster, Form::File) => self.add(path, Fault::SecretInFile { instead }),
            (Form::File, Form::Cluster) => self.add(path, Fault::FileInCluster { instead }),
            _ => {}
        }
    }

    fn not_empty(&mut self, path: &str, value: &str) {
        if value.is_empty() {
            self.add(path, Fault::Empty);
        }
    }

    fn bounds(&mut self, path: String, value: u32, min: u32, max: u32) {
        if !(min..=max).contains(&value) {
            self.add(path, Fault::Bounds { value, min, max });
        }
    }

    fn limits(&mut self, limits: &Limits) {
        for (field, value, min, max) in [
            ("headerBytes", limits.header_bytes, 1024, 1 << 20),
            ("headers", limits.headers, 8, 1000),
            ("connectionsPerWorker", limits.connections_per_worker, 1, 1_000_000),
            ("idleUpstreamPerWorker", limits.idle_upstream_per_worker, 0, 10_000),
            ("passwordChecks", limits.password_checks, 1, 256),
            ("waitingPasswordChecks", limits.waiting_password_checks, 1, 100_000),
            ("rememberedCredentials", limits.remembered_credentials, 1, 1_000_000),
        ] {
            self.bounds(format!("limits.{field}"), value, min, max);
        }
    }

    fn timeouts(&mut self, timeouts: &Timeouts) {
        for (field, value) in [
            ("headerSeconds", timeouts.header_seconds),
            ("idleSeconds", timeouts.idle_seconds),
            ("requestBodySeconds", timeouts.request_body_seconds),
            ("sendSeconds", timeouts.send_seconds),
            ("connectSeconds", timeouts.connect_seconds),
            ("responseSeconds", timeouts.response_seconds),
            ("responseBodySeconds", timeouts.response_body_seconds),
            ("upstreamIdleSeconds", timeouts.upstream_idle_seconds),
            ("credentialSeconds", timeouts.credential_seconds),
            ("drainSeconds", timeouts.drain_seconds),
        ] {
            self.bounds(format!("timeouts.{field}"), value, 1, 86_400);
        }
        self.bounds("timeouts.unreadySeconds".to_owned(), timeouts.unready_seconds, 0, 300);
    }
}

/// Whether a connection could reach both addresses. No address, and an unspecified one, stand for all of theirs.
fn overlap(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    match (a, b) {
        (None, _) | (_, None) => true,
        (Some(a), Some(b)) => a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified()),
    }
}

#[cfg(test)]
mod tests;
