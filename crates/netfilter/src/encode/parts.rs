//! The messages that make and delete tables, counters, sets and chains.

use super::batch::Encoder;
use crate::abi;
use crate::compose;
use crate::image::{ChainImage, SetImage, TableImage};
use crate::place::Part;
use sidewall_policy::ruleset::{Family, Kind, Ruleset};

impl Encoder {
    pub(super) fn table(&mut self, family: Family, flags: Option<u32>) {
        let open = self.message(abi::NFT_MSG_NEWTABLE, abi::NLM_F_CREATE, family, Part::Table);
        self.writer.string(abi::NFTA_TABLE_NAME, Ruleset::TABLE);
        if let Some(flags) = flags {
            self.writer.number(abi::NFTA_TABLE_FLAGS, flags);
        }
        self.writer.end_message(open);
    }

    /// Deletes a table that may not be there: it is made first, which does nothing to one that is.
    pub(super) fn remove_table(&mut self, family: Family) {
        self.table(family, None);
        let open = self.message(abi::NFT_MSG_DELTABLE, 0, family, Part::Table);
        self.writer.string(abi::NFTA_TABLE_NAME, Ruleset::TABLE);
        self.writer.end_message(open);
    }

    /// All of a table but the rules, in the order that the kernel asks for: what is referred to comes before what
    /// refers.
    pub(super) fn make_objects(&mut self, family: Family, table: &TableImage, which: fn(&ChainImage) -> bool) {
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
            self.elements(family, &set.name, &set.elements);
        }
    }

    pub(super) fn remove_set(&mut self, family: Family, name: &str) {
        let open = self.message(abi::NFT_MSG_DELSET, 0, family, Part::Set(name.to_owned()));
        self.writer.string(abi::NFTA_SET_TABLE, Ruleset::TABLE);
        self.writer.string(abi::NFTA_SET_NAME, name);
        self.writer.end_message(open);
    }

    pub(super) fn remove_chain(&mut self, family: Family, name: &str) {
        let open = self.message(abi::NFT_MSG_DELCHAIN, 0, family, Part::Chain(name.to_owned()));
        self.writer.string(abi::NFTA_CHAIN_TABLE, Ruleset::TABLE);
        self.writer.string(abi::NFTA_CHAIN_NAME, name);
        self.writer.end_message(open);
    }

    pub(super) fn remove_counter(&mut self, family: Family, name: &str) {
        let open = self.message(abi::NFT_MSG_DELOBJ, 0, family, Part::Counter(name.to_owned()));
        self.writer.string(abi::NFTA_OBJ_TABLE, Ruleset::TABLE);
        self.writer.string(abi::NFTA_OBJ_NAME, name);
        self.writer.number(abi::NFTA_OBJ_TYPE, abi::NFT_OBJECT_COUNTER);
        self.writer.end_message(open);
    }

    pub(super) fn counter(&mut self, family: Family, name: &str) {
        let open = self.message(abi::NFT_MSG_NEWOBJ, abi::NLM_F_CREATE, family, Part::Counter(name.to_owned()));
        let writer = &mut self.writer;
        writer.string(abi::NFTA_OBJ_TABLE, Ruleset::TABLE);
        writer.string(abi::NFTA_OBJ_NAME, name);
        writer.number(abi::NFTA_OBJ_TYPE, abi::NFT_OBJECT_COUNTER);
        let data = writer.nest(abi::NFTA_OBJ_DATA);
        writer.end_nest(data);
        writer.end_message(open);
    }

    pub(super) fn set(&mut self, family: Family, set: &SetImage, index: usize) {
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
        if let Some(size) = table_size(set) {
            let nest = writer.nest(abi::NFTA_SET_DESC);
            writer.number(abi::NFTA_SET_DESC_SIZE, size);
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

    pub(super) fn chain(&mut self, family: Family, chain: &ChainImage) {
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
}

/// The number of elements that the kernel is told to make room for. Told it, the kernel takes a plain hash table, which is
/// quicker to make and to look up in than one that can grow, and refuses elements beyond it.
fn table_size(set: &SetImage) -> Option<u32> {
    /// A pod's containers, a few times over.
    const ROOM: usize = 64;
    let most = set.elements.len();
    match (set.grows, most) {
        (false, 0) => None,
        (false, most) => u32::try_from(most).ok(),
        (true, most) if holds_identities(set) => u32::try_from((2 * most).next_power_of_two().max(ROOM)).ok(),
        // Peers come in any number.
        (true, _) => None,
    }
}

/// Whether a set's keys are what sockets are known by: there are no more of them than a pod has containers.
fn holds_identities(set: &SetImage) -> bool {
    let kinds = [Kind::Cgroup, Kind::Uid, Kind::Gid];
    set.flags & abi::NFT_SET_INTERVAL == 0 && kinds.into_iter().any(|kind| set.key_type == compose::datatype(kind))
}
