//! The reader of the kernel's tables, for any bytes: it never panics, takes no more memory than its input deserves, and
//! never takes a part for the whole.

use sidewall_fuzz::{Input, Tally, cost, effort};
use sidewall_netfilter::{Image, encode, readback};
use sidewall_policy::testing::{Case, Draw, Ground};
use sidewall_policy::{Generation, compile, guard, resolve};
use std::sync::LazyLock;
use std::time::Duration;

/// Rulesets as they are sent to the kernel, of all shapes that are small enough. The kernel's answers have the same
/// messages.
static BATCHES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut draw = Draw::new(1);
    let mut batches = Vec::new();
    for number in 0..24 {
        let case = Case::draw(&mut draw, &Ground::default());
        let pod = if number % 4 == 0 { guard(&case.subject) } else { resolve(&case.world, &case.subject) };
        let compiled = compile(&pod, Generation::FIRST);
        let bytes = encode(&compiled.ruleset, 0, 1).expect("what is compiled can be encoded").bytes().to_vec();
        batches.push(bytes);
    }
    batches.sort_by_key(Vec::len);
    batches.truncate(8);
    // Edits reach every message only where there are few of them.
    let parts: Vec<Vec<u8>> = batches.iter().flat_map(|batch| parts(batch)).collect();
    batches.extend(parts);
    batches
});

/// Some messages each.
const MESSAGES: usize = 6;

/// A batch in parts of a few messages: each begins with its length (`struct nlmsghdr`).
fn parts(batch: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut rest = batch;
    while let Some(length) = rest.first_chunk().map(|length| u32::from_ne_bytes(*length) as usize) {
        let (message, after) = rest.split_at(length.next_multiple_of(4));
        messages.push(message);
        rest = after;
    }
    messages.chunks(MESSAGES).step_by(5).map(<[&[u8]]>::concat).collect()
}

const WORDS: &[&[u8]] = &[
    b"sidewall\0",
    b"\x04\x00\x01\x00",
    b"\x00\x00\x01\x80",
    b"\xff\xff\x01\x80",
    b"\x04\x00\x03\x80",
    b"\x03\x00\x00\x00",
    b"\x14\x00\x00\x00\x00\x0a\x00\x00",
    b"\xff\xff\xff\xff",
    b"\x10\x00\x00\x00\x03\x00\x02\x00",
    b"immediate\0",
    b"bitwise\0",
    b"cmp\0",
];

static READ: Tally = Tally::new();

fn check(bytes: &[u8]) {
    READ.input();
    let (image, cost) = cost::of(|| readback::parse(bytes));
    // An empty attribute of four bytes becomes some values of its own, and a list may have grown to twice its need.
    cost.at_most(Duration::from_millis(500), (1 << 16) + bytes.len() * 128);
    if image != Image::default() {
        READ.reached();
    }
    assert_eq!(readback::parse(bytes), image);
}

/// No beginning of a batch is taken for all of it.
fn beginnings() {
    let whole = &BATCHES[0];
    let image = readback::parse(whole);
    assert_ne!(image, Image::default());
    // The last message ends the batch and tells of no table.
    let end = whole.len() - 20;
    assert_eq!(readback::parse(&whole[..end]), image);
    for length in (0..end).step_by(whole.len() / 400 + 1).chain(end - 8..end) {
        assert_ne!(readback::parse(&whole[..length]), image, "of {} bytes, the first {length}", whole.len());
    }
}

#[test]
fn fuzz_readback() {
    beginnings();
    bolero::check!()
        .with_type::<Input>()
        .with_test_time(effort::time())
        .for_each(|input| check(&input.bytes(&BATCHES, WORDS)));
    READ.expect_per_mille(300);
}
