use super::*;
use k8s_openapi::api::core::v1::ContainerPort;

fn port(container: &Container, port: IntOrString) -> Option<u16> {
    Asked::Tcp { port: &port, host: None }.port(container)
}

#[test]
fn ports_are_found_as_the_kubelet_finds_them() {
    let named = |name: &str, number| ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        ..ContainerPort::default()
    };
    let container = Container { ports: Some(vec![named("http", 8080), named("9", 9090)]), ..Container::default() };
    assert_eq!(port(&container, IntOrString::Int(80)), Some(80));
    assert_eq!(port(&container, IntOrString::String("http".to_owned())), Some(8080));
    assert_eq!(port(&container, IntOrString::String("9".to_owned())), Some(9090));
    assert_eq!(port(&container, IntOrString::String("81".to_owned())), Some(81));
    for bad in
        [IntOrString::Int(0), IntOrString::Int(-1), IntOrString::Int(65_536), IntOrString::String("x".to_owned())]
    {
        assert_eq!(port(&container, bad), None);
    }
}

#[test]
fn words_of_hooks_depend_on_everything_and_on_the_secret() {
    let secret = HookSecret::new(&[1; 32]).unwrap();
    let word = |secret: &HookSecret, namespace: &str, proxy: &str, container: &str, occasion| {
        secret.key(namespace, proxy, container, occasion).expose().to_owned()
    };
    let words: std::collections::BTreeSet<String> = [
        word(&secret, "a", "b", "c", Occasion::PreStop),
        word(&secret, "a", "b", "c", Occasion::PostStart),
        word(&secret, "ab", "", "c", Occasion::PreStop),
        word(&secret, "a", "bc", "", Occasion::PreStop),
        word(&HookSecret::new(&[2; 32]).unwrap(), "a", "b", "c", Occasion::PreStop),
    ]
    .into();
    assert_eq!(words.len(), 5);
    assert!(words.iter().all(|word| word.len() == 22));
    assert_eq!(word(&secret, "a", "b", "c", Occasion::PreStop), word(&secret, "a", "b", "c", Occasion::PreStop));
    assert_eq!(HookSecret::new(b"short").unwrap_err(), BadHookSecret { length: 5 });
    assert_eq!(format!("{secret:?}"), "HookSecret(redacted)");
}

#[test]
fn an_annotation_that_we_have_not_written_is_told_without_a_quote() {
    let read = |text: &str| read_originals(&[(crate::names::ANNOTATION_PROBES.to_owned(), text.to_owned())].into());
    assert_eq!(read("{}").unwrap(), Originals::new());
    assert!(read(r#"{"app": {"liveness": {"port": 1, "timeoutSeconds": 1, "grpc": {"port": 1}}}}"#).is_ok());
    for bad in [
        "",
        "[]",
        r#"{"app": {"sometimes": {}}}"#,
        r#"{"app": {"liveness": {"port": 70000, "timeoutSeconds": 1, "grpc": {"port": 1}}}}"#,
        r#"{"app": {"liveness": {"port": 1, "timeoutSeconds": 1, "grpc": {"port": 1}, "more": "c2VjcmV0"}}}"#,
        r#"{"app": {"liveness": {"port": 1, "timeoutSeconds": 1}}}"#,
        r#"{"app": {"liveness": {"port": 1, "timeoutSeconds": 1, "grpc": {"port": 1}, "tcpSocket": {"port": 1}}}}"#,
        r#"{"app": {"liveness": {"port": 1, "timeoutSeconds": 1, "httpGet": "c2VjcmV0"}}}"#,
    ] {
        let error = read(bad).unwrap_err().to_string();
        assert!(error.contains("sidewall.dev/probes") && !error.contains("c2VjcmV0"), "{error}");
    }
    assert!(read(&" ".repeat(ORIGINALS_MAX + 1)).is_err());
}
