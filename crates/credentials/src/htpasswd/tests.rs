use proptest::prelude::*;

use super::*;

/// Password, hash: each made by the program named above it (htpasswd 2.4.71, OpenSSL 3.0.22, crypt(3) of glibc 2.36).
const VECTORS: &[(&str, &str)] = &[
    // openssl passwd -5 -salt saltsalt admin
    ("admin", "$5$saltsalt$ajilCybiF3oQBEfeTHO1rkbsmz9HcJplt.gHWXkRfD4"),
    // openssl passwd -5 -salt Zu.x9 'pa ss:wörd'
    ("pa ss:wörd", "$5$Zu.x9$Lxod8t8Xft9h1mlnNTU3GcKItCQNu2a1uw2WIYz6Db6"),
    // openssl passwd -5 -salt ab $(printf 'a%.0s' {1..88})
    (LONG, "$5$ab$f5I9/dJJZuXIUNpIbuSSEyGSFI.e.NTc5VMaCU1ZB10"),
    // openssl passwd -5 -salt 'rounds=1234$saltsalt' admin
    ("admin", "$5$rounds=1234$saltsalt$8WGUzj8zYZz2Jr.Xav.H1vB.yQO9bsBQIXuKOP6GxuA"),
    // htpasswd -nb2 u admin
    ("admin", "$5$ImxzRtAKrZNqg3KG$pvqhXM/cPXZH4Zt9POg0yCHzxy9v/aR9fJSb/f0Xdf7"),
    // htpasswd -nb2 -r 2000 u admin
    ("admin", "$5$rounds=2000$Bm/F6o18UX3zNqhP$5WgvOksrjO./KCWWsrG3GJ1puY1Ljxn6QYQmsnTIRT7"),
    // openssl passwd -6 -salt saltsalt admin
    ("admin", "$6$saltsalt$ZxoUf1bJzACFdk9GZkBGmxXd3Rq8nUoGjgon4GVoI91SlW41Ew2djlh60PmWr4flwags.7ULrKVSSmnCEsIOj1"),
    // openssl passwd -6 -salt Zu.x9 'pa ss:wörd'
    ("pa ss:wörd", "$6$Zu.x9$qG8Ht8eauc9l0jeyD6Xc7ydjOdSPvh/DaE1lI.ASMU3xLvb1d6KSWfEoUKxh2q7QnrS3a/KhRTH68FsBGHIFE."),
    // openssl passwd -6 -salt ab $(printf 'a%.0s' {1..88})
    (LONG, "$6$ab$xCEy5hDQnjCB705DXOPfRS14GAVg09qKwRplji.Nt.HW4kaljtdQIftkMiAmqv.BUA9wkIoGErXtUyHFYgqfi0"),
    // openssl passwd -6 -salt 'rounds=10000$saltsalt' admin
    (
        "admin",
        "$6$rounds=10000$saltsalt$/BvAonal4eQYlftBXjaQM3nApgRwZmnhuwuPnZM7Kd6Qh9rGbDtnUPnFKKONA11q0XVH01h7AtETQOU.JLhZl1",
    ),
    // htpasswd -nb5 u admin
    (
        "admin",
        "$6$EDVaD9na4rAG7Z8k$KRNLc8FvPzL0ilk9U0pScc13wCkIbvZ.KBSYO./COQLCMYpl6PtGdrwblsCtyJz.28lfcZKpWcp4PnWMtGPxo/",
    ),
    // openssl passwd -apr1 -salt saltsalt admin
    ("admin", "$apr1$saltsalt$9c0WR0Se3z5lfIgYnltHf1"),
    // openssl passwd -apr1 -salt Zu.x9 'pa ss:wörd'
    ("pa ss:wörd", "$apr1$Zu.x9$Agpgk48HeknLK5n2MhvkW/"),
    // openssl passwd -apr1 -salt ab $(printf 'a%.0s' {1..88})
    (LONG, "$apr1$ab$NmK2O5AIE7HcEJN9ucIqz/"),
    // openssl passwd -apr1 -salt x ''
    ("", "$apr1$x$tMwYqBfQwi3FYAr0aJc8M/"),
    // htpasswd -nbm admin admin
    ("admin", "$apr1$837ZICup$/JkHlYsg3Db39Eyw.u7gK/"),
    // htpasswd -nbB -C 5 u admin
    ("admin", "$2y$05$gaghfYAf/DrQU93nYP6L1.2IAVtZ9MfXKgiz6AB4rsJ6Q3bv1K9MS"),
    // htpasswd -nbB -C 4 u 'pa ss:wörd'
    ("pa ss:wörd", "$2y$04$Ma1hGRtOxnvON.yuLk2vvujcsMRlnLUitYsAbSujq6u/Z451UI9l."),
    // htpasswd -nbB -C 4 u $(printf 'a%.0s' {1..80})
    (
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "$2y$04$cXhP57F21tw.djDxcTsb8OQEviYLlad.fYCWiGm6.eE9FIm2/kVVq",
    ),
    // perl -e 'print crypt("admin", "\$2a\$05\$abcdefghijklmnopqrstuu")'
    ("admin", "$2a$05$abcdefghijklmnopqrstuu/ETYr/khvH.poOJBsjjZk.DM9FaNihe"),
    // perl -e 'print crypt("admin", "\$2b\$05\$abcdefghijklmnopqrstuu")'
    ("admin", "$2b$05$abcdefghijklmnopqrstuu/ETYr/khvH.poOJBsjjZk.DM9FaNihe"),
    // htpasswd -nbs u admin
    ("admin", "{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc="),
    // htpasswd -nbs u 'pa ss:wörd'
    ("pa ss:wörd", "{SHA}kniYfDOveJALlwGbJH1veyGzBwU="),
];

