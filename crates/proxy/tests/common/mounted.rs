//! A proxy whose files are mounted as the kubelet mounts a ConfigMap or Secret: the names are links through a directory link,
//! which is swapped.

use std::cell::Cell;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::signal::Signal;

use super::client::Client;
use super::{Proxy, eventually};

/// A volume: a directory whose files change all at once.
pub struct Volume<'a> {
    directory: &'a Path,
    version: Cell<usize>,
}

impl<'a> Volume<'a> {
    pub fn at(directory: &'a Path) -> Self {
        Self { directory, version: Cell::new(fs::read_dir(directory).map_or(0, Iterator::count)) }
    }

    /// From now on it has these files, and no others.
    pub fn swap(&self, files: &[(&str, &str)]) {
        let version = format!("..v{}", self.version.replace(self.version.get() + 1));
        let new = self.directory.join(&version);
        fs::create_dir_all(&new).expect("made");
        for (name, content) in files {
            fs::write(new.join(name), content).expect("written");
            let link = self.directory.join(name);
            if link.symlink_metadata().is_err() {
                symlink(Path::new("..data").join(name), link).expect("linked");
            }
        }
        symlink(&version, self.directory.join("..tmp")).expect("linked");
        fs::rename(self.directory.join("..tmp"), self.directory.join("..data")).expect("swapped");
    }
}

/// A proxy with its configuration in a volume `config` and Secrets in a volume `secrets`, and an admin address.
pub struct Mounted {
    pub proxy: Proxy,
    pub admin: SocketAddr,
}

impl Mounted {
    /// With this configuration for two ports, the listener's and the admin address's, and these Secrets.
    pub fn start(config: impl Fn(u16, u16) -> String, secrets: &[(&str, &str)]) -> Self {
        let admin = Cell::new(0);
        let text = |port| {
            admin.set(super::free_port());
            config(port, admin.get())
        };
        let proxy = Proxy::start(text, |directory| {
            for volume in ["config", "secrets"] {
                fs::create_dir(directory.join(volume)).expect("made");
            }
            Volume::at(&directory.join("secrets")).swap(secrets);
            Volume::at(&directory.join("config")).swap(&[("proxy.yaml", "")]);
            symlink("config/proxy.yaml", directory.join("proxy.yaml")).expect("linked");
        });
        Self { proxy, admin: SocketAddr::from((Ipv4Addr::LOCALHOST, admin.get())) }
    }

    /// Swaps the configuration, and has the files looked at now.
    pub fn configure(&self, text: &str) {
        self.swap("config", &[("proxy.yaml", text)]);
        self.proxy.signal(Signal::SIGHUP);
    }

    /// The same, and waits until it is in force.
    pub fn reconfigure(&self, text: &str) {
        self.configure(text);
        self.is_in_force(text);
    }

    /// Swaps a volume's files. The proxy is not told.
    pub fn swap(&self, volume: &str, files: &[(&str, &str)]) {
        Volume::at(&self.proxy.file(volume)).swap(files);
    }

    pub fn is_in_force(&self, text: &str) {
        let row = format!("sidewall_proxy_configuration_info{{hash=\"{}\"}} 1", short_hash(text));
        eventually(&format!("{row}\n{}", self.proxy.errors()), || self.metrics("sidewall_proxy_conf").contains(&row));
    }

    /// The metrics' lines that begin so.
    pub fn metrics(&self, beginning: &str) -> Vec<String> {
        metrics(self.admin, beginning)
    }

    pub fn told(&self, row: &str) {
        eventually(row, || self.metrics(row).iter().any(|line| line == row));
    }

    /// The error that is logged, once it is.
    pub fn complains(&self, of: &str) {
        eventually(&format!("{of} is logged"), || self.proxy.errors().contains(of));
    }
}

pub fn metrics(admin: SocketAddr, beginning: &str) -> Vec<String> {
    let answer = Client::connect(admin).get("/metrics", &[]);
    answer.text().lines().filter(|line| line.starts_with(beginning)).map(str::to_owned).collect()
}

/// The first twelve digits of the SHA-256.
pub fn short_hash(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()[..12].to_owned()
}
