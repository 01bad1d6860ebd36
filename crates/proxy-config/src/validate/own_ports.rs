//! The rules of the proxy's own ports: they must be nobody else's, and say nothing that contradicts the listeners.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Checker, Fault, Form};
use crate::ProxyConfig;
use crate::own_ports::{CAPTURED_MAX, Capture, Probes, TARGETS_MAX};
use crate::target::{HookKey, HttpGet, HttpHeader, Target};

/// The most headers of a probe's request.
const HEADERS_MAX: usize = 64;
/// The longest path, header or service name, in octets.
const TEXT_MAX: usize = 4096;

impl Checker {
    pub(super) fn own_ports(&mut self, config: &ProxyConfig) {
        let mut taken: BTreeMap<u16, String> = BTreeMap::new();
        for (index, listener) in config.listeners.iter().enumerate() {
            taken.entry(listener.port).or_insert(format!("listeners[{index}].port"));
            taken.entry(listener.forward.port).or_insert(format!("listeners[{index}].forward.port"));
        }
        let own = [
            ("admin.port", config.admin.as_ref().map(|admin| admin.port)),
            ("probes.port", config.probes.as_ref().map(|probes| probes.port)),
            ("capture.port", config.capture.as_ref().map(|capture| capture.port)),
        ];
        for (path, port) in own {
            let Some(port) = port else { continue };
            if port == 0 {
                self.add(path, Fault::PortZero);
            } else if let Some(by) = taken.get(&port) {
                // Not even on another address: what is meant for one must never arrive at the other.
                self.add(path, Fault::PortTaken { port, by: by.clone() });
            } else {
                taken.insert(port, path.to_owned());
            }
        }
        if let Some(probes) = &config.probes {
            let own: BTreeSet<u16> = own.into_iter().filter_map(|(_, port)| port).collect();
            self.probes(probes, &own);
        }
        if let Some(capture) = &config.capture {
            self.capture(capture, config);
        }
    }

    fn capture(&mut self, capture: &Capture, config: &ProxyConfig) {
        if capture.inbound.is_empty() || capture.inbound.len() > CAPTURED_MAX {
            self.add("capture.inbound", Fault::Count { count: capture.inbound.len(), min: 1, max: CAPTURED_MAX });
        }
        let mut seen = BTreeSet::new();
        for (index, port) in capture.inbound.iter().enumerate() {
            let path = format!("capture.inbound[{index}]");
            if *port == 0 {
                self.add(path, Fault::PortZero);
            } else if !seen.insert(*port) {
                self.add(path, Fault::Twice);
            } else if !config.listeners.iter().any(|listener| listener.forward.port == *port) {
                self.add(path, Fault::NobodyForwards { port: *port });
            } else if let Some(own) = config.listeners.iter().position(|listener| listener.port == *port) {
                // What comes to that port is somebody's already.
                self.add(path, Fault::PortTaken { port: *port, by: format!("listeners[{own}].port") });
            }
        }
    }

    fn probes(&mut self, probes: &Probes, own: &BTreeSet<u16>) {
        if self.form == Form::Cluster && !probes.targets.is_empty() {
            self.add("probes.targets", Fault::TargetsInCluster);
        }
        if probes.targets.len() > TARGETS_MAX {
            self.add("probes.targets", Fault::Count { count: probes.targets.len(), min: 0, max: TARGETS_MAX });
        }
        let mut seen = BTreeSet::new();
        for (index, target) in probes.targets.iter().enumerate() {
            let path = format!("probes.targets[{index}]");
            if !seen.insert((target.container.as_str(), target.occasion)) {
                self.add(&path, Fault::Twice);
            }
            self.target(&path, target, own);
        }
    }

    fn target(&mut self, path: &str, target: &Target, own: &BTreeSet<u16>) {
        let name = &target.container;
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let inside = |c: u8| plain(c) || c == b'-';
        let bytes = name.as_bytes();
        let fits = (1..=63).contains(&bytes.len())
            && bytes.iter().all(|c| inside(*c))
            && bytes.first().is_some_and(|c| plain(*c))
            && bytes.last().is_some_and(|c| plain(*c));
        if !fits {
            self.add(format!("{path}.container"), Fault::ContainerName);
        }
        let hook = target.occasion.is_hook();
        match &target.key {
            None if hook => self.add(format!("{path}.key"), Fault::NoHookKey),
            Some(_) if !hook => self.add(format!("{path}.key"), Fault::KeyOfProbe),
            Some(key) if !key_fits(key) => self.add(format!("{path}.key"), Fault::HookKey),
            _ => {}
        }
        self.bounds(format!("{path}.timeoutSeconds"), target.timeout_seconds, 1, 3600);
        let ways = [target.http_get.is_some(), target.tcp_socket.is_some(), target.grpc.is_some()];
        if ways.iter().filter(|way| **way).count() != 1 {
            return self.add(path, Fault::OneWay);
        }
        if hook && target.http_get.is_none() {
            self.add(path, Fault::HookWay);
        }
        let field = if let Some(http) = &target.http_get {
            let path = format!("{path}.httpGet");
            self.http_get(&path, http);
            path
        } else if let Some(tcp) = &target.tcp_socket {
            let path = format!("{path}.tcpSocket");
            self.host(&path, tcp.host.as_deref());
            path
        } else {
            let path = format!("{path}.grpc");
            if let Some(grpc) = &target.grpc {
                self.text(format!("{path}.service"), &grpc.service);
            }
            path
        };
        match target.port() {
            Some(0) => self.add(format!("{field}.port"), Fault::PortZero),
            // It would ask itself, and answer well for an application that does not live.
            Some(port) if own.contains(&port) => self.add(format!("{field}.port"), Fault::AsksItself),
            _ => {}
        }
    }

    fn http_get(&mut self, path: &str, http: &HttpGet) {
        self.text(format!("{path}.path"), &http.path);
        self.host(path, http.host.as_deref());
        if http.http_headers.len() > HEADERS_MAX {
            let count = http.http_headers.len();
            self.add(format!("{path}.httpHeaders"), Fault::Count { count, min: 0, max: HEADERS_MAX });
        }
        for (index, HttpHeader { name, value }) in http.http_headers.iter().enumerate() {
            let path = format!("{path}.httpHeaders[{index}]");
            let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
            if name.is_empty() || name.len() > TEXT_MAX || !name.bytes().all(token) {
                self.add(format!("{path}.name"), Fault::HeaderName);
            }
            if value.len() > TEXT_MAX || value.bytes().any(|c| c.is_ascii_control() && c != b'\t') {
                self.add(format!("{path}.value"), Fault::Text { max: TEXT_MAX });
            }
        }
    }

    fn host(&mut self, path: &str, host: Option<&str>) {
        let loopback = |host: &str| host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if host.is_some_and(|host| !loopback(host)) {
            self.add(format!("{path}.host"), Fault::ForeignHost);
        }
    }

    fn text(&mut self, path: String, text: &str) {
        if text.len() > TEXT_MAX || text.chars().any(char::is_control) {
            self.add(path, Fault::Text { max: TEXT_MAX });
        }
    }
}

fn key_fits(key: &HookKey) -> bool {
    let word = key.expose();
    (HookKey::MIN..=HookKey::MAX).contains(&word.len())
        && word.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
}

#[cfg(test)]
mod tests;