const LONG: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn password(text: &str) -> Password {
    Password::new(text.as_bytes().to_vec())
}

fn fault(text: &str) -> String {
    Users::parse(text.as_bytes()).expect_err(text).to_string()
}

#[test]
fn hashes_of_other_programs_are_verified_and_wrong_passwords_are_not() {
    for (plain, hash) in VECTORS {
        let users = Users::parse(format!("u:{hash}\n").as_bytes()).expect(hash);
        assert!(users.verify("u", &password(plain), 0), "{plain} {hash}");
        assert!(!users.verify("u", &password(&format!("x{plain}")), 0), "{hash}");
        if !plain.is_empty() {
            assert!(!users.verify("u", &password(""), 0), "{hash}");
            let mut changed = plain.to_string();
            changed.pop();
            // bcrypt does not see beyond 72 bytes.
            if changed.len() < 72 || !hash.starts_with("$2") {
                assert!(!users.verify("u", &password(&changed), 0), "{hash}");
            }
        }
        assert!(!users.verify("v", &password(plain), 0), "an unknown user must not get in: {hash}");
    }
}

#[test]
fn an_unknown_user_never_gets_in_whichever_hash_stands_in() {
    let file: String = VECTORS
        .iter()
        .filter(|(plain, _)| *plain == "admin")
        .enumerate()
        .map(|(index, (_, hash))| format!("u{index}:{hash}\n"))
        .collect();
    let users = Users::parse(file.as_bytes()).expect("the file reads");
    for pick in 0..20 {
        assert!(!users.verify("nobody", &password("admin"), pick));
    }
    assert!(!Users::default().verify("nobody", &password("admin"), 7));
}

#[test]
fn what_the_hash_command_makes_is_verified() {
    for algorithm in [Algorithm::Bcrypt, Algorithm::Apr1, Algorithm::Sha512] {
        let line = make_line("ädmin", &password("pa ss:wörd"), algorithm).expect("a line");
        let users = Users::parse(line.as_bytes()).expect("it reads");
        assert!(users.verify("ädmin", &password("pa ss:wörd"), 0), "{algorithm:?}");
        assert!(!users.verify("ädmin", &password("pa ss:word"), 0), "{algorithm:?}");
        let again = make_line("ädmin", &password("pa ss:wörd"), algorithm).expect("a line");
        assert_ne!(line, again, "the salt must differ");
    }
    for name in ["", "a:b", " a", "a\n", "#a"] {
        assert_eq!(make_line(name, &password("x"), Algorithm::Apr1), Err(MakeHashError::Name), "{name:?}");
    }
    assert_eq!(make_line("a", &password(""), Algorithm::Apr1), Err(MakeHashError::Password));
    assert_eq!(make_line("a", &password(LONG), Algorithm::Bcrypt), Err(MakeHashError::LongPassword { most: 72 }));
}

#[test]
fn comments_blank_lines_and_line_ends_are_understood() {
    let text = "# made by hand\r\n\r\na:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=\r\n   \nb:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=:the second";
    let users = Users::parse(text.as_bytes()).expect("the file reads");
    assert_eq!(users.len(), 2);
    assert!(users.verify("a", &password("admin"), 0) && users.verify("b", &password("admin"), 0));
    assert!(Users::parse(b"").expect("an empty file reads").is_empty());
}

