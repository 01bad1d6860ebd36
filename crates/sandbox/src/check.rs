//! What of a Pod manifest can be honoured on this machine, and what can't. Pure.
//!
//! Every field of the pod's and the containers' specifications is named here, without `..`: a field that a later
//! Kubernetes adds stops the build until somebody has decided about it.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext, Volume,
};

/// Something in a manifest that is not, or not quite, honoured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The field, as a path: `spec.containers[1].securityContext.privileged`.
    pub field: String,
    /// Whether the pod can run all the same.
    pub severity: Severity,
    /// Why, and what to do about it.
    pub message: String,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The field means nothing here; the pod runs without it.
    Warning,
    /// Without the field the pod would behave otherwise or be less safe: it is refused.
    Error,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Looks at every field of the manifest. The pod can be run when no finding is an error (and `plan` finds none).
/// In the order of the manifest's fields; deterministic.
pub fn check_supported(pod: &Pod) -> Vec<Finding> {
    let mut findings = Findings::default();
    match &pod.spec {
        Some(spec) => findings.pod(spec),
        None => findings.error("spec", "is missing: a pod needs containers"),
    }
    findings.list
}

#[derive(Default)]
struct Findings {
    list: Vec<Finding>,
}

/// Where processes see this machine's own files.
const OWN_FILES: &str = "processes see this machine's files, with their user's permissions";

impl Findings {
    fn add(&mut self, severity: Severity, field: impl Into<String>, message: impl Into<String>) {
        self.list.push(Finding { field: field.into(), severity, message: message.into() });
    }

    fn error(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.add(Severity::Error, field, message);
    }

    fn refuse_if(&mut self, bad: bool, field: impl Into<String>, message: &str) {
        if bad {
            self.error(field, message);
        }
    }

    fn warn_if(&mut self, set: bool, field: impl Into<String>, message: &str) {
        if set {
            self.add(Severity::Warning, field, message);
        }
    }

