//! What a flow's conntrack mark says.
//!
//! | bits | meaning |
//! |---|---|
//! | 31–27 | generation of the ruleset that judged last |
//! | 26–21 | sender: a party's number |
//! | 20–15 | receiver: a party's number, 63 for whoever answers |
//! | 14 | the client's side has passed |
//! | 13 | the server's side has passed |
//! | 12 | denied |
//! | 11–0 | not ours |
//!
//! The names (sender, receiver) outlive a generation, so that the next one can tell a flow's owner from a forger; the
//! verdict bits do not.

use crate::ruleset::Generation;
use sidewall_flow::Party;

/// The bits of the generation.
pub const GENERATION: u32 = 0xf800_0000;
/// The bits of the sender.
pub const SENDER: u32 = 0x07e0_0000;
/// The bits of the receiver.
pub const RECEIVER: u32 = 0x001f_8000;
/// The client's side has passed.
pub const CLIENT: u32 = 0x0000_4000;
/// The server's side has passed.
pub const SERVER: u32 = 0x0000_2000;
/// The flow is denied.
pub const DENIED: u32 = 0x0000_1000;
/// The bits that others may use; Istio does.
pub const FOREIGN: u32 = 0x0000_0fff;

/// The receiver of a flow that anybody may answer and nobody has answered yet.
pub const ANYBODY: u32 = 63 << RECEIVER.trailing_zeros();

/// A generation in its place.
pub const fn generation(generation: Generation) -> u32 {
    (generation.get() as u32) << GENERATION.trailing_zeros()
}

/// A party in the sender's place.
pub const fn sender(party: Party) -> u32 {
    (party.number() as u32) << SENDER.trailing_zeros()
}

/// A party in the receiver's place.
pub const fn receiver(party: Party) -> u32 {
    (party.number() as u32) << RECEIVER.trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_fill_the_mark_and_do_not_overlap() {
        let fields = [GENERATION, SENDER, RECEIVER, CLIENT, SERVER, DENIED, FOREIGN];
        assert_eq!(fields.iter().fold(0, |all, field| all | field), u32::MAX);
        assert_eq!(fields.iter().map(|field| field.count_ones()).sum::<u32>(), 32);
    }

    #[test]
    fn the_greatest_values_fit() {
        assert_eq!(generation(Generation::new(31).unwrap()), GENERATION);
        assert_eq!(ANYBODY, RECEIVER);
        assert_eq!(sender(Party::Node), 0x07c0_0000);
    }
}
