//! Sidewall's own operator beside the API server, and the proxy's image on nodes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::agent::{NAMESPACE, merge};
use crate::api::{Api, Credentials, Token};
use crate::cell::output;
use crate::control::ControlPlane;
use crate::error::{BedError, Result};
use crate::fabric::Addresses;
use crate::image::Image;
use crate::inside::mounts::LOGS;
use crate::page;
use crate::parts;
use crate::until::until;

/// The proxy's image.
pub const PROXY: &str = "localhost/sidewall-proxy:test";
/// How long the operator may take to be ready, and to end.
const LIMIT: Duration = Duration::from_secs(40);
/// The port of the first operator's webhooks; the next has the next.
const WEBHOOKS: u16 = 9443;
/// The port of the first operator's health; the next's is two further, and metrics are beside it.
const HEALTH: u16 = 9561;

/// `localhost/sidewall-proxy:test`: the proxy, and the libraries that this build of it loads.
///
/// # Errors
/// When it is not built.
pub fn proxy() -> Result<Image> {
    Ok(program(PROXY, "sidewall-proxy")?.user("61802:61802"))
}

/// An image of a program of this workspace, with the libraries that this build of it loads.
///
/// # Errors
/// When it is not built.
pub fn program(reference: &str, name: &str) -> Result<Image> {
    let built = parts::built(name)?;
    let mut image =
        Image::new(reference).program(&format!("bin/{name}"), &built).entrypoint(&[&format!("/bin/{name}")]);
    let listed = output(Command::new("ldd").arg(&built))?;
    for library in listed.split_ascii_whitespace().filter(|word| word.starts_with('/')) {
        image = image.program(library, fs::canonicalize(library).map_err(BedError::file("find", library))?);
    }
    Ok(image)
}

/// Makes a cluster have what the deployed manifest brings for the operator, but for its pods: rights, webhooks, policies, and a
/// Service that leads to programs beside the API server. [`crate::agent::install`] comes before.
///
/// # Errors
/// When the API server refuses something.
pub fn install(api: &Api) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/manifests/kubeadm.yaml");
    let manifest = fs::read_to_string(&path).map_err(BedError::file("read", &path))?;
    let documents: Vec<&str> = manifest.split("\n---\n").collect();
    let kinds = ["Role", "RoleBinding", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];
    for kind in kinds {
        let line = format!("kind: {kind}");
        let of_kind = documents.iter().filter(|document| document.lines().any(|found| found == line));
        let of_kind: Vec<&str> = of_kind.copied().collect();
        api.apply(&of_kind.join("\n---\n"))?;
    }
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "sidewall-operator", "namespace": NAMESPACE},
        "spec": {"ports": [{"name": "webhooks", "port": 443, "protocol": "TCP", "targetPort": WEBHOOKS}]},
    });
    api.apply(&service.to_string()).map(drop)
}

/// Has the Service lead to these operators.
///
/// # Errors
/// When the API server refuses it.
pub fn serve(api: &Api, operators: &[&Operator<'_>]) -> Result<()> {
    let slices = operators.iter().map(|operator| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": format!("sidewall-operator-{}", operator.number), "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": "sidewall-operator"},
            },
            "endpoints": [{"addresses": [Addresses::hub().node()[0].to_string()], "conditions": {"ready": true}}],
            "ports": [{"name": "webhooks", "port": operator.webhooks(), "protocol": "TCP"}],
        })
    });
    let slices: Vec<Value> = slices.collect();
    let there = api.get(&["-n", NAMESPACE, "endpointslices", "-l", "kubernetes.io/service-name=sidewall-operator"])?;
    for slice in there["items"].as_array().into_iter().flatten() {
        let name = slice["metadata"]["name"].as_str().unwrap_or_default();
        if !slices.iter().any(|kept| kept["metadata"]["name"] == name) {
            api.kubectl(&["-n", NAMESPACE, "delete", "endpointslice", name])?;
        }
    }
    for slice in &slices {
        api.apply(&slice.to_string())?;
    }
    Ok(())
}

/// The operator as a program beside the API server, as its own service account.
#[derive(Debug)]
pub struct Operator<'a> {
    control: &'a ControlPlane,
    number: u16,
}

