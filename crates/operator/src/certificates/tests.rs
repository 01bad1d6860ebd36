use super::*;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::collections::VecDeque;
use std::sync::Arc;

type Secret = BTreeMap<String, Vec<u8>>;

fn names() -> Vec<String> {
    ["sidewall-operator.sidewall-system.svc", "sidewall-operator.sidewall-system.svc.cluster.local"]
        .map(str::to_owned)
        .into()
}

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// Whether whoever believes `authorities` accepts what is served, as rustls and so the strictest client finds it.
pub(crate) fn accepts(authorities: &str, served: &str, name: &str, now: SystemTime) -> Result<(), String> {
    let mut roots = rustls::RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(authority.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let served = CertificateDer::from_pem_slice(served.as_bytes()).unwrap();
    let at = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier.verify_server_cert(&served, &[], &name, &[], at).map(drop).map_err(|error| error.to_string())
}

#[test]
fn what_is_made_is_accepted_and_can_be_served() {
    let store = Store::new(&names(), start()).unwrap();
    let (certificate, key) = store.serving();
    for name in names() {
        assert_eq!(accepts(&store.authorities(), certificate, &name, start()), Ok(()));
    }
    assert!(accepts(&store.authorities(), certificate, "another.sidewall-system.svc", start()).is_err());
    assert!(accepts(&store.authorities(), certificate, &names()[0], start() + SERVING + HOUR).is_err());
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let served = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    served.with_no_client_auth().with_single_cert(chain, key).unwrap();
}

/// For three years: whoever was told an hour ago accepts what is served now, and whoever is told now accepts what was served an
/// hour ago.
#[test]
fn nobody_who_is_an_hour_late_is_refused() {
    let mut store = Store::new(&names(), start()).unwrap();
    let mut before = VecDeque::from([(store.authorities(), store.serving().0.to_owned())]);
    let (mut authorities, mut served) = (1, 1);
    for hour in 1..3 * 365 * 24 {
        let now = start() + HOUR * hour;
        // One step an hour is all that is asked for.
        if let Some(next) = store.next(&names(), now).unwrap() {
            served += u32::from(next.serving().0 != store.serving().0);
            authorities += u32::from(next.authority.current.certificate != store.authority.current.certificate);
            store = Store::read(&next.written()).unwrap();
        }
        before.push_back((store.authorities(), store.serving().0.to_owned()));
        if before.len() > 2 {
            before.pop_front();
        }
        let (old, new) = (&before[0], &before[before.len() - 1]);
        if old != new || hour % 24 == 0 {
            for (told, serves) in [(old, new), (new, old), (new, new)] {
                assert_eq!(accepts(&told.0, &serves.1, &names()[0], now), Ok(()), "hour {hour}");
            }
        }
    }
    assert!(
        (4..=6).contains(&authorities) && (50..=70).contains(&served),
        "{authorities} authorities, {served} certificates"
    );
    assert!(store.authority.former.is_none() || store.authority.next.is_none());
}

#[test]
fn other_names_and_a_long_absence_make_others() {
    let store = Store::new(&names(), start()).unwrap();
    assert!(store.next(&names(), start() + DAY).unwrap().is_none());
    let renamed = vec!["operator.elsewhere.svc".to_owned()];
    let next = store.next(&renamed, start() + DAY).unwrap().unwrap();
    assert_eq!(next.authorities(), store.authorities());
    assert_eq!(accepts(&store.authorities(), next.serving().0, &renamed[0], start() + DAY), Ok(()));
    let late = start() + SERVING + DAY;
    let next = store.next(&names(), late).unwrap().unwrap();
    assert_ne!(next.authorities(), store.authorities());
    assert_eq!(accepts(&next.authorities(), next.serving().0, &names()[0], late), Ok(()));
}

#[test]
fn a_secret_that_somebody_has_changed_is_told_without_its_keys() {
    let store = Store::new(&names(), start()).unwrap();
    let whole = store.written();
    assert_eq!(Store::read(&whole).unwrap().written(), whole);
    let other = Store::new(&names(), start()).unwrap().written();
    let changed = |change: &dyn Fn(&mut Secret)| {
        let mut secret = whole.clone();
        change(&mut secret);
        let told = Store::read(&secret).unwrap_err().to_string();
        assert!(!told.contains("BEGIN") && !told.contains("MIG"), "{told}");
        told
    };
    for entry in ["ca.crt", "ca.key", "tls.crt", "tls.key"] {
        assert_eq!(changed(&|secret| drop(secret.remove(entry))), format!("the Secret has no {entry:?}"));
        for content in
            [&b""[..], b"\xff\xfe", b"words", b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"]
        {
            let told = changed(&|secret| drop(secret.insert(entry.to_owned(), content.to_vec())));
            assert!(told.contains(entry), "{told}");
        }
    }
    let told = changed(&|secret| drop(secret.insert("tls.key".to_owned(), other["tls.key"].clone())));
    assert!(told.contains("not that of its certificate"), "{told}");
    let told = changed(&|secret| {
        for entry in ["tls.crt", "tls.key"] {
            secret.insert(entry.to_owned(), other[entry].clone());
        }
    });
    assert!(told.contains("none of its authorities"), "{told}");
    let told = changed(&|secret| drop(secret.insert("ca-next.crt".to_owned(), other["ca.crt"].clone())));
    assert!(told.contains("ca-next.key"), "{told}");
    assert!(!format!("{store:?}").contains("PRIVATE"));
}
