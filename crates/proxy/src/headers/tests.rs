use super::*;

fn map(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).expect("a name"),
            HeaderValue::from_str(value).expect("a value"),
        );
    }
    headers
}

fn forwarded(lines: &[(&str, &str)], user: Option<&str>) -> HeaderMap {
    let mut headers = map(lines);
    let user = user.map(|user| HeaderValue::from_str(user).expect("a value"));
    let origin = Origin { peer: "::ffff:192.0.2.1".parse().expect("an address"), tls: true, user: user.as_ref() };
    to_upstream(&mut headers, origin).expect("the request passes");
    headers
}

fn names(headers: &HeaderMap) -> Vec<String> {
    let mut names: Vec<String> = headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort();
    names
}

const OURS: [&str; 2] = ["x-forwarded-for", "x-forwarded-proto"];

#[test]
fn forged_identities_are_dropped_in_every_spelling_with_or_without_a_user() {
    for name in [
        "X-Forwarded-User",
        "x-forwarded-user",
        "X_FORWARDED_USER",
        "X-Forwarded_User",
        "x.forwarded.user",
        "X-Forwarded-Groups",
        "X_Forwarded_Email",
        "X-Forwarded-Preferred-Username",
        "X-Forwarded-Access-Token",
        "X-Forwarded-Client-Cert",
        "X-Forwarded-Port",
        "X_Forwarded_Proto",
        "Remote-User",
        "Remote_User",
        "REMOTE-GROUPS",
        "X-Remote-User",
        "X-Remote-Group",
        "x_remote_extra_scopes",
        "X-Auth-Request-User",
        "X-WebAuth-User",
        "X-Authenticated-User",
        "X-Real-IP",
        "X_Real_IP",
        "True-Client-IP",
        "Forwarded",
        "Client_Cert",
        "Proxy",
    ] {
        for user in [None, Some("ada")] {
            let headers = forwarded(&[(name, "forged"), ("accept", "*/*")], user);
            let mut expected = vec!["accept"];
            expected.extend(OURS);
            expected.extend(user.map(|_| "x-forwarded-user"));
            assert_eq!(names(&headers), expected, "{name}");
            assert!(headers.values().all(|value| value != "forged"), "{name}");
            assert_eq!(headers.get(FORWARDED_USER).map(|value| value.to_str().expect("text")), user);
        }
    }
}

#[test]
fn look_alikes_that_are_no_identity_pass() {
    for name in [
        "x-forward",
        "user-agent",
        "xforwardedxuser",
        "remote",
        "x-requested-with",
        "proxying",
        "authority",
        "x-auth-token",
        "x-client-version",
    ] {
        assert!(forwarded(&[(name, "kept")], None).contains_key(name), "{name}");
    }
}

#[test]
fn what_connection_names_goes_before_the_identity_is_set() {
    let headers = forwarded(
        &[
            ("connection", "keep-alive, X-Forwarded-User, x-forwarded-for"),
            ("connection", "X-Custom , ,close"),
            ("x-custom", "1"),
            ("x-forwarded-user", "forged"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("proxy-authorization", "Basic x"),
        ],
        Some("ada"),
    );
    assert_eq!(names(&headers), ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-user"]);
    assert_eq!(headers[FORWARDED_USER], "ada");
    assert_eq!(headers[FORWARDED_FOR], "192.0.2.1");
    assert_eq!(headers[FORWARDED_PROTO], "https");
}

#[test]
fn host_is_kept_and_told_and_credentials_are_not_passed_on() {
    let headers = forwarded(
        &[
            ("host", "shop.example:8443"),
            ("authorization", "Basic eA=="),
            ("expect", "100-continue"),
            ("cookie", "a=b"),
        ],
        None,
    );
    assert_eq!(headers["host"], "shop.example:8443");
    assert_eq!(headers["x-forwarded-host"], "shop.example:8443");
    assert_eq!(headers["cookie"], "a=b");
    assert!(!headers.contains_key("authorization") && !headers.contains_key("expect"));
}

#[test]
fn connection_may_not_name_what_frames_or_routes_the_request() {
    for name in ["host", "Content-Length"] {
        let mut headers = map(&[("connection", name), ("host", "a")]);
        let origin = Origin { peer: [127, 0, 0, 1].into(), tls: false, user: None };
        assert_eq!(to_upstream(&mut headers, origin), Err(HeadFault::ConnectionNames));
    }
}

#[test]
fn heads_that_can_be_read_in_two_ways_are_refused() {
    let check = |method: &str, uri: &str, version, lines: &[(&str, &str)]| {
        check_request(&method.parse().expect("a method"), &uri.parse().expect("a target"), version, &map(lines))
    };
    let h11 = Version::HTTP_11;
    assert_eq!(check("GET", "/", h11, &[("host", "a")]), Ok(()));
    assert_eq!(check("GET", "/", h11, &[]), Err(HeadFault::NoHost));
    assert_eq!(check("GET", "/", Version::HTTP_10, &[]), Ok(()));
    assert_eq!(check("GET", "/", h11, &[("host", "a"), ("host", "a")]), Err(HeadFault::ManyHosts));
    assert_eq!(check("GET", "http://A/", h11, &[("host", "a")]), Ok(()));
    assert_eq!(check("GET", "http://b/", h11, &[("host", "a")]), Err(HeadFault::OtherHost));
    let twice = [("host", "a"), ("authorization", "Basic eA=="), ("authorization", "Basic eQ==")];
    assert_eq!(check("GET", "/", h11, &twice), Err(HeadFault::ManyAuthorizations));
    assert_eq!(check("GET", "/", h11, &[("host", "a"), ("expect", "100-Continue")]), Ok(()));
    assert_eq!(check("GET", "/", h11, &[("host", "a"), ("expect", "x")]), Err(HeadFault::Expectation));
    assert_eq!(check("TRACE", "/", h11, &[("host", "a")]), Err(HeadFault::Unsupported));
    assert_eq!(check("GET", "/", h11, &[("host", "a"), ("upgrade", "h2c")]), Ok(()));
    assert_eq!(check("GET", "/", h11, &[("host", "a"), ("upgrade", "h2c, WebSocket")]), Err(HeadFault::Unsupported));
}

#[test]
fn trailers_carry_neither_identity_nor_framing() {
    let mut trailers = map(&[
        ("x-forwarded-user", "forged"),
        ("X_Remote_User", "forged"),
        ("authorization", "forged"),
        ("content-length", "5"),
        ("connection", "close"),
        ("x-checksum", "abc"),
    ]);
    clean_trailers(&mut trailers);
    assert_eq!(names(&trailers), ["x-checksum"]);
}

#[test]
fn responses_lose_what_belongs_to_the_connection() {
    let mut headers = map(&[
        ("connection", "close, x-internal"),
        ("x-internal", "1"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("keep-alive", "timeout=5"),
        ("content-type", "text/plain"),
        ("www-authenticate", "Bearer"),
    ]);
    to_client(&mut headers);
    assert_eq!(names(&headers), ["content-type", "www-authenticate"]);
}