#[test]
fn a_bad_line_is_named_by_number_and_never_quoted() {
    let good = "good:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=\n";
    for (line, word) in [
        ("sesame", "no colon"),
        (":sesame", "no user name"),
        ("u:", "no hash"),
        ("u:sesame", "unsupported"),
        // htpasswd -nbd u admin
        ("u:QGfjlqtIMEazY", "unsupported"),
        ("u:$2$05$sesame", "unsupported"),
        ("u:$2x$05$gaghfYAf/DrQU93nYP6L1.2IAVtZ9MfXKgiz6AB4rsJ6Q3bv1K9MS", "unsupported"),
        ("u:$1$sesame$sesame", "unsupported"),
        ("u:$argon2id$sesame", "unsupported"),
        ("u:{SHA}sesame", "malformed"),
        ("u:{SHA}c2VzYW1l", "malformed"),
        ("u:$2y$05$sesame", "malformed"),
        ("u:$2y$5$gaghfYAf/DrQU93nYP6L1.2IAVtZ9MfXKgiz6AB4rsJ6Q3bv1K9MS", "malformed"),
        ("u:$2y$03$gaghfYAf/DrQU93nYP6L1.2IAVtZ9MfXKgiz6AB4rsJ6Q3bv1K9MS", "malformed"),
        ("u:$2y$15$gaghfYAf/DrQU93nYP6L1.2IAVtZ9MfXKgiz6AB4rsJ6Q3bv1K9MS", "cost of 15; at most 14"),
        ("u:$apr1$saltsaltx$9c0WR0Se3z5lfIgYnltHf1", "malformed"),
        ("u:$apr1$saltsalt$9c0WR0Se3z5lfIgYnltHf", "malformed"),
        ("u:$apr1$$9c0WR0Se3z5lfIgYnltHf1", "malformed"),
        ("u:$5$rounds=999$ab$rab811RsB8iNvJjM9r2SrUTQGTXoXkvWpLq1Vj3hz1C", "fewer than 1000"),
        ("u:$5$rounds=500001$ab$rab811RsB8iNvJjM9r2SrUTQGTXoXkvWpLq1Vj3hz1C", "more than 500000"),
        ("u:$5$rounds=99999999999999$ab$rab811RsB8iNvJjM9r2SrUTQGTXoXkvWpLq1Vj3hz1C", "more than 500000"),
        ("u:$5$rounds=$ab$rab811RsB8iNvJjM9r2SrUTQGTXoXkvWpLq1Vj3hz1C", "malformed"),
        ("u:$6$ab$rab811RsB8iNvJjM9r2SrUTQGTXoXkvWpLq1Vj3hz1C", "malformed"),
        ("u:$6$ab", "malformed"),
        (" u:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=", "blank"),
        ("u :{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=", "blank"),
        ("u\u{1}:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=", "control"),
        ("good:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=", "line 1 has already"),
    ] {
        let message = fault(&format!("{good}{line}\n"));
        assert!(message.starts_with("line 2: "), "{line}: {message}");
        assert!(message.contains(word), "{line}: {message}");
        for secret in ["sesame", "c2VzYW1l", "rab811", "gagh", "9c0WR", "QGfj", "0DPiKu"] {
            assert!(!message.contains(secret), "{message}");
        }
    }
    let long = format!("{}:x", "n".repeat(256));
    assert!(fault(&long).contains("more than 255 bytes"));
    assert!(Users::parse(b"\xff:x").expect_err("not UTF-8").to_string().contains("UTF-8"));
    assert_eq!(Users::parse(&vec![b'\n'; MAX_FILE_BYTES + 1]).expect_err("too big"), UsersError::TooBig);
}

#[test]
fn nothing_secret_is_printed() {
    let users = Users::parse(b"admin:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=").expect("the file reads");
    assert_eq!(format!("{users:?}"), "Users(1, redacted)");
    assert_eq!(format!("{:?}", password("sesame")), "Password(redacted)");
}

#[test]
fn overlong_passwords_are_refused_before_they_cost_anything() {
    let users = Users::parse(format!("u:{}", VECTORS[0].1).as_bytes()).expect("the file reads");
    assert!(!users.verify("u", &password(&"a".repeat(MAX_PASSWORD_BYTES + 1)), 0));
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Users::parse(&bytes);
    }

    #[test]
    fn no_line_that_looks_like_one_makes_it_panic(
        prefix in prop::sample::select(vec!["$2y$", "$2a$10$", "$5$", "$6$rounds=", "$apr1$", "{SHA}"]),
        rest in "[a-zA-Z0-9./$=é:]{0,90}",
    ) {
        let _ = Users::parse(format!("u:{prefix}{rest}").as_bytes());
    }
}

#[test]
fn a_check_tells_every_line_and_says_of_the_first_what_parsing_says() {
    let file =
        b"a:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=\nno colon\n\n# c\nb:plain\na:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=\n:x\n";
    let at = |line, fault| UsersError::Line { line, fault };
    let faults = vec![
        at(2, LineFault::NoColon),
        at(5, LineFault::Hash(HashFault::Unsupported)),
        at(6, LineFault::Duplicate { first: 1 }),
        at(7, LineFault::NoName),
    ];
    assert_eq!(check(file, 9), Checked { users: 1, faults: faults.clone(), more: 0 });
    assert_eq!(check(file, 1), Checked { users: 1, faults: faults[..1].to_vec(), more: 3 });
    assert_eq!(Users::parse(file).unwrap_err(), faults[0]);
    assert_eq!(check(b"\n", 1), Checked { users: 0, faults: Vec::new(), more: 0 });
    assert_eq!(check(&vec![b'\n'; MAX_FILE_BYTES + 1], 1).faults, [UsersError::TooBig]);
}

proptest! {
    #[test]
    fn what_has_no_faults_is_parsed(file: Vec<u8>) {
        let checked = check(&file, 1);
        match Users::parse(&file) {
            Ok(users) => prop_assert_eq!(checked, Checked { users: users.len(), faults: Vec::new(), more: 0 }),
            Err(error) => prop_assert_eq!(&checked.faults, &[error]),
        }
    }
}