    fn pod(&mut self, spec: &PodSpec) {
        let PodSpec {
            active_deadline_seconds,
            affinity,
            automount_service_account_token,
            containers,
            dns_config,
            dns_policy,
            enable_service_links: _,
            ephemeral_containers,
            host_aliases,
            host_ipc,
            host_network,
            host_pid,
            host_users,
            hostname,
            image_pull_secrets,
            init_containers,
            node_name,
            node_selector,
            os,
            overhead,
            preemption_policy,
            priority,
            priority_class_name,
            readiness_gates,
            resource_claims,
            resources,
            restart_policy,
            runtime_class_name,
            scheduler_name,
            scheduling_gates,
            security_context,
            service_account,
            service_account_name,
            set_hostname_as_fqdn,
            share_process_namespace,
            subdomain,
            termination_grace_period_seconds,
            tolerations,
            topology_spread_constraints,
            volumes,
        } = spec;

        let yes = |flag: &Option<bool>| *flag == Some(true);
        self.refuse_if(active_deadline_seconds.is_some(), "spec.activeDeadlineSeconds", "is not kept here; remove it");
        self.refuse_if(some(ephemeral_containers), "spec.ephemeralContainers", "can't be run here; use exec");
        self.refuse_if(some(host_aliases), "spec.hostAliases", "can't be honoured: /etc/hosts is this machine's");
        self.refuse_if(yes(host_ipc), "spec.hostIPC", "is refused");
        self.refuse_if(
            yes(host_network),
            "spec.hostNetwork",
            "is refused: such a pod has no network namespace of its own, and no rule could tell its containers apart",
        );
        self.refuse_if(yes(host_pid), "spec.hostPID", "is refused");
        self.refuse_if(
            *host_users == Some(false),
            "spec.hostUsers",
            "false can't be honoured: no user namespaces here",
        );
        self.refuse_if(os.as_ref().is_some_and(|os| os.name != "linux"), "spec.os.name", "can only be linux");
        self.refuse_if(some(resource_claims), "spec.resourceClaims", "can't be honoured: there are no devices here");
        self.refuse_if(
            runtime_class_name.is_some(),
            "spec.runtimeClassName",
            "can't be honoured: there is no container runtime here",
        );
        self.refuse_if(some(scheduling_gates), "spec.schedulingGates", "would keep the pod from starting; remove them");
        self.refuse_if(
            yes(share_process_namespace),
            "spec.shareProcessNamespace",
            "is refused: containers that can signal and trace each other are not told apart",
        );
        if let Some(policy) = restart_policy {
            self.refuse_if(
                !matches!(policy.as_str(), "Always" | "OnFailure" | "Never"),
                "spec.restartPolicy",
                "must be Always, OnFailure or Never",
            );
        }
        self.refuse_if(
            termination_grace_period_seconds.is_some_and(|s| s < 0),
            "spec.terminationGracePeriodSeconds",
            "must not be negative",
        );

        let nothing_here = "means nothing on a single machine; ignored";
        self.warn_if(affinity.is_some(), "spec.affinity", nothing_here);
        self.warn_if(
            yes(automount_service_account_token),
            "spec.automountServiceAccountToken",
            "there is no API server here; no token is mounted",
        );
        let dns = "ignored: name resolution is this machine's (/etc/resolv.conf)";
        self.warn_if(dns_config.is_some(), "spec.dnsConfig", dns);
        self.warn_if(dns_policy.as_ref().is_some_and(|p| p != "ClusterFirst"), "spec.dnsPolicy", dns);
        let name = "ignored: the host name is this machine's (HOSTNAME is the pod's name)";
        self.warn_if(hostname.is_some(), "spec.hostname", name);
        self.warn_if(subdomain.is_some(), "spec.subdomain", name);
        self.warn_if(yes(set_hostname_as_fqdn), "spec.setHostnameAsFQDN", name);
        self.warn_if(some(image_pull_secrets), "spec.imagePullSecrets", "ignored: no image is pulled");
        self.warn_if(node_name.is_some(), "spec.nodeName", nothing_here);
        self.warn_if(node_selector.as_ref().is_some_and(|s| !s.is_empty()), "spec.nodeSelector", nothing_here);
        self.warn_if(preemption_policy.is_some(), "spec.preemptionPolicy", nothing_here);
        self.warn_if(priority.is_some(), "spec.priority", nothing_here);
        self.warn_if(priority_class_name.is_some(), "spec.priorityClassName", nothing_here);
        self.warn_if(some(readiness_gates), "spec.readinessGates", "ignored: nothing here sets their conditions");
        let limits = "ignored: no resource is limited here";
        self.warn_if(overhead.is_some(), "spec.overhead", limits);
        self.warn_if(resources.is_some(), "spec.resources", limits);
        self.warn_if(
            scheduler_name.as_ref().is_some_and(|s| s != "default-scheduler"),
            "spec.schedulerName",
            nothing_here,
        );
        self.warn_if(
            service_account.is_some() || service_account_name.is_some(),
            "spec.serviceAccountName",
            "ignored: there is no API server here",
        );
        self.warn_if(some(tolerations), "spec.tolerations", nothing_here);
        self.warn_if(some(topology_spread_constraints), "spec.topologySpreadConstraints", nothing_here);

        if let Some(context) = security_context {
            self.pod_security(context);
        }
        let volumes: BTreeMap<&str, &Volume> = volumes.iter().flatten().map(|v| (v.name.as_str(), v)).collect();
        for (i, container) in init_containers.iter().flatten().enumerate() {
            self.container(&format!("spec.initContainers[{i}]"), container, true, &volumes);
        }
        for (i, container) in containers.iter().enumerate() {
            self.container(&format!("spec.containers[{i}]"), container, false, &volumes);
        }
    }

