//! What stands behind an option: text that is read once, at the edge.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use std::time::Duration;

use sidewall_flow::{Protocol, Timestamp};

/// `[ADDR:]HOST:POD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Where it listens on this machine.
    pub at: SocketAddr,
    /// The pod's port.
    pub port: u16,
}

impl std::str::FromStr for Publish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?} is not [ADDR:]HOST:POD, such as 8080:80 or 127.0.0.1:8080:80 or [::1]:8080:80");
        let (at, pod) = text.rsplit_once(':').ok_or_else(form)?;
        let port = pod.parse().ok().filter(|port| *port > 0).ok_or_else(form)?;
        let at = match at.parse::<u16>() {
            Ok(host) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), host),
            Err(_) => at.parse().map_err(|_| form())?,
        };
        Ok(Self { at, port })
    }
}

/// `NAME=IP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The address; none where the name is one of a Pod in the files.
    pub address: Option<IpAddr>,
}

impl std::str::FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?} is not NAME=IP, such as office=203.0.113.7, or NAMESPACE/POD");
        match text.split_once('=') {
            Some((name, address)) if !name.is_empty() => {
                Ok(Self { name: name.to_owned(), address: Some(address.parse().map_err(|_| form())?) })
            }
            None if text.contains('/') => Ok(Self { name: text.to_owned(), address: None }),
            _ => Err(form()),
        }
    }
}

/// `IP:PORT[/PROTO]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Address and port.
    pub at: SocketAddr,
    /// The protocol.
    pub protocol: Protocol,
}

impl std::str::FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?} is not IP:PORT[/PROTO], such as 10.0.0.5:5432/TCP or [fd00::1]:53/UDP");
        let (at, protocol) = match text.rsplit_once('/') {
            Some((at, protocol)) => (at, protocol.parse().map_err(|e| format!("{e}"))?),
            None => (text, Protocol::Tcp),
        };
        let at: SocketAddr = at.parse().map_err(|_| form())?;
        if at.port() == 0 { Err(form()) } else { Ok(Self { at, protocol }) }
    }
}

/// `AGO|TIME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Ago(Duration),
    /// A point in time.
    Time(Timestamp),
}

impl Since {
    /// The point in time.
    pub fn time(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(ago) => now.before(ago),
            Self::Time(time) => time,
        }
    }
}

impl std::str::FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ago = humantime::parse_duration(text).ok().map(Self::Ago);
        ago.or_else(|| text.parse().ok().map(Self::Time)).ok_or_else(|| {
            format!(
                "{text:?} is neither a span of time, such as 90s, 10m or 2h, nor a time, such as 2026-11-22T02:29:48Z"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ports() {
        let at = |text: &str| text.parse::<Publish>().map(|p| (p.at.to_string(), p.port));
        assert_eq!(at("8080:80"), Ok(("127.0.0.1:8080".to_owned(), 80)));
        assert_eq!(at("0.0.0.0:8080:80"), Ok(("0.0.0.0:8080".to_owned(), 80)));
        assert_eq!(at("[::1]:0:80"), Ok(("[::1]:0".to_owned(), 80)));
        for bad in ["80", "8080:0", "x:80", "8080:http", "localhost:8080:80", ""] {
            assert!(at(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn points_in_time() {
        let now: Timestamp = "2026-11-22T02:29:48Z".parse().unwrap();
        let at = |text: &str| text.parse::<Since>().map(|since| since.time(now).to_string());
        assert_eq!(at("10m").unwrap(), "2026-11-22T02:19:48.000000Z");
        assert_eq!(at("1h 30s").unwrap(), "2026-11-22T01:29:18.000000Z");
        assert_eq!(at("2026-11-01T00:00:00Z").unwrap(), "2026-11-01T00:00:00.000000Z");
        for bad in ["", "10", "-5m", "yesterday", "2026-11-01"] {
            assert!(at(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn destinations_and_peers() {
        let to: Destination = "[fd00::1]:53/udp".parse().unwrap();
        assert_eq!((to.at.to_string().as_str(), to.protocol), ("[fd00::1]:53", Protocol::Udp));
        assert_eq!("10.0.0.1:5".parse::<Destination>().unwrap().protocol, Protocol::Tcp);
        for bad in ["10.0.0.1", "10.0.0.1:0", "10.0.0.1:5/ICMP", "host:5"] {
            assert!(bad.parse::<Destination>().is_err(), "{bad}");
        }
        assert_eq!("shop/db".parse::<Named>().unwrap().address, None);
        assert!("db".parse::<Named>().is_err());
        assert!("=10.0.0.1".parse::<Named>().is_err());
    }
}
