//! Certificates that cert-manager makes: for the webhooks, where the chart is told so, and for proxies, where a SidecarProxy asks. Its
//! own controllers run beside a real API server. Needs root.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use base64::Engine;
use deployed::product::{self, LIMIT, Release, SHOP, fronted, hello, made_meanwhile};
use deployed::{NAMESPACE, certmanager};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::{Value, json};
use sidewall_node_tests::until::until;
use sidewall_node_tests::{Api, Cluster};
use tls_clients::Clients;

mod deployed;
mod tls_clients;

const WEBHOOKS: [(&str, &str); 2] =
    [("mutatingwebhookconfiguration", "sidewall-inject"), ("validatingwebhookconfiguration", "sidewall-validate")];

/// What the API server is told to believe, in both configurations; PEM.
fn bundles(api: &Api) -> BTreeSet<String> {
    let bundle = |(kind, name): (&str, &str)| {
        let told = api.get(&[kind, name]).unwrap();
        let bundle = told["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned();
        String::from_utf8(base64::prelude::BASE64_STANDARD.decode(bundle).unwrap()).unwrap()
    };
    WEBHOOKS.map(bundle).into()
}

fn decoded(secret: &Value, key: &str) -> Vec<u8> {
    base64::prelude::BASE64_STANDARD.decode(secret["data"][key].as_str().unwrap_or_default()).unwrap()
}

/// What a server shows to who believes these authorities.
fn shown(cluster: &Cluster, at: SocketAddr, name: &str, authorities: &str) -> Result<Vec<u8>, String> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(authority.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let mut client = ClientConnection::new(config, ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let handshake = || {
        let limit = Duration::from_secs(5);
        let mut connection = TcpStream::connect_timeout(&at, limit)?;
        connection.set_read_timeout(Some(limit))?;
        while client.is_handshaking() {
            client.complete_io(&mut connection)?;
        }
        let chain = client.peer_certificates().unwrap_or_default();
        Ok::<_, std::io::Error>(chain.first().map(|certificate| certificate.to_vec()).unwrap_or_default())
    };
    cluster.control().cell().netns().run(handshake).unwrap().map_err(|error| error.to_string())
}

/// What all operators' pods show, to who believes what the API server was told.
fn shown_by_operators(cluster: &Cluster, release: &Release<'_>) -> Result<BTreeSet<Vec<u8>>, String> {
    let bundles = bundles(cluster.api());
    let [bundle] = Vec::from_iter(bundles).try_into().map_err(|all| format!("two bundles: {all:?}"))?;
    let one = |pod: Value| {
        let address: IpAddr = pod["status"]["podIP"].as_str().ok_or("no address")?.parse().map_err(|_| "no address")?;
        let name = format!("sidewall-operator.{NAMESPACE}.svc");
        shown(cluster, SocketAddr::new(address, 9443), &name, &bundle)
    };
    release.operators().into_iter().map(one).collect()
}

/// Has the kubelet look at the operators' files at once, and not within two minutes.
fn touch(api: &Api, release: &Release<'_>) {
    for pod in release.operators() {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        let now = format!("bed.example/touched={:?}", Instant::now());
        let annotate =
            ["-n", NAMESPACE, "annotate", "--overwrite", "pod", &name, &now.replace([' ', '{', '}', ':'], "")];
        api.kubectl(&annotate).unwrap();
    }
}

/// The webhooks' certificate is cert-manager's, on the disk of the operators' pods and in what the API server believes. It is made
/// anew while pods are made; none is refused.
fn webhooks(cluster: &Cluster, release: &Release<'_>) {
    let api = cluster.api();
    let logs = || format!("{}\n{}", certmanager::log(cluster.control()), release.story());
    certmanager::ready(api, NAMESPACE, "certificates", "sidewall-operator-webhook");
    let secret = api.get(&["-n", NAMESPACE, "secret", "sidewall-operator-webhook-tls"]).unwrap();
    let authority = String::from_utf8(decoded(&secret, "ca.crt")).unwrap();
    until("the authority in both configurations", LIMIT, || {
        let told = bundles(api);
        Ok(if told == BTreeSet::from([authority.clone()]) { Ok(()) } else { Err(format!("{told:?}\n{}", logs())) })
    })
    .unwrap();
    let leaf =
        |secret: &Value| CertificateDer::pem_slice_iter(&decoded(secret, "tls.crt")).next().unwrap().unwrap().to_vec();
    assert_eq!(shown_by_operators(cluster, release).unwrap(), BTreeSet::from([leaf(&secret)]));
    let made = made_meanwhile(api, || {
        for _ in 0..2 {
            certmanager::renew(api, NAMESPACE, "sidewall-operator-webhook");
            let secret = api.get(&["-n", NAMESPACE, "secret", "sidewall-operator-webhook-tls"]).unwrap();
            touch(api, release);
            until("operators with another certificate", LIMIT, || {
                Ok(match shown_by_operators(cluster, release) {
                    Ok(shown) if shown == BTreeSet::from([leaf(&secret)]) => Ok(()),
                    shown => Err(format!("{:?}\n{}", shown.map(|all| all.len()), logs())),
                })
            })
            .unwrap();
            sleep(Duration::from_secs(1));
        }
    });
    println!("{made} pods were made while the webhooks' certificate was made anew twice");
    assert!(made > 20, "{made}");
    // Nobody but cert-manager's injector has written the authority.
    let fields = api.kubectl(&["get", WEBHOOKS[0].0, WEBHOOKS[0].1, "-o", "json", "--show-managed-fields"]).unwrap();
    let fields: Value = serde_json::from_str(&fields).unwrap();
    let all = fields["metadata"]["managedFields"].as_array().unwrap();
    let who = all.iter().filter(|entry| entry["fieldsV1"].to_string().contains("f:caBundle"));
    let who: Vec<&Value> = who.map(|entry| &entry["manager"]).collect();
    assert!(!who.is_empty() && who.iter().all(|who| **who == json!("cert-manager-cainjector")), "{who:?}");
}

/// A SidecarProxy asks for a certificate: the operator asks cert-manager, and the proxy serves with what comes, and with what comes
/// later.
fn proxies(cluster: &Cluster, release: &Release<'_>) {
    let api = cluster.api();
    let logs = || format!("{}\n{}", certmanager::log(cluster.control()), release.story());
    product::open_shop(api);
    certmanager::issuer(api, SHOP, "shop");
    let certificate = json!({"source": "CertManager", "issuerRef": {"name": "shop"}, "dnsNames": ["hello.shop.svc"]});
    let proxy = json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "SidecarProxy", "metadata": {"name": "hello", "namespace": SHOP},
        "spec": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "hello"}},
            "listeners": [{
                "port": 8443, "forward": {"port": 8080}, "anonymous": true,
                "tls": {"secretName": "hello-tls", "certificate": certificate},
            }],
        },
    });
    product::apply(release, &proxy.to_string());
    product::apply(release, &product::example("application.yaml"));
    let pod = hello(release);
    assert!(fronted(&pod), "{pod}");
    certmanager::ready(api, SHOP, "certificates", "hello-tls");
    let told = api.until("the status", LIMIT, &["-n", SHOP, "sidecarproxy", "hello"], |object| {
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|found| found["type"] == "CertificatesReady" && found["status"] == "True")
    });
    told.unwrap_or_else(|error| panic!("{error}\n{}", logs()));
    let secret = api.get(&["-n", SHOP, "secret", "hello-tls"]).unwrap();
    let address: IpAddr = pod["status"]["podIP"].as_str().unwrap().parse().unwrap();
    let clients = Clients::new((address, 8443).into(), "hello.shop.svc", &decoded(&secret, "ca.crt"));
    let took = scope(|scope| {
        for _ in 0..2 {
            clients.start(scope, cluster.control().cell().netns());
        }
        let seen = |count| {
            let seen = until("another certificate", LIMIT, || {
                let (seen, counted) = (clients.certificates(), clients.counted());
                Ok(if seen >= count { Ok(()) } else { Err(format!("{seen} {counted:?}\n{}", logs())) })
            });
            seen.map_err(|error| error.to_string())
        };
        let renewed = || -> Result<Vec<Duration>, String> {
            seen(1)?;
            let mut took = Vec::new();
            for count in [2, 3] {
                certmanager::renew(api, SHOP, "hello-tls");
                let begun = Instant::now();
                seen(count)?;
                took.push(begun.elapsed());
                sleep(Duration::from_secs(1));
            }
            Ok(took)
        };
        // A panic in here would wait for the clients for ever.
        let took = std::panic::catch_unwind(std::panic::AssertUnwindSafe(renewed));
        clients.end();
        took
    });
    let (answered, failed) = clients.counted();
    println!("served after {took:?}; {answered} requests, {} failed", failed.len());
    let took = took.unwrap().unwrap();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(answered > 100, "{answered}");
    assert!(took.iter().all(|took| *took < Duration::from_secs(20)), "{took:?}");
    let after = hello(release);
    assert_eq!(after["metadata"]["uid"], pod["metadata"]["uid"]);
    assert_eq!(after["status"]["initContainerStatuses"][0]["restartCount"], 0);
}

