//! From a [`Ruleset`] to the bytes of one netlink batch.

#[cfg(test)]
mod tests;

use crate::abi;
use crate::compose::{self, EncodeError, family_number, family_of};
use crate::image::{ChainImage, Data, ElementImage, Expression, Image, RuleImage, SetImage, TableImage, Value};
use crate::place::{Part, Place};
use crate::slot::Slot;
use crate::wire::{ATTRIBUTE_MAX, Header, Open, Writer};
use sidewall_policy::ruleset::{Family, Kind, Ruleset};

/// One nfnetlink batch: the kernel takes all of it or nothing, and no packet meets a state in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    bytes: Vec<u8>,
    /// The sequence number of the batch's first message.
    first: u32,
    /// What each message between the batch's ends is about.
    places: Vec<Place>,
}

impl Batch {
    /// The messages, as they are sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many messages there are, the batch's two ends left out.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// What a message is about; `None` for the batch as a whole.
    pub(crate) fn place(&self, sequence: u32) -> Option<&Place> {
        let index = sequence.wrapping_sub(self.first).checked_sub(1)?;
        self.places.get(usize::try_from(index).ok()?)
    }

    /// The sequence number of the last message before the batch's end: it is acknowledged.
    pub(crate) fn last(&self) -> u32 {
        // A batch has far fewer messages than sequence numbers.
        self.first.wrapping_add(self.places.len() as u32)
    }

    /// Whether a sequence number is one of this batch's.
    pub(crate) fn has(&self, sequence: u32) -> bool {
        usize::try_from(sequence.wrapping_sub(self.first)).is_ok_and(|index| index <= self.places.len() + 1)
    }
}

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

fn families(image: &Image) -> impl Iterator<Item = (Family, &TableImage)> {
    image.tables.iter().filter_map(|(number, table)| Some((family_of(*number)?, table)))
}

struct Encoder {
    writer: Writer,
    first: u32,
    places: Vec<Place>,
    /// Where the header of the last message is, to ask there for an acknowledgement.
    last: usize,
}

impl Encoder {
    fn new(first: u32) -> Self {
        let mut encoder = Self { writer: Writer::default(), first, places: Vec::new(), last: 0 };
        encoder.end_of_batch(abi::NFNL_MSG_BATCH_BEGIN, first);
        encoder
    }

    fn finish(mut self) -> Batch {
        if !self.places.is_empty() {
            self.writer.add_flags(self.last, abi::NLM_F_ACK);
        }
        // As in `Batch::last`.
        let end = self.first.wrapping_add(self.places.len() as u32 + 1);
        self.end_of_batch(abi::NFNL_MSG_BATCH_END, end);
        Batch { bytes: self.writer.finish(), first: self.first, places: self.places }
    }

    fn end_of_batch(&mut self, kind: u16, sequence: u32) {
        let open = self.writer.message(Header {
            kind,
            flags: abi::NLM_F_REQUEST,
            sequence,
            family: abi::NFPROTO_UNSPEC,
            resource: abi::NFNL_SUBSYS_NFTABLES,
        });
        self.writer.end_message(open);
    }

    /// Starts a message about a place.
    fn message(&mut self, kind: u16, flags: u16, family: Family, part: Part) -> Open {
        // For people: the slot is no business of theirs.
        self.places.push(Place::new(family, part.plain()));
        self.last = self.writer.length();
        self.writer.message(Header {
            kind: abi::NFNL_SUBSYS_NFTABLES << 8 | kind,
            flags: abi::NLM_F_REQUEST | flags,
            // As in `Batch::last`.
            sequence: self.first.wrapping_add(self.places.len() as u32),
            family: family_number(family),
            resource: 0,
        })
    }

    fn table(&mut self, family: Family, flags: Option<u32>) {
        let open = self.message(abi::NFT_MSG_NEWTABLE, abi::NLM_F_CREATE, family, Part::Table);
        self.writer.string(abi::NFTA_TABLE_NAME, Ruleset::TABLE);
        if let Some(flags) = flags {
            self.writer.number(abi::NFTA_TABLE_FLAGS, flags);
        }
        self.writer.end_message(open);
    }

    /// Deletes a table that may not be there: it is made first, which does nothing to one that is.
    fn remove_table(&mut self, family: Family) {
        self.table(family, None);
        let open = self.message(abi::NFT_MSG_DELTABLE, 0, family, Part::Table);
        self.writer.string(abi::NFTA_TABLE_NAME, Ruleset::TABLE);
        self.writer.end_message(open);
    }

    /// All of a table but the rules, in the order that the kernel asks for: what is referred to comes before what
    /// refers.
    fn make_objects(&mut self, family: Family, table: &TableImage, which: fn(&ChainImage) -> bool) {
        for name in &table.counters {
            self.counter(family, name);
        }
        for (index, set) in table.sets.iter().enumerate() {
            self.set(family, set, index);
        }
        for chain in table.chains.iter().filter(|chain| which(chain)) {
            self.chain(family, chain);
        }
        for set in &table.sets {
            self.elements(family, set);
        }
    }