    fn pod_security(&mut self, context: &PodSecurityContext) {
        let PodSecurityContext {
            app_armor_profile,
            fs_group: _,
            fs_group_change_policy: _,
            run_as_group: _,
            run_as_non_root: _,
            run_as_user: _,
            se_linux_change_policy: _,
            se_linux_options,
            seccomp_profile,
            supplemental_groups: _,
            supplemental_groups_policy: _,
            sysctls,
            windows_options,
        } = context;
        let at = "spec.securityContext";
        self.profiles(at, app_armor_profile, seccomp_profile);
        self.refuse_if(se_linux_options.is_some(), format!("{at}.seLinuxOptions"), "can't be honoured here");
        self.refuse_if(windows_options.is_some(), format!("{at}.windowsOptions"), "can't be honoured here");
        for (i, sysctl) in sysctls.iter().flatten().enumerate() {
            self.refuse_if(
                !sysctl.name.starts_with("net.") && !sysctl.name.starts_with("net/"),
                format!("{at}.sysctls[{i}].name"),
                "only net.… belongs to the pod's own namespace here; others would change this machine",
            );
        }
    }

    fn profiles(&mut self, at: &str, apparmor: &Option<AppArmorProfile>, seccomp: &Option<SeccompProfile>) {
        for (field, kind) in [
            ("appArmorProfile", apparmor.as_ref().map(|p| p.type_.as_str())),
            ("seccompProfile", seccomp.as_ref().map(|p| p.type_.as_str())),
        ] {
            match kind {
                None | Some("Unconfined") => {}
                // Nearly every careful manifest says so; the default belongs to a runtime that isn't there.
                Some("RuntimeDefault") => self.warn_if(
                    true,
                    format!("{at}.{field}"),
                    "ignored: there is no container runtime whose default could be applied",
                ),
                Some(_) => self.error(format!("{at}.{field}"), "can't be honoured here"),
            }
        }
    }

