//! What is said of a Secret's content.

use super::*;

const USER: &str = "admin:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=\n";

/// What is warned of, with this in the Secrets.
fn with(spec: &str, contents: Vec<(&str, Content)>, now: Option<i64>) -> Vec<String> {
    let question = question(&review(&proxy(spec), None));
    let contents = contents.into_iter().map(|(name, content)| (name.to_owned(), content)).collect();
    warned(&question, &Facts { contents, now, ..allowed(&question) })
}

fn users(content: Content) -> Vec<String> {
    with(USERS, vec![("web-users", content)], None)
}

/// A certificate that ends in a year, and its key.
fn pair(until: i32) -> (String, String) {
    let mut params = rcgen::CertificateParams::new(vec!["web.shop.svc".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn what_is_good_has_nothing_said_of_it() {
    assert_eq!(users(content(&[("htpasswd", USER)])), [""; 0]);
    let (cert, key) = pair(2030);
    let tls = content(&[("tls.crt", &cert), ("tls.key", &key), ("ca.crt", "whatever")]);
    let contents = vec![("web-tls", tls), ("web-users", content(&[("htpasswd", USER)]))];
    assert_eq!(with(TLS, contents, Some(1_893_455_999)), [""; 0]);
}

#[test]
fn what_is_not_there_is_told_of() {
    let at = "spec.listeners[0].authentication[0].basic.secretName";
    assert_eq!(
        users(Content::Missing),
        [format!("{at}: there is no Secret shop/web-users yet; new pods wait until it is there")]
    );
    assert_eq!(
        users(Content::Unread("timed out".to_owned())),
        [format!("{at}: Secret shop/web-users could not be read, so what is in it was not checked (timed out)")]
    );
    assert_eq!(
        users(content(&[("htpaswd", USER)])),
        [format!(
            "{at}: Secret shop/web-users has no key \"htpasswd\"; did you mean \"htpaswd\"?; new pods wait until it has"
        )]
    );
    // A key that is not near is not told.
    assert_eq!(
        users(content(&[("password", "sesame")])),
        [format!("{at}: Secret shop/web-users has no key \"htpasswd\"; new pods wait until it has")]
    );
    assert_eq!(
        with(TLS, vec![("web-tls", content(&[("tls.crt", "x")]))], None),
        ["spec.listeners[0].tls.secretName, spec.listeners[1].tls.secretName: Secret shop/web-tls has no key \"tls.key\"; did you mean \"tls.crt\"?; new pods wait until it has"]
            .map(|text| text.replace("; did you mean \"tls.crt\"?", ""))
    );
}

#[test]
fn lines_that_are_not_understood_are_told_by_their_numbers_and_never_quoted() {
    let file = format!(
        "{USER}sesame\nbob:sesame\n\nadmin:{{SHA}}0DPiKuNIrrVmD8IUCuw1hQxNqZc=\nc:$2y$31$sesame\n:x\n\u{1}:sesame\nopen:\nclosed\n"
    );
    let said = users(content(&[("htpasswd", &file)]));
    let place = "Secret shop/web-users, key \"htpasswd\"";
    assert_eq!(said.len(), 6, "{said:#?}");
    assert_eq!(said[0], format!("{place}: line 2: has no colon between user and hash; write `user:hash`"));
    assert!(
        said[1].starts_with(&format!("{place}: line 3: has a hash of an unsupported kind; use bcrypt")),
        "{}",
        said[1]
    );
    assert_eq!(said[2], format!("{place}: line 5: has a user that line 1 has already; remove one of them"));
    assert_eq!(said[3], format!("{place}: line 6: has a bcrypt cost of 31; at most 14 is accepted"));
    assert_eq!(
        said[5],
        format!("{place}: 3 more lines are wrong, and the proxy takes nothing of it until all is mended")
    );
    for text in &said {
        assert!(!text.contains("sesame") && !text.contains("bob") && text.chars().count() <= 256, "{text}");
    }
}

#[test]
fn a_file_without_users_lets_nobody_in() {
    assert_eq!(
        users(content(&[("htpasswd", "# none yet\n")])),
        ["Secret shop/web-users, key \"htpasswd\": has no user, so that nobody can log in; add a line `user:hash`"]
    );
}

#[test]
fn certificates_are_tried_as_the_proxy_would() {
    let (cert, key) = pair(2030);
    let (_, other) = pair(2030);
    let tls = |entries: &[(&str, &str)], now| {
        let contents = vec![("web-tls", content(entries)), ("web-users", content(&[("htpasswd", USER)]))];
        with(TLS, contents, now)
    };
    let place = "Secret shop/web-tls, keys \"tls.crt\" and \"tls.key\"";
    for (cert, key, expected) in [
        (
            cert.as_str(),
            other.as_str(),
            "the private key does not belong to the certificate; the proxy cannot use them",
        ),
        (
            "sesame",
            &key,
            "the certificate file holds no PEM certificate (-----BEGIN CERTIFICATE-----); the proxy cannot use them",
        ),
        (
            &cert,
            "sesame",
            "the key file holds no unencrypted PEM private key (-----BEGIN PRIVATE KEY-----); the proxy cannot use them",
        ),
    ] {
        assert_eq!(tls(&[("tls.crt", cert), ("tls.key", key)], None), [format!("{place}: {expected}")]);
    }
    assert_eq!(
        tls(&[("tls.crt", &cert), ("tls.key", &key)], Some(1_893_456_000)),
        [
            "Secret shop/web-tls, key \"tls.crt\": the certificate ended at 2030-01-01T00:00:00Z: clients refuse it; renew it"
        ]
    );
}

#[test]
fn who_may_not_read_a_secret_learns_nothing_of_it() {
    let question = question(&review(&proxy(USERS), None));
    let contents = || [("web-users".to_owned(), content(&[("htpaswd", "x")]))].into();
    let with = |permission| {
        let access = [(Access::Secret("web-users".to_owned()), permission)].into();
        refused(&question, &Facts { access, contents: contents(), ..Facts::default() })
    };
    let without = |permission| {
        let access = [(Access::Secret("web-users".to_owned()), permission)].into();
        refused(&question, &Facts { access, ..Facts::default() })
    };
    assert_eq!(with(Permission::Denied), without(Permission::Denied));
    let unanswered = || Permission::Unanswered("x".to_owned());
    assert_eq!(with(unanswered()), without(unanswered()));
    // Nor does who changes something else.
    let old = proxy(USERS);
    let mut new = old.clone();
    new["spec"]["limits"] = json!({"headers": 50});
    let question = super::question(&review(&new, Some(&old)));
    assert_eq!(warned(&question, &Facts { contents: contents(), ..Facts::default() }), [""; 0]);
}