    fn make_rules(&mut self, family: Family, table: &TableImage, which: fn(&ChainImage) -> bool) {
        for chain in table.chains.iter().filter(|chain| which(chain)) {
            for (index, rule) in chain.rules.iter().enumerate() {
                self.rule(family, &chain.name, index + 1, rule);
            }
        }
    }

    /// Deletes every rule of a chain: no handle means all.
    fn empty_chain(&mut self, family: Family, name: &str) {
        let open = self.message(abi::NFT_MSG_DELRULE, 0, family, Part::Chain(name.to_owned()));
        self.writer.string(abi::NFTA_RULE_TABLE, Ruleset::TABLE);
        self.writer.string(abi::NFTA_RULE_CHAIN, name);
        self.writer.end_message(open);
    }

    fn remove_set(&mut self, family: Family, name: &str) {
        let open = self.message(abi::NFT_MSG_DELSET, 0, family, Part::Set(name.to_owned()));
        self.writer.string(abi::NFTA_SET_TABLE, Ruleset::TABLE);
        self.writer.string(abi::NFTA_SET_NAME, name);
        self.writer.end_message(open);
    }

    fn remove_chain(&mut self, family: Family, name: &str) {
        let open = self.message(abi::NFT_MSG_DELCHAIN, 0, family, Part::Chain(name.to_owned()));
        self.writer.string(abi::NFTA_CHAIN_TABLE, Ruleset::TABLE);
        self.writer.string(abi::NFTA_CHAIN_NAME, name);
        self.writer.end_message(open);
    }

    fn remove_counter(&mut self, family: Family, name: &str) {
        let open = self.message(abi::NFT_MSG_DELOBJ, 0, family, Part::Counter(name.to_owned()));
        self.writer.string(abi::NFTA_OBJ_TABLE, Ruleset::TABLE);
        self.writer.string(abi::NFTA_OBJ_NAME, name);
        self.writer.number(abi::NFTA_OBJ_TYPE, abi::NFT_OBJECT_COUNTER);
        self.writer.end_message(open);
    }

    fn counter(&mut self, family: Family, name: &str) {
        let open = self.message(abi::NFT_MSG_NEWOBJ, abi::NLM_F_CREATE, family, Part::Counter(name.to_owned()));
        let writer = &mut self.writer;
        writer.string(abi::NFTA_OBJ_TABLE, Ruleset::TABLE);
        writer.string(abi::NFTA_OBJ_NAME, name);
        writer.number(abi::NFTA_OBJ_TYPE, abi::NFT_OBJECT_COUNTER);
        let data = writer.nest(abi::NFTA_OBJ_DATA);
        writer.end_nest(data);
        writer.end_message(open);
    }

    fn set(&mut self, family: Family, set: &SetImage, index: usize) {
        let open = self.message(abi::NFT_MSG_NEWSET, abi::NLM_F_CREATE, family, Part::Set(set.name.clone()));
        let writer = &mut self.writer;
        writer.string(abi::NFTA_SET_TABLE, Ruleset::TABLE);
        writer.string(abi::NFTA_SET_NAME, &set.name);
        writer.number(abi::NFTA_SET_FLAGS, set.flags);
        writer.number(abi::NFTA_SET_KEY_TYPE, set.key_type);
        writer.number(abi::NFTA_SET_KEY_LEN, set.key_length);
        if let Some(data_type) = set.data_type {
            writer.number(abi::NFTA_SET_DATA_TYPE, data_type);
        }
        if set.flags & abi::NFT_SET_OBJECT != 0 {
            writer.number(abi::NFTA_SET_OBJ_TYPE, abi::NFT_OBJECT_COUNTER);
        }
        // Told the number of elements, the kernel takes a plain hash table, which is quicker to make and to look up in
        // than one that can grow. Only sets of addresses ever grow.
        if !set.elements.is_empty() && !holds_addresses(set) {
            let nest = writer.nest(abi::NFTA_SET_DESC);
            writer.number(abi::NFTA_SET_DESC_SIZE, set.elements.len() as u32);
            writer.end_nest(nest);
        }
        // Unique in the batch for each table; there are far fewer sets than numbers.
        writer.number(abi::NFTA_SET_ID, index as u32 + 1);
        // nft's own note of the key's byte order, without which it lists the values turned round.
        let order: u32 = if set.network_order { 2 } else { 1 };
        let mut note = vec![abi::NFTNL_UDATA_SET_KEYBYTEORDER, 4];
        note.extend(order.to_ne_bytes());
        writer.attribute(abi::NFTA_SET_USERDATA, &note);
        writer.end_message(open);
    }

    fn chain(&mut self, family: Family, chain: &ChainImage) {
        let open = self.message(abi::NFT_MSG_NEWCHAIN, abi::NLM_F_CREATE, family, Part::Chain(chain.name.clone()));
        let writer = &mut self.writer;
        writer.string(abi::NFTA_CHAIN_TABLE, Ruleset::TABLE);
        writer.string(abi::NFTA_CHAIN_NAME, &chain.name);
        if let Some(hook) = &chain.hook {
            let nest = writer.nest(abi::NFTA_CHAIN_HOOK);
            writer.number(abi::NFTA_HOOK_HOOKNUM, hook.number);
            writer.attribute(abi::NFTA_HOOK_PRIORITY, &hook.priority.to_be_bytes());
            // A chain of ours has at most one device.
            for device in &hook.devices {
                writer.string(abi::NFTA_HOOK_DEV, device);
            }
            writer.end_nest(nest);
            writer.number(abi::NFTA_CHAIN_POLICY, hook.policy);
            writer.string(abi::NFTA_CHAIN_TYPE, &hook.kind);
        }
        writer.end_message(open);
    }

