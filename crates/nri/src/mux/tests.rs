use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Demux, OUTGOING_MAX, encode};
use crate::end::Violation;

const MOST: usize = 10_000;

fn frame(connection: u32, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&connection.to_be_bytes()[..], &length.to_be_bytes(), bytes].concat()
}

/// All that comes out, by connection.
fn drain(demux: &mut Demux, found: &mut BTreeMap<u32, Vec<u8>>) {
    while let Some((connection, bytes)) = demux.next().unwrap() {
        assert!(!bytes.is_empty());
        found.entry(connection).or_default().extend_from_slice(&bytes);
    }
}

#[test]
fn a_long_message_goes_out_in_frames_that_the_other_side_can_take() {
    let bytes: Vec<u8> = (0..=255).cycle().take(2 * OUTGOING_MAX + 1).collect();
    let mut out = Vec::new();
    encode(1, &bytes, &mut out);
    let lengths = [OUTGOING_MAX, OUTGOING_MAX, 1];
    let expected = bytes.chunks(OUTGOING_MAX).zip(lengths).flat_map(|(part, length)| {
        assert_eq!(part.len(), length);
        frame(1, part)
    });
    assert_eq!(out, expected.collect::<Vec<_>>());
    let mut nothing = Vec::new();
    encode(1, &[], &mut nothing);
    assert!(nothing.is_empty());
}

#[test]
fn a_frame_that_is_too_long_is_refused_by_its_header_alone() {
    for length in [MOST + 1, 0xffff_ffff] {
        let mut demux = Demux::new(MOST);
        demux.buffer().extend_from_slice(&1_u32.to_be_bytes());
        demux.buffer().extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
        assert_eq!(demux.next(), Err(Violation::Frame { length, most: MOST }));
    }
    let mut demux = Demux::new(MOST);
    demux.buffer().extend_from_slice(&1_u32.to_be_bytes());
    demux.buffer().extend_from_slice(&u32::try_from(MOST).unwrap().to_be_bytes());
    assert_eq!(demux.next(), Ok(None));
}

#[test]
fn empty_frames_mean_nothing() {
    let mut demux = Demux::new(MOST);
    demux.buffer().extend_from_slice(&[frame(1, b""), frame(2, b""), frame(2, b"x"), frame(1, b"")].concat());
    let mut found = BTreeMap::new();
    drain(&mut demux, &mut found);
    assert_eq!(found, BTreeMap::from([(2, b"x".to_vec())]));
    assert!(demux.buffer().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever is sent on whichever connections, in frames of whatever size, read in pieces of whatever size.
    #[test]
    fn what_went_in_comes_out(
        sent in prop::collection::vec((1_u32..4, prop::collection::vec(any::<u8>(), 0..9000), any::<bool>()), 0..12),
        pieces in prop::collection::vec(1_usize..5000, 1..20),
    ) {
        let (mut bytes, mut expected) = (Vec::new(), BTreeMap::<u32, Vec<u8>>::new());
        for (connection, message, ours) in &sent {
            if *ours { encode(*connection, message, &mut bytes) } else { bytes.extend(frame(*connection, message)) }
            if !message.is_empty() {
                expected.entry(*connection).or_default().extend(message);
            }
        }
        let (mut demux, mut found, mut rest) = (Demux::new(MOST), BTreeMap::new(), &bytes[..]);
        for size in pieces.iter().cycle() {
            let (now, later) = rest.split_at((*size).min(rest.len()));
            demux.buffer().extend_from_slice(now);
            drain(&mut demux, &mut found);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(found, expected);
        prop_assert!(demux.buffer().is_empty());
    }

    /// Any bytes at all are either frames or refused; nothing panics, nothing runs for ever.
    #[test]
    fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut demux = Demux::new(MOST);
        demux.buffer().extend_from_slice(&bytes);
        while let Ok(Some(_)) = demux.next() {}
    }
}