/// From one to the other and back: the operator's own certificates and cert-manager's are in each other's way nowhere.
fn changed(cluster: &Cluster, release: &Release<'_>) {
    let api = cluster.api();
    for (source, secret) in
        [("SelfManaged", "sidewall-operator-webhook"), ("CertManager", "sidewall-operator-webhook-tls")]
    {
        release.upgrade(&[&format!("operator.certificates.source={source}")]);
        release.rolled_out("deployment/sidewall-operator");
        until("operators that are believed", LIMIT, || {
            let held = api.get(&["-n", NAMESPACE, "secret", secret])?;
            let told = bundles(api);
            let shown = shown_by_operators(cluster, release);
            let served = CertificateDer::pem_slice_iter(&decoded(&held, "tls.crt")).flatten().next();
            let served = served.map(|leaf| leaf.to_vec()).unwrap_or_default();
            Ok(match shown {
                Ok(shown) if shown == BTreeSet::from([served]) => Ok(()),
                shown => Err(format!(
                    "{source}: {told:?} {:?}\n{}\n{}",
                    shown.map(|all| all.len()),
                    certmanager::log(cluster.control()),
                    release.story()
                )),
            })
        })
        .unwrap();
        assert!(made_meanwhile(api, || sleep(Duration::from_secs(2))) > 0);
    }
}

#[test]
fn cert_manager_makes_what_webhooks_and_proxies_serve_with() {
    let begun = Instant::now();
    let cluster = Cluster::start(1).unwrap();
    product::import_images(&cluster);
    certmanager::start(cluster.control());
    println!("{:?}: a cluster with cert-manager", begun.elapsed());
    // The walls have nothing to do with it.
    let release = Release::install(&cluster, &["operator.certificates.source=CertManager", "agent.enabled=false"]);
    release.rolled_out("deployment/sidewall-operator");
    println!("{:?}: installed", begun.elapsed());
    proxies(&cluster, &release);
    println!("{:?}: a proxy with cert-manager's certificates", begun.elapsed());
    webhooks(&cluster, &release);
    println!("{:?}: webhooks with cert-manager's certificates", begun.elapsed());
    changed(&cluster, &release);
    println!("{:?}: changed to the operator's own, and back", begun.elapsed());
}