    /// The elements, in as many messages as the length of an attribute asks for.
    fn elements(&mut self, family: Family, set: &SetImage) {
        let mut rest = set.elements.as_slice();
        while !rest.is_empty() {
            let open =
                self.message(abi::NFT_MSG_NEWSETELEM, abi::NLM_F_CREATE, family, Part::Elements(set.name.clone()));
            let writer = &mut self.writer;
            writer.string(abi::NFTA_SET_ELEM_LIST_TABLE, Ruleset::TABLE);
            writer.string(abi::NFTA_SET_ELEM_LIST_SET, &set.name);
            let list = writer.nest(abi::NFTA_SET_ELEM_LIST_ELEMENTS);
            while let [element, others @ ..] = rest {
                if writer.nest_length(&list) + element_bound(element) > ATTRIBUTE_MAX {
                    break;
                }
                write_element(writer, element);
                rest = others;
            }
            writer.end_nest(list);
            writer.end_message(open);
        }
    }

    fn rule(&mut self, family: Family, chain: &str, number: usize, rule: &RuleImage) {
        let open = self.message(
            abi::NFT_MSG_NEWRULE,
            abi::NLM_F_CREATE | abi::NLM_F_APPEND,
            family,
            Part::Rule { chain: chain.to_owned(), number },
        );
        let writer = &mut self.writer;
        writer.string(abi::NFTA_RULE_TABLE, Ruleset::TABLE);
        writer.string(abi::NFTA_RULE_CHAIN, chain);
        let list = writer.nest(abi::NFTA_RULE_EXPRESSIONS);
        for expression in &rule.expressions {
            write_expression(writer, expression);
        }
        writer.end_nest(list);
        if !rule.user_data.is_empty() {
            writer.attribute(abi::NFTA_RULE_USERDATA, &rule.user_data);
        }
        writer.end_message(open);
    }
}

/// No element is longer: its key and its chain's name are bounded, the rest is headers.
fn element_bound(element: &ElementImage) -> usize {
    let chain = match &element.data {
        Some(Data::Verdict { chain: Some(name), .. } | Data::Counter(name)) => name.len(),
        _ => 0,
    };
    64 + element.key.len() + chain
}

fn write_element(writer: &mut Writer, element: &ElementImage) {
    let nest = writer.nest(abi::NFTA_LIST_ELEM);
    let key = writer.nest(abi::NFTA_SET_ELEM_KEY);
    writer.attribute(abi::NFTA_DATA_VALUE, &element.key);
    writer.end_nest(key);
    match &element.data {
        Some(Data::Counter(name)) => writer.string(abi::NFTA_SET_ELEM_OBJREF, name),
        Some(data) => write_data(writer, abi::NFTA_SET_ELEM_DATA, data),
        None => {}
    }
    if element.end {
        writer.number(abi::NFTA_SET_ELEM_FLAGS, abi::NFT_SET_ELEM_INTERVAL_END);
    }
    writer.end_nest(nest);
}

fn write_expression(writer: &mut Writer, expression: &Expression) {
    let nest = writer.nest(abi::NFTA_LIST_ELEM);
    writer.string(abi::NFTA_EXPR_NAME, &expression.name);
    let data = writer.nest(abi::NFTA_EXPR_DATA);
    for (kind, value) in &expression.attributes {
        match value {
            Value::Bytes(bytes) => writer.attribute(*kind, bytes),
            Value::Data(data) => write_data(writer, *kind, data),
        }
    }
    writer.end_nest(data);
    writer.end_nest(nest);
}

fn write_data(writer: &mut Writer, kind: u16, data: &Data) {
    let nest = writer.nest(kind);
    match data {
        // Only an element has one, in an attribute of its own.
        Data::Counter(_) => {}
        Data::Value(bytes) => writer.attribute(abi::NFTA_DATA_VALUE, bytes),
        Data::Verdict { code, chain } => {
            let verdict = writer.nest(abi::NFTA_DATA_VERDICT);
            writer.number(abi::NFTA_VERDICT_CODE, *code);
            if let Some(chain) = chain {
                writer.string(abi::NFTA_VERDICT_CHAIN, chain);
            }
            writer.end_nest(verdict);
        }
    }
    writer.end_nest(nest);
}

/// Whether a set's key begins with an address: what peers have, and what changes with them.
fn holds_addresses(set: &SetImage) -> bool {
    let mut first = set.key_type;
    while first >> 6 != 0 {
        first >>= 6;
    }
    first == compose::datatype(Kind::Ipv4) || first == compose::datatype(Kind::Ipv6)
}