impl<'a> Operator<'a> {
    /// Starts an operator, the first one as number 0, and returns when it is ready. `further` are settings that differ from the
    /// usual.
    ///
    /// # Errors
    /// When it is not built, or does not become ready; with its log.
    pub fn start(control: &'a ControlPlane, number: u16, further: Value) -> Result<Operator<'a>> {
        let operator = Operator::place(control, number, further)?;
        operator.resume()?;
        operator.ready()?;
        Ok(operator)
    }

    /// Puts what the operator needs beside the API server, and does not start it.
    ///
    /// # Errors
    /// When a part is missing or the API server gives no token.
    pub fn place(control: &'a ControlPlane, number: u16, further: Value) -> Result<Operator<'a>> {
        let operator = Operator { control, number };
        let token =
            control.admin().kubectl(&["-n", NAMESPACE, "create", "token", "sidewall-operator", "--duration=24h"])?;
        let credentials = Credentials::Token(Token(token.trim().to_owned()));
        control.cell().write(operator.file("kubeconfig"), control.inner_kubeconfig(&credentials))?;
        let mut settings = json!({
            "injection": {"proxy": {"image": PROXY}},
            "webhook": {"address": format!("0.0.0.0:{}", operator.webhooks())},
            "listen": {
                "health": format!("127.0.0.1:{}", operator.health()),
                "metrics": format!("127.0.0.1:{}", operator.health() + 1),
            },
            "log": "info,sidewall_operator=debug",
        });
        merge(&mut settings, further);
        control.cell().write(operator.file("yaml"), settings.to_string())?;
        Ok(operator)
    }

    /// Starts the operator's program, for the first time or again.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn resume(&self) -> Result<()> {
        self.resume_as(&parts::built("sidewall-operator")?.display().to_string())
    }

    /// Starts another program as this operator: another version of it.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn resume_as(&self, program: &str) -> Result<()> {
        let command = [
            program.to_owned(),
            "run".into(),
            format!("--config={}", self.file("yaml")),
            format!("--kubeconfig={}", self.file("kubeconfig")),
            format!("--namespace={NAMESPACE}"),
            format!("--pod=operator-{}", self.number),
            "--log-format=text".into(),
        ];
        self.control.cell().start(&self.service(), &command, &[("NO_COLOR", "1"), ("MALLOC_ARENA_MAX", "2")])
    }

    /// Ends the operator's program.
    ///
    /// # Errors
    /// When it does not run, or not end.
    pub fn stop(&self, signal: Signal) -> Result<()> {
        self.control.cell().stop(&self.service(), signal, LIMIT).map(drop)
    }

    /// Waits until the operator is ready.
    ///
    /// # Errors
    /// When it ends, or does not become ready; with its log.
    pub fn ready(&self) -> Result<()> {
        until("a ready operator", LIMIT, || {
            self.control.cell().still_runs(&self.service())?;
            Ok(match self.page("readyz") {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{error}\n{}", self.log())),
            })
        })
    }

    /// Whether it leads.
    ///
    /// # Errors
    /// As [`Operator::page`].
    pub fn leads(&self) -> Result<bool> {
        Ok(self.metric("sidewall_operator_leads")? > 0.0)
    }

    /// What the operator has counted under a name with labels.
    ///
    /// # Errors
    /// As [`Operator::page`].
    pub fn metric(&self, name: &str) -> Result<f64> {
        Ok(page::metric(&self.page("metrics")?, name))
    }

    /// A page of the operator.
    ///
    /// # Errors
    /// When it does not answer, or says that not all is well.
    pub fn page(&self, page: &str) -> Result<String> {
        let port = if page == "metrics" { self.health() + 1 } else { self.health() };
        page::ask(self.control.cell(), port, page)
    }

    /// The operator's process, as this process counts.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> Result<u32> {
        self.control.cell().service_pid(&self.service())
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.control.cell().log(&self.service())
    }

    /// All that it has logged, over all its lives.
    pub fn whole_log(&self) -> String {
        let log = self.control.cell().path(format!("{LOGS}/{}.log", self.service()));
        fs::read(log).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    fn service(&self) -> String {
        format!("sidewall-operator-{}", self.number)
    }

    fn file(&self, of: &str) -> String {
        format!("/etc/sidewall/operator-{}.{of}", self.number)
    }

    fn webhooks(&self) -> u16 {
        WEBHOOKS + self.number
    }

    fn health(&self) -> u16 {
        HEALTH + 2 * self.number
    }
}
