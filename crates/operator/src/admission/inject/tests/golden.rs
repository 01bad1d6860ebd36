//! Whole pods, word for word: a change of injection shows here. Accept one with
//! `INSTA_UPDATE=always cargo test -p sidewall-operator golden`, after reading it.

use serde_json::json;

use super::HELLO;
use crate::fixture::{Try, tls};

fn text(of: &Try) -> String {
    let (pod, patched) = of.patched();
    let needs = patched.needs.map(|needs| {
        let file: serde_json::Value = serde_saphyr::from_str(needs.config.text.as_str()).unwrap();
        json!({"configMap": needs.record.config, "sha256": needs.config.hash, "proxy.yaml": file})
    });
    let all = json!({"1 pod": pod, "2 warnings": patched.warnings, "3 needs": needs});
    serde_saphyr::to_string(&all).unwrap()
}

#[test]
fn the_article() {
    insta::assert_snapshot!("hello", text(&Try::yaml(HELLO)));
}

#[test]
fn everything_that_the_kubelet_asks() {
    let of = Try::yaml(
        "
apiVersion: v1
kind: Pod
metadata:
  name: web-0
  namespace: shop
  labels: {app: web}
  annotations: {example.com/team: shop, sidewall.dev/assign-uids: 'true', sidewall.dev/drop-capabilities: 'SETUID,SETGID'}
spec:
  serviceAccountName: web
  securityContext: {fsGroup: 3000, runAsNonRoot: true}
  terminationGracePeriodSeconds: 45
  initContainers:
  - {name: migrate, image: registry.example/migrate:1}
  - name: cache
    image: registry.example/cache:1
    restartPolicy: Always
    startupProbe: {tcpSocket: {port: 9090}}
  containers:
  - name: app
    image: registry.example/app:1
    ports: [{name: http, containerPort: 8080}, {name: metrics, containerPort: 9090}]
    startupProbe: {httpGet: {path: /live, port: http}, failureThreshold: 30, periodSeconds: 1}
    livenessProbe: {grpc: {port: 9090, service: liveness}, timeoutSeconds: 5}
    readinessProbe:
      httpGet:
        path: '/ready?full=1'
        port: 8080
        scheme: HTTPS
        httpHeaders: [{name: Host, value: web.example}]
    lifecycle:
      preStop: {httpGet: {path: /drain, port: http}}
    newerField: {kept: [as, it, is]}
  volumes:
  - {name: data, persistentVolumeClaim: {claimName: data}}
",
    )
    .by(tls());
    insta::assert_snapshot!("probes", text(&of));
}

#[test]
fn a_job_on_openshift_in_a_mesh() {
    let mut of = Try::yaml(
        "
apiVersion: v1
kind: Pod
metadata:
  generateName: report-
  labels: {app: web, batch.kubernetes.io/job-name: report}
  annotations: {openshift.io/scc: restricted-v2}
spec:
  restartPolicy: OnFailure
  securityContext: {fsGroup: 1000650000}
  initContainers:
  - name: istio-validation
    image: registry.example/istio:1
    securityContext: {runAsUser: 1337}
  - name: istio-proxy
    image: registry.example/istio:1
    restartPolicy: Always
    securityContext: {runAsUser: 1337}
  containers:
  - name: report
    image: registry.example/report:1
    securityContext: {runAsUser: 1000650000}
  - name: shipper
    image: registry.example/shipper:1
    securityContext: {runAsUser: 1000650000}
",
    );
    of.namespace.annotations.insert("openshift.io/sa.scc.uid-range".to_owned(), "1000650000/10000".to_owned());
    of.namespace.annotations.insert("sidewall.dev/drop-capabilities".to_owned(), "NET_ADMIN".to_owned());
    insta::assert_snapshot!("job", text(&of));
}
