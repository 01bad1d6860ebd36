//! The reader of htpasswd files, for any bytes: it never panics, never quotes what it reads, hashes nothing while it
//! reads, and takes every line for itself.

use sidewall_fuzz::{Input, Tally, cost, effort};
use sidewall_proxy::htpasswd::{Users, UsersError};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Files with every kind of hash. The passwords are all `admin`.
const FILES: &[&str] = &[
    "admin:$apr1$saltsalt$9c0WR0Se3z5lfIgYnltHf1\n",
    "# users\r\n\r\na:$2y$05$gaghfYAf/DrQU93nYP6L1.2IAVtZ9MfXKgiz6AB4rsJ6Q3bv1K9MS\r\n\
     b:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=:a comment\r\n",
    "five:$5$saltsalt$ajilCybiF3oQBEfeTHO1rkbsmz9HcJplt.gHWXkRfD4\n\
     rounds:$5$rounds=1234$saltsalt$8WGUzj8zYZz2Jr.Xav.H1vB.yQO9bsBQIXuKOP6GxuA\n\
     six:$6$saltsalt$ZxoUf1bJzACFdk9GZkBGmxXd3Rq8nUoGjgon4GVoI91SlW41Ew2djlh60PmWr4flwags.7ULrKVSSmnCEsIOj1\n",
    "zoë:$2a$05$abcdefghijklmnopqrstuu/ETYr/khvH.poOJBsjjZk.DM9FaNihe\n\
     admin:$2b$05$abcdefghijklmnopqrstuu/ETYr/khvH.poOJBsjjZk.DM9FaNihe",
];

const WORDS: &[&[u8]] = &[
    b":",
    b"::",
    b"\n",
    b"\r\n",
    b"#",
    b"$",
    b"{SHA}",
    b"$apr1$",
    b"$2y$14$",
    b"$2y$31$",
    b"$2x$05$",
    b"$5$",
    b"$6$",
    b"$6$rounds=",
    b"rounds=999999999$",
    b"rounds=0$",
    b"rounds=-1$",
    b"=",
    b"\0",
    b"\xff",
    b"\xc3\xab",
    b" ",
    b"admin",
];

static READ: Tally = Tally::new();
/// Every message so far, with its numbers made equal.
static MESSAGES: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
/// How many messages there can be: a message that quoted the file would differ with every file.
const MESSAGES_MAX: usize = 40;

/// The number of users, or why there are none.
fn users(bytes: &[u8]) -> Result<usize, UsersError> {
    Users::parse(bytes).map(|users| {
        assert_eq!(format!("{users:?}"), format!("Users({}, redacted)", users.len()));
        users.len()
    })
}

fn check(bytes: &[u8]) {
    READ.input();
    // A bcrypt hash of the least cost takes longer than reading any of these files.
    let (read, cost) = cost::of(|| users(bytes));
    cost.at_most(Duration::from_millis(200), 1 << 20);
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let backwards: Vec<&[u8]> = lines.iter().rev().copied().collect();
    let backwards = users(&backwards.join(&b'\n'));
    let commented = users(&[b"# a comment\n\n", bytes, b"\n \n# another"].concat());
    match read {
        Ok(count) => {
            if count > 0 {
                READ.reached();
            }
            let single: usize =
                lines.iter().map(|line| users(line).unwrap_or_else(|e| panic!("{line:?} alone: {e}"))).sum();
            assert_eq!(single, count, "each line has its user");
            assert_eq!(backwards, Ok(count), "their order does not matter");
            assert_eq!(commented, Ok(count), "comments and blank lines do not matter");
        }
        Err(error) => {
            assert!(backwards.is_err() && commented.is_err(), "{error}");
            for text in [error.to_string(), format!("{error:?}")] {
                let mut message: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
                while message.contains("00") {
                    message = message.replace("00", "0");
                }
                let mut messages = MESSAGES.lock().unwrap_or_else(PoisonError::into_inner);
                messages.insert(message);
                assert!(messages.len() <= MESSAGES_MAX, "too many messages not to quote something: {messages:#?}");
            }
        }
    }
}

#[test]
fn fuzz_htpasswd() {
    bolero::check!()
        .with_type::<Input>()
        .with_test_time(effort::time())
        .for_each(|input| check(&input.bytes(FILES, WORDS)));
    READ.expect_per_mille(40);
}
