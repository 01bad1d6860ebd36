//! etcd and the API server, in a cell that lives in the fabric's own namespace.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rcgen::KeyPair;
use rustix::process::Signal;

use crate::api::{Api, Credentials, kubeconfig};
use crate::cell::Cell;
use crate::certificates::{Authority, Pair};
use crate::error::Result;
use crate::fabric::{Addresses, Fabric};
use crate::parts;
use crate::relay::Relay;
use crate::until::until;

/// Services' addresses: IPv4 and IPv6.
pub const SERVICE_RANGES: &str = "10.96.0.0/16,fd96::/112";
/// The API server's port.
const PORT: u16 = 6443;
/// How long the API server may take to be ready; it installs its own roles before.
const LIMIT: Duration = Duration::from_secs(120);
/// Where certificates are inside.
const FOLDER: &str = "/etc/kubernetes/pki";

/// A control plane without controllers: etcd and kube-apiserver, with RBAC, admission and certificates as in a real cluster.
#[derive(Debug)]
pub struct ControlPlane {
    admin: Api,
    relay: Relay,
    authority: Authority,
    cell: Cell,
    /// The API server.
    program: PathBuf,
}

impl ControlPlane {
    /// Starts both and returns when the API server is ready.
    ///
    /// # Errors
    /// When a part is missing, or one of them does not start.
    pub fn start(fabric: &Fabric) -> Result<ControlPlane> {
        ControlPlane::of(fabric, parts::kubernetes("kube-apiserver")?)
    }

