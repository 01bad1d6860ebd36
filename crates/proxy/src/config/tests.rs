use super::*;

const GOOD: &str = "\
listeners:
- port: 8443
  address: 127.0.0.1
  forward: {port: 8080}
  tls: {certFile: tls.crt, keyFile: tls.key, minVersion: '1.3'}
  authentication:
  - basic: {htpasswdFile: users}
timeouts: {drainSeconds: 5}
";

fn error(text: &str) -> String {
    from_yaml(text).expect_err(text).to_string()
}

#[test]
fn a_sound_file_is_read() {
    let config = from_yaml(GOOD).expect("it reads");
    assert_eq!(config.listeners[0].port, 8443);
    assert_eq!(config.timeouts.drain_seconds, 5);
}

#[test]
fn problems_name_line_and_field() {
    let text = GOOD.replace("keyFile: tls.key, ", "").replace("drainSeconds: 5", "drainSeconds: 0");
    assert_eq!(
        error(&text),
        "line 5: listeners[0].tls.keyFile: is needed because `certFile` is set\n\
         line 8: timeouts.drainSeconds: 0 is out of bounds; use 1 to 86400"
    );
    let open = "listeners:\n\n- port: 80\n  forward:\n    port: 8080\n    protocol: TCP\n";
    assert_eq!(
        error(open).lines().map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(": ")).collect::<Vec<_>>(),
        ["line 6: listeners[0].forward.protocol", "line 3: listeners[0].authentication"]
    );
}

#[test]
fn what_does_not_read_names_line_and_column() {
    for (text, place, word) in [
        (GOOD.replace("timeouts", "timeout"), "8:", "timeout"),
        (GOOD.replace("basic", "jwt"), "7:", "jwt"),
        (GOOD.replace("8443", "84433"), "2:", ""),
        (GOOD.replace("127.0.0.1", "localhost"), "3:", ""),
        (GOOD.replace("'1.3'", "'1.1'"), "5:", "1.1"),
        (format!("{GOOD}timeouts: {{}}\n"), "9:", "timeouts"),
        ("listeners: [".to_owned(), "1:", ""),
    ] {
        let message = error(&text);
        assert!(message.starts_with(place), "{text}\n{message}");
        assert!(message.contains(word), "{message}");
    }
    assert!(from_yaml("").is_err());
}

#[test]
fn the_file_is_named_before_every_problem() {
    let file = Path::new("/etc/proxy.yaml");
    let message =
        from_file(file, b"listeners:\n- port: 0\n  forward: {port: 0}\n").expect_err("two ports are 0").to_string();
    assert_eq!(message.lines().count(), 3, "{message}");
    assert!(message.lines().all(|line| line.starts_with(&format!("{}:", file.display()))), "{message}");
    let binary = from_file(file, b"listeners:\n# \xff\n").expect_err("no text").to_string();
    assert_eq!(binary, "/etc/proxy.yaml:2: is not UTF-8");
}

#[test]
fn the_example_is_valid_complete_and_has_the_defaults() {
    let text = include_str!("../../proxy.example.yaml");
    let config = from_yaml(text).expect("the example reads");
    assert_eq!(config.limits, sidewall_proxy_config::Limits::default());
    assert_eq!(config.timeouts, sidewall_proxy_config::Timeouts::default());
    assert_eq!(config.admin, Some(sidewall_proxy_config::Admin::default()));
    let probes = config.probes.as_ref().expect("the probe port");
    assert_eq!((probes.port, probes.address), (sidewall_proxy_config::DEFAULT_PROBE_PORT, None));
    let capture = config.capture.as_ref().expect("capture");
    assert_eq!(capture.port, sidewall_proxy_config::DEFAULT_CAPTURE_PORT);
    let all = serde_json::to_value(&config).expect("it serialises");
    for block in ["limits", "timeouts", "admin", "probes", "capture"] {
        for field in all[block].as_object().expect("an object").keys() {
            assert!(text.contains(&format!("\n  {field}:")), "{block}.{field} is missing");
        }
    }
}
