//! From a [`Ruleset`] to the bytes of one netlink batch.

mod batch;
mod elements;
mod parts;
mod rules;
#[cfg(test)]
mod tests;

pub use batch::Batch;

use crate::compose::{self, Amendment, EncodeError, family_of};
use crate::image::{Image, TableImage};
use crate::slot::Slot;
use batch::Encoder;
use sidewall_policy::ruleset::{Family, Ruleset};

/// Encodes a ruleset as the batch that replaces every table of ours in a namespace with it, as a whole.
///
/// In the kernel, the names of what no hook enters by itself get a prefix, `a.`; see [`crate::Kernel::load`].
///
/// The batch's first message has the sequence number `first`; the tables get the flags `flags` (`NFT_TABLE_F_*`). The
/// same input gives the same bytes.
///
/// # Errors
/// [`EncodeError`] where the ruleset is none that netfilter can hold.
pub fn encode(ruleset: &Ruleset, flags: u32, first: u32) -> Result<Batch, EncodeError> {
    Ok(encode_image(&compose::compose(ruleset, flags)?.in_slot(Slot::A), first))
}

/// The batch that takes every table of ours away, whether there is one or not.
pub(crate) fn encode_removal(first: u32) -> Batch {
    encode_image(&Image::default(), first)
}

/// The batch that takes tables into ownership again, as they are.
pub(crate) fn encode_adoption(families: &[Family], flags: u32, first: u32) -> Batch {
    let mut encoder = Encoder::new(first);
    for family in families {
        encoder.table(*family, Some(flags));
    }
    encoder.finish()
}

pub(crate) fn encode_image(image: &Image, first: u32) -> Batch {
    let mut encoder = Encoder::new(first);
    for family in [Family::Inet, Family::Netdev] {
        encoder.remove_table(family);
    }
    for (family, table) in families(image) {
        encoder.table(family, Some(table.flags));
        encoder.make_objects(family, table, |_| true);
        encoder.make_rules(family, table, |_| true);
    }
    encoder.finish()
}

/// The batch that makes a ruleset ready beside the one in force: all but the rules of the chains with hooks. Nothing
/// refers to it yet.
pub(crate) fn encode_preparation(image: &Image, first: u32) -> Batch {
    let mut encoder = Encoder::new(first);
    for (family, table) in families(image) {
        encoder.make_objects(family, table, |chain| chain.hook.is_none());
        encoder.make_rules(family, table, |chain| chain.hook.is_none());
    }
    encoder.finish()
}

/// The batch that puts a prepared ruleset in force: it changes rules and nothing else, so that it is atomic.
pub(crate) fn encode_switch(image: &Image, first: u32) -> Batch {
    let mut encoder = Encoder::new(first);
    for (family, table) in families(image) {
        for chain in table.chains.iter().filter(|chain| chain.hook.is_some()) {
            encoder.empty_chain(family, &chain.name);
        }
        encoder.make_rules(family, table, |chain| chain.hook.is_some());
    }
    encoder.finish()
}

/// The batch that takes away all that an image has in a slot, which nothing else may refer to. What refers goes before
/// what is referred to.
pub(crate) fn encode_clearance(image: &Image, slot: Slot, first: u32) -> Batch {
    let mut encoder = Encoder::new(first);
    for (family, table) in families(image) {
        let chains = table.chains.iter().filter(|chain| chain.hook.is_none() && slot.holds(&chain.name));
        for chain in chains.clone() {
            encoder.empty_chain(family, &chain.name);
        }
        for set in table.sets.iter().filter(|set| slot.holds(&set.name)) {
            encoder.remove_set(family, &set.name);
        }
        for chain in chains {
            encoder.remove_chain(family, &chain.name);
        }
        for counter in table.counters.iter().filter(|name| slot.holds(name)) {
            encoder.remove_counter(family, counter);
        }
    }
    encoder.finish()
}

/// The batch that changes elements of sets and no rule: what goes before what comes, because a key may do both. New counters
/// come with it; old ones go where no rule is changed after it.
pub(crate) fn encode_elements(amendments: &[Amendment], guard: u32, first: u32) -> Batch {
    let mut encoder = Encoder::guarded(first, Some(guard));
    for amendment in amendments {
        for counter in &amendment.counters_added {
            encoder.counter(amendment.family, counter);
        }
    }
    for amendment in amendments {
        for (set, elements) in &amendment.deleted {
            encoder.delete_elements(amendment.family, set, elements);
        }
    }
    for amendment in amendments {
        for (set, elements) in &amendment.added {
            encoder.add_elements(amendment.family, set, elements);
        }
    }
    if amendments.iter().all(|amendment| amendment.chains.is_empty()) {
        remove_counters(&mut encoder, amendments);
    }
    encoder.finish()
}

/// The batch that writes chains anew and changes no element, so that it is atomic. `alone` is one that no batch of elements
/// precedes.
pub(crate) fn encode_rules(amendments: &[Amendment], alone: bool, guard: u32, first: u32) -> Batch {
    let mut encoder = Encoder::guarded(first, Some(guard));
    for amendment in amendments {
        if alone {
            for counter in &amendment.counters_added {
                encoder.counter(amendment.family, counter);
            }
        }
        encoder.rewrite_chains(amendment.family, amendment.chains.iter());
    }
    remove_counters(&mut encoder, amendments);
    encoder.finish()
}

fn remove_counters(encoder: &mut Encoder, amendments: &[Amendment]) {
    for amendment in amendments {
        for counter in &amendment.counters_deleted {
            encoder.remove_counter(amendment.family, counter);
        }
    }
}

fn families(image: &Image) -> impl Iterator<Item = (Family, &TableImage)> {
    image.tables.iter().filter_map(|(number, table)| Some((family_of(*number)?, table)))
}
