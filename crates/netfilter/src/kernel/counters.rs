//! What the named counters have counted.

use super::read::{Depth, READS, TABLE_NAME, dump};
use super::{Count, Kernel};
use crate::abi;
use crate::compose::family_number;
use crate::error::NetlinkError;
use crate::netlink::Request;
use crate::slot::Slot;
use crate::wire::{Attributes, Message};
use sidewall_flow::Decision;
use sidewall_policy::ruleset::Family;
use std::collections::BTreeMap;

impl Kernel {
    /// What every named counter of ours has counted since the ruleset was loaded. Counters of one name in two tables are
    /// added up.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn counters(&mut self) -> Result<BTreeMap<String, Count>, NetlinkError> {
        self.counters_of(abi::NFPROTO_UNSPEC)
    }

    /// How many packets each decision was made of that is logged, since the ruleset was loaded.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn decisions(&mut self) -> Result<BTreeMap<String, u64>, NetlinkError> {
        let is_decision = |name: &str| format!("{}{name}", Decision::PREFIX).parse::<Decision>().is_ok();
        let all = self.counters()?.into_iter();
        Ok(all.filter(|(name, _)| is_decision(name)).map(|(name, count)| (name, count.packets)).collect())
    }

    /// What one named counter has counted; `None` where there is none of that name.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn counter(&mut self, family: Family, name: &str) -> Result<Option<Count>, NetlinkError> {
        Ok(self.counters_of(family_number(family))?.remove(name))
    }

    /// The counters of the ruleset in force, in the tables of a family or, of none, in all.
    fn counters_of(&mut self, family: u8) -> Result<BTreeMap<String, Count>, NetlinkError> {
        for _ in 0..READS {
            let before = self.nft_generation()?;
            let Some(found) = self.list_counters(family)? else {
                continue;
            };
            // While a ruleset takes another's place, or where the old one could not be cleared away, there are those of
            // both.
            let twofold = [Slot::A, Slot::B].iter().all(|slot| found.iter().any(|(name, _)| slot.holds(name)));
            let live = if twofold { self.read(Depth::Rules)?.0.live() } else { None };
            if self.nft_generation()? != before {
                continue;
            }
            let mut counters: BTreeMap<String, Count> = BTreeMap::new();
            for (name, count) in found {
                let (slot, name) = Slot::of(&name).map_or((None, name.as_str()), |(slot, name)| (Some(slot), name));
                if live.is_none() || slot == live {
                    let sum = counters.entry(name.to_owned()).or_default();
                    sum.packets += count.packets;
                    sum.bytes += count.bytes;
                }
            }
            return Ok(counters);
        }
        Err(NetlinkError::Restless { attempts: READS })
    }

    /// The counters by the names that they have in the kernel; `None` where they changed meanwhile.
    fn list_counters(&mut self, family: u8) -> Result<Option<Vec<(String, Count)>>, NetlinkError> {
        let kind = abi::NFT_OBJECT_COUNTER.to_be_bytes();
        let mut counters = Vec::new();
        let steady = self.netlink.ask(
            "list the counters",
            &Request {
                attributes: &[(abi::NFTA_OBJ_TABLE, TABLE_NAME), (abi::NFTA_OBJ_TYPE, &kind)],
                ..dump(abi::NFT_MSG_GETOBJ, family)
            },
            |message| counters.extend(read_counter(message)),
        )?;
        Ok(steady.then_some(counters))
    }
}

fn read_counter(message: &Message<'_>) -> Option<(String, Count)> {
    let mut name = None;
    let mut count = None;
    for attribute in message.attributes() {
        match attribute.kind {
            abi::NFTA_OBJ_NAME => name = Some(attribute.text()),
            abi::NFTA_OBJ_DATA => count = read_count(attribute.nested()),
            _ => {}
        }
    }
    Some((name?, count?))
}

fn read_count(attributes: Attributes<'_>) -> Option<Count> {
    let (mut packets, mut bytes) = (None, None);
    for attribute in attributes {
        match attribute.kind {
            abi::NFTA_COUNTER_PACKETS => packets = attribute.long(),
            abi::NFTA_COUNTER_BYTES => bytes = attribute.long(),
            _ => {}
        }
    }
    Some(Count { packets: packets?, bytes: bytes? })
}