    fn container(&mut self, at: &str, container: &Container, init: bool, volumes: &BTreeMap<&str, &Volume>) {
        let Container {
            args,
            command,
            env,
            env_from,
            image,
            image_pull_policy,
            lifecycle,
            liveness_probe,
            name,
            ports,
            readiness_probe,
            resize_policy,
            resources,
            restart_policy,
            security_context,
            startup_probe,
            stdin,
            stdin_once: _,
            termination_message_path,
            termination_message_policy: _,
            tty,
            volume_devices,
            volume_mounts,
            working_dir: _,
        } = container;

        if !some(command) {
            let with_args = if some(args) { " (args alone are arguments to the image's own)" } else { "" };
            self.error(
                format!("{at}.command"),
                format!(
                    "is missing in container {name:?}: there is no image here to take an entry point from{with_args}"
                ),
            );
        }
        for (i, variable) in env.iter().flatten().enumerate() {
            let Some(from) = &variable.value_from else { continue };
            let field = format!("{at}.env[{i}].valueFrom");
            match &from.field_ref {
                Some(reference) => {
                    if let Err(message) = crate::plan::field_of(&reference.field_path) {
                        self.error(format!("{field}.fieldRef.fieldPath"), message);
                    }
                }
                None => self.error(
                    field,
                    "only fieldRef works here: there is no API server with ConfigMaps and Secrets; give a value",
                ),
            }
        }
        self.refuse_if(
            some(env_from),
            format!("{at}.envFrom"),
            "can't be honoured: there is no API server with ConfigMaps and Secrets; give values in env",
        );
        self.refuse_if(lifecycle.is_some(), format!("{at}.lifecycle"), "hooks are not run here; remove them");
        let sidecar = restart_policy.as_deref() == Some("Always");
        self.refuse_if(
            restart_policy.is_some() && !(init && sidecar),
            format!("{at}.restartPolicy"),
            "may only be Always, and only in an init container (which makes it a sidecar)",
        );
        self.refuse_if(
            init && !sidecar && (liveness_probe.is_some() || readiness_probe.is_some() || startup_probe.is_some()),
            at,
            "an init container that is not a sidecar has no probes",
        );
        self.refuse_if(*tty == Some(true), format!("{at}.tty"), "there is no terminal here");
        self.refuse_if(some(volume_devices), format!("{at}.volumeDevices"), "can't be honoured here");
        for (i, mount) in volume_mounts.iter().flatten().enumerate() {
            let source = volumes.get(mount.name.as_str()).and_then(|v| v.host_path.as_ref());
            let same_place = source.is_some_and(|s| s.path == mount.mount_path);
            let plain = mount.sub_path.is_none() && mount.sub_path_expr.is_none() && mount.mount_propagation.is_none();
            let field = format!("{at}.volumeMounts[{i}]");
            if !(same_place && plain) {
                let message = format!(
                    "nothing is mounted here: {OWN_FILES}. A hostPath volume works where path and mountPath are the same"
                );
                self.error(field, message);
            } else if mount.read_only == Some(true) {
                self.warn_if(true, format!("{field}.readOnly"), "not enforced: the files' permissions decide");
            }
        }
        for (i, port) in ports.iter().flatten().enumerate() {
            self.refuse_if(
                port.host_port.is_some() || port.host_ip.is_some(),
                format!("{at}.ports[{i}].hostPort"),
                "is not opened from the manifest; publish the port instead",
            );
        }

        self.warn_if(image.is_some(), format!("{at}.image"), "ignored: the command runs from this machine's files");
        self.warn_if(image_pull_policy.is_some(), format!("{at}.imagePullPolicy"), "ignored: no image is pulled");
        let limits = "ignored: no resource is limited here";
        self.warn_if(resources.as_ref().is_some_and(|r| *r != Default::default()), format!("{at}.resources"), limits);
        self.warn_if(some(resize_policy), format!("{at}.resizePolicy"), limits);
        self.warn_if(*stdin == Some(true), format!("{at}.stdin"), "standard input is empty here");
        self.warn_if(
            termination_message_path.as_ref().is_some_and(|p| p != "/dev/termination-log"),
            format!("{at}.terminationMessagePath"),
            "ignored: no termination message is read",
        );
        if let Some(context) = security_context {
            self.container_security(&format!("{at}.securityContext"), context);
        }
    }

    fn container_security(&mut self, at: &str, context: &SecurityContext) {
        let SecurityContext {
            allow_privilege_escalation,
            app_armor_profile,
            capabilities,
            privileged,
            proc_mount,
            read_only_root_filesystem,
            run_as_group: _,
            run_as_non_root: _,
            run_as_user: _,
            se_linux_options,
            seccomp_profile,
            windows_options,
        } = context;
        self.profiles(at, app_armor_profile, seccomp_profile);
        self.refuse_if(*privileged == Some(true), format!("{at}.privileged"), "is refused: no process gets privileges");
        // Dropping is what happens anyway.
        self.refuse_if(
            capabilities.as_ref().is_some_and(|c| some(&c.add)),
            format!("{at}.capabilities.add"),
            "is refused: no process gets a capability (ports below 1024 are open to all)",
        );
        self.refuse_if(
            proc_mount.as_ref().is_some_and(|p| p != "Default"),
            format!("{at}.procMount"),
            "can't be honoured here",
        );
        self.refuse_if(se_linux_options.is_some(), format!("{at}.seLinuxOptions"), "can't be honoured here");
        self.refuse_if(windows_options.is_some(), format!("{at}.windowsOptions"), "can't be honoured here");
        self.warn_if(
            *allow_privilege_escalation == Some(true),
            format!("{at}.allowPrivilegeEscalation"),
            "ignored: no process here can gain privileges",
        );
        self.warn_if(
            *read_only_root_filesystem == Some(true),
            format!("{at}.readOnlyRootFilesystem"),
            "not enforced: processes see this machine's files, with their user's permissions",
        );
    }
}

fn some<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|l| !l.is_empty())
}

#[cfg(test)]
mod tests;