    /// [`ControlPlane::start`] with an API server of another version.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub fn of(fabric: &Fabric, program: PathBuf) -> Result<ControlPlane> {
        let etcd = parts::kubernetes("etcd")?;
        let cell = Cell::new("control", fabric.netns(), false)?;
        let [address, address6] = Addresses::hub().node();
        let relay = Relay::new(fabric.netns(), SocketAddr::new(address, PORT))?;
        let authority = Authority::new()?;
        let loopback = [[127, 0, 0, 1].into(), address, address6, [10, 96, 0, 1].into()];
        let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];
        let server = authority.server(&names, &loopback)?;
        let accounts = KeyPair::generate()?;
        let kubelet = authority.client("kube-apiserver", Some("system:masters"))?;
        for (name, content) in [
            ("ca.crt", authority.pem()),
            ("server.crt", server.certificate),
            ("server.key", server.key),
            ("kubelet.crt", kubelet.certificate),
            ("kubelet.key", kubelet.key),
            ("accounts.key", accounts.serialize_pem()),
            ("accounts.pub", accounts.public_key_pem()),
        ] {
            cell.write(format!("{FOLDER}/{name}"), content)?;
        }
        let etcd = [
            etcd.display().to_string(),
            "--data-dir=/var/lib/etcd".into(),
            "--listen-client-urls=http://127.0.0.1:2379".into(),
            "--advertise-client-urls=http://127.0.0.1:2379".into(),
            "--listen-peer-urls=http://127.0.0.1:2380".into(),
            // It lives in memory, and ends with the test.
            "--unsafe-no-fsync".into(),
        ];
        cell.start("etcd", &etcd, &[])?;
        let url = format!("https://127.0.0.1:{}", relay.port());
        let admin = Credentials::Certificate(authority.client("admin", Some("system:masters"))?);
        let admin = Api::new(&kubeconfig(&url, &authority.pem(), &admin))?;
        let control = ControlPlane { admin, relay, authority, cell, program };
        control.start_api()?;
        Ok(control)
    }

    /// The cell, for logs and for what belongs beside the API server.
    pub fn cell(&self) -> &Cell {
        &self.cell
    }

    /// The API server's URL on this host.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.relay.port())
    }

    /// The API server's URL on nodes and beside it.
    pub fn inner_url(&self) -> String {
        format!("https://{}", SocketAddr::new(Addresses::hub().node()[0], PORT))
    }

    /// The certificate that the API server's own can be verified with, PEM.
    pub fn authority(&self) -> String {
        self.authority.pem()
    }

    /// Whoever may do anything.
    pub fn admin(&self) -> &Api {
        &self.admin
    }

    /// A certificate for a user of that name, in one group at most.
    ///
    /// # Errors
    /// [`crate::BedError::Certificate`].
    pub fn client(&self, user: &str, group: Option<&str>) -> Result<Pair> {
        self.authority.client(user, group)
    }

    /// The API server as somebody else sees it from this host.
    ///
    /// # Errors
    /// As [`Api::new`].
    pub fn api(&self, credentials: &Credentials) -> Result<Api> {
        Api::new(&kubeconfig(&self.url(), &self.authority(), credentials))
    }

    /// A kubeconfig file for use inside the cells.
    pub fn inner_kubeconfig(&self, credentials: &Credentials) -> String {
        kubeconfig(&self.inner_url(), &self.authority(), credentials)
    }

    /// Ends the API server; etcd goes on.
    ///
    /// # Errors
    /// When it does not run, or not end.
    pub fn stop_api(&self, signal: Signal) -> Result<()> {
        self.cell.stop("kube-apiserver", signal, Duration::from_secs(70)).map(drop)
    }

    /// Starts the API server, for the first time or again, and waits until it is ready.
    ///
    /// # Errors
    /// When it ends, or does not become ready.
    pub fn start_api(&self) -> Result<()> {
        let address = Addresses::hub().node()[0];
        let mut command = vec![self.program.display().to_string()];
        command.extend([
            format!("--advertise-address={address}"),
            "--bind-address=0.0.0.0".into(),
            format!("--secure-port={PORT}"),
            "--etcd-servers=http://127.0.0.1:2379".into(),
            format!("--service-cluster-ip-range={SERVICE_RANGES}"),
            "--authorization-mode=Node,RBAC".into(),
            "--enable-admission-plugins=NodeRestriction".into(),
            "--allow-privileged=true".into(),
            format!("--client-ca-file={FOLDER}/ca.crt"),
            format!("--tls-cert-file={FOLDER}/server.crt"),
            format!("--tls-private-key-file={FOLDER}/server.key"),
            format!("--kubelet-client-certificate={FOLDER}/kubelet.crt"),
            format!("--kubelet-client-key={FOLDER}/kubelet.key"),
            "--kubelet-preferred-address-types=InternalIP".into(),
            format!("--service-account-key-file={FOLDER}/accounts.pub"),
            format!("--service-account-signing-key-file={FOLDER}/accounts.key"),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            // There is no kube-proxy: webhooks are called at their Services' endpoints.
            "--enable-aggregator-routing=true".into(),
        ]);
        self.cell.start("kube-apiserver", &command, &[])?;
        until("the API server", LIMIT, || {
            self.cell.still_runs("etcd")?;
            self.cell.still_runs("kube-apiserver")?;
            Ok(match self.admin.kubectl(&["get", "--raw", "/readyz"]) {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{error}\n{}", self.cell.log("kube-apiserver"))),
            })
        })
    }

    /// Starts the controller manager and the scheduler beside the API server.
    ///
    /// # Errors
    /// When one is missing or does not start.
    pub fn start_controllers(&self) -> Result<()> {
        let common = ["--leader-elect=false", "--bind-address=127.0.0.1"];
        for (program, own) in [
            (
                "kube-controller-manager",
                vec![
                    format!("--root-ca-file={FOLDER}/ca.crt"),
                    format!("--service-account-private-key-file={FOLDER}/accounts.key"),
                    "--use-service-account-credentials=true".into(),
                ],
            ),
            ("kube-scheduler", Vec::new()),
        ] {
            let path = parts::kubernetes(program)?.display().to_string();
            let pair = self.client(&format!("system:{program}"), None)?;
            let file = format!("/etc/kubernetes/{program}.conf");
            self.cell.write(&file, self.inner_kubeconfig(&Credentials::Certificate(pair)))?;
            let command = [path, format!("--kubeconfig={file}")];
            let command = command.into_iter().chain(common.map(str::to_owned)).chain(own);
            self.cell.start(program, &command.collect::<Vec<_>>(), &[])?;
        }
        Ok(())
    }
}
