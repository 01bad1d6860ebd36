//! The names of decisions, which come back from the kernel as text: any text is a decision's name or an error, and one
//! name has one meaning.

use sidewall_flow::Decision;
use sidewall_fuzz::{Input, Tally, effort};

const NAMES: &[&str] = &[
    "sw:deny/egress/c1",
    "sw:allow/ingress/unknown",
    "sw:audit-deny/loopback/node/c60",
    "sw:audit-allow/loopback/c7",
    "sw:deny/improper",
    "sw:deny/forged",
];

const WORDS: &[&[u8]] = &[
    b"sw:",
    b"audit-",
    b"deny",
    b"allow",
    b"/",
    b"egress",
    b"ingress",
    b"loopback",
    b"improper",
    b"forged",
    b"node",
    b"unknown",
    b"c",
    b"c1",
    b"c01",
    b"c+1",
    b"c60",
    b"c61",
    b"c255",
    b"c256",
    b"0",
    b"-",
    b" ",
    b"\n",
    b"\xc2\xa0",
];

static READ: Tally = Tally::new();

fn check(bytes: &[u8]) {
    READ.input();
    let text = String::from_utf8_lossy(bytes);
    match text.parse::<Decision>() {
        Ok(decision) => {
            READ.reached();
            assert_eq!(decision.to_string(), text.trim_end(), "one decision has one name");
        }
        Err(error) => assert_eq!(error.0, text),
    }
}

#[test]
fn fuzz_decision() {
    bolero::check!()
        .with_type::<Input>()
        .with_test_time(effort::time())
        .for_each(|input| check(&input.bytes(NAMES, WORDS)));
    READ.expect_per_mille(50);
}
