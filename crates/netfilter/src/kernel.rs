//! Netfilter of one network namespace: loading, reading back, counting, unloading.

mod counters;
mod exchange;

use crate::abi;
use crate::compose::{self, family_number, family_of};
use crate::conntrack;
use crate::drift::{self, ForeignTable, Standing};
use crate::encode;
use crate::error::{LoadError, NetlinkError};
use crate::image::Image;
use crate::load;
use crate::netlink::{Netlink, Request};
use crate::readback;
use crate::slot::Slot;
use sidewall_netns::NetNs;
use sidewall_policy::ruleset::{Family, Generation, Ruleset};
use std::collections::BTreeMap;

/// How often a read is begun again because something else changed the tables meanwhile.
const READS: u32 = 20;

/// Netfilter of one network namespace, through one socket.
///
/// While it lives, tables that were loaded with [`LoadOptions::owner`] can be changed by nobody else; when it is
/// dropped they stay as they are (`NFT_TABLE_F_PERSIST`), and the next one may take them over.
#[derive(Debug)]
pub struct Kernel {
    netlink: Netlink,
    /// The flags with which our tables were loaded or adopted; `None` before that.
    flags: Option<u32>,
}

/// How a ruleset is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LoadOptions {
    /// Nobody else may change the tables while this [`Kernel`] lives. Needs [`crate::Features::owner_persist`]:
    /// without it the kernel refuses. Ownership without persistence, which would take the walls away with this process,
    /// cannot be asked for.
    pub owner: bool,
}

impl LoadOptions {
    fn flags(self) -> u32 {
        if self.owner { abi::NFT_TABLE_F_OWNER | abi::NFT_TABLE_F_PERSIST } else { 0 }
    }
}

/// What was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The ruleset's generation.
    pub generation: Generation,
    /// Whether this [`Kernel`] owns the tables.
    pub owner: bool,
    /// How many netlink messages it took.
    pub messages: usize,
}

/// What a named counter has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes, from the IP header on.
    pub bytes: u64,
}

/// How much of our tables is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    /// Tables, and the names and forms of objects, sets and chains.
    Names,
    /// Also the rules.
    Rules,
    /// Also the elements of sets.
    Elements,
}

impl Kernel {
    /// Netfilter of a namespace.
    ///
    /// # Errors
    /// [`NetlinkError`] where the namespace cannot be entered or the process may not speak to netfilter.
    pub fn open(namespace: &NetNs) -> Result<Self, NetlinkError> {
        Ok(Self { netlink: Netlink::open(namespace)?, flags: None })
    }

    /// Netfilter of the calling thread's namespace.
    ///
    /// # Errors
    /// As [`Kernel::open`].
    pub fn here() -> Result<Self, NetlinkError> {
        Ok(Self { netlink: Netlink::here()?, flags: None })
    }

    /// Puts the ruleset in force in the place of what stands in our tables, at one moment: no packet meets neither or half
    /// of both. Counters start at zero. The namespace's other tables are not touched.
    ///
    /// Where the tables and their chains with hooks stay the same, the new sets and chains are made ready beside the old
    /// ones first, then the hooks' rules are exchanged in one transaction, then the old ones are deleted. Otherwise (nothing
    /// was loaded, somebody changed the tables, another hook or owner) the tables are replaced as a whole: in one transaction
    /// too, but while the kernel ends it, look-ups in the new sets find nothing for some 100 µs.
    ///
    /// Where an earlier ruleset of this namespace had the same generation, call [`Kernel::retire`] first.
    ///
    /// # Errors
    /// [`LoadError`], which names the rule, chain or set that the kernel refused. What was in force before still is.
    pub fn load(&mut self, ruleset: &Ruleset, options: LoadOptions) -> Result<Loaded, LoadError> {
        let messages = self.replace(ruleset, options)?;
        self.flags = Some(options.flags());
        Ok(Loaded { generation: ruleset.generation, owner: options.owner, messages })
    }

    /// Takes ownership of tables that an earlier program left in the namespace, as they are, and says of which families.
    /// [`Kernel::verify`] then tells whether they are what they should be.
    ///
    /// # Errors
    /// [`LoadError::Denied`] where another program that still runs owns them; [`LoadError::Unsupported`] where the kernel
    /// has no ownership, or where they were loaded without it.
    pub fn adopt(&mut self) -> Result<Vec<Family>, LoadError> {
        let families = self.our_families()?;
        let flags = LoadOptions { owner: true }.flags();
        let first = self.netlink.take_sequence(1);
        load::commit(&mut self.netlink, &encode::encode_adoption(&families, flags, first))?;
        self.flags = Some(flags);
        Ok(families)
    }

    /// Deletes every table of ours. It is no error where there is none.
    ///
    /// # Errors
    /// [`LoadError::Denied`] where another program owns them.
    pub fn unload(&mut self) -> Result<(), LoadError> {
        let first = self.netlink.take_sequence(1);
        load::commit(&mut self.netlink, &encode::encode_removal(first))?;
        self.flags = None;
        Ok(())
    }

    /// Reads our tables back and compares them with a ruleset: names, hooks, policies, flags, every expression of every
    /// rule, every element of every set.
    ///
    /// Where this [`Kernel`] neither loaded nor adopted the tables, their ownership is not compared.
    ///
    /// # Errors
    /// [`LoadError::Encode`] for a ruleset that could not have been loaded; [`LoadError::Netlink`] where the tables cannot
    /// be read, or never stood still.
    pub fn verify(&mut self, ruleset: &Ruleset) -> Result<Standing, LoadError> {
        let mut found = self.read(Depth::Elements)?;
        let flags = match self.flags {
            Some(flags) => flags,
            None => {
                const OWNERSHIP: u32 = abi::NFT_TABLE_F_OWNER | abi::NFT_TABLE_F_PERSIST;
                for table in found.tables.values_mut() {
                    table.flags &= !OWNERSHIP;
                }
                0
            }
        };
        // Where it cannot be told, all the rules have drifted, whichever is taken.
        let live = found.live().unwrap_or(Slot::A);
        Ok(drift::compare(&compose::compose(ruleset, flags)?.in_slot(live), &found).named_as_in(live))
    }

    /// The number that changes with every change of any table in the namespace. As long as it is the one of a moment
    /// before a [`Kernel::verify`], there is nothing to verify.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn nft_generation(&mut self) -> Result<u32, NetlinkError> {
        let mut generation = None;
        self.netlink.ask(
            "tell the generation",
            &Request {
                subsystem: abi::NFNL_SUBSYS_NFTABLES,
                kind: abi::NFT_MSG_GETGEN,
                flags: abi::NLM_F_ACK,
                family: abi::NFPROTO_UNSPEC,
                resource: 0,
                attributes: &[],
            },
            |message| {
                if message.kind & 0xff == abi::NFT_MSG_NEWGEN {
                    generation = message
                        .attributes()
                        .find(|attribute| attribute.kind == abi::NFTA_GEN_ID)
                        .and_then(|attribute| attribute.number());
                }
            },
        )?;
        generation.ok_or(NetlinkError::Silent { doing: "tell the generation" })
    }

    /// The namespace's tables that are none of ours: no business of ours, but what they drop is dropped.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn foreign_tables(&mut self) -> Result<Vec<ForeignTable>, NetlinkError> {
        let mut tables = self.tables()?;
        tables.retain(|table| !drift::is_ours(table.family, &table.name));
        Ok(tables)
    }

    /// Takes a generation's number away from every flow that bears it, so that a new ruleset of that number finds none
    /// that it has not judged itself. Says how many there were. The names of a flow's ends stay, and so do the bits of the
    /// mark that are not ours; verdicts go.
    ///
    /// It must not be the generation that is loaded: its flows would bear it again at once.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn retire(&mut self, generation: Generation) -> Result<usize, NetlinkError> {
        conntrack::retire(&mut self.netlink, generation)
    }

    /// How many flows bear which generation.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn generations_in_use(&mut self) -> Result<BTreeMap<Generation, usize>, NetlinkError> {
        conntrack::generations(&mut self.netlink)
    }

    fn tables(&mut self) -> Result<Vec<ForeignTable>, NetlinkError> {
        for _ in 0..READS {
            let mut tables = Vec::new();
            let steady =
                self.netlink.ask("list the tables", &dump(abi::NFT_MSG_GETTABLE, abi::NFPROTO_UNSPEC), |message| {
                    let name = message.attributes().find(|attribute| attribute.kind == abi::NFTA_TABLE_NAME);
                    if let (Some(family), Some(name)) = (message.family(), name) {
                        tables.push(ForeignTable { family, name: name.text() });
                    }
                })?;
            if steady {
                tables.sort();
                return Ok(tables);
            }
        }
        Err(NetlinkError::Restless { attempts: READS })
    }

    fn our_families(&mut self) -> Result<Vec<Family>, NetlinkError> {
        Ok(self
            .tables()?
            .iter()
            .filter(|table| table.name == Ruleset::TABLE)
            .filter_map(|table| family_of(table.family))
            .collect())
    }

    /// Reads our tables as of one moment.
    fn read(&mut self, depth: Depth) -> Result<Image, NetlinkError> {
        for _ in 0..READS {
            let before = self.nft_generation()?;
            if let Some(image) = self.read_once(depth)?
                && self.nft_generation()? == before
            {
                return Ok(image);
            }
        }
        Err(NetlinkError::Restless { attempts: READS })
    }

    /// `None` where something changed meanwhile.
    fn read_once(&mut self, depth: Depth) -> Result<Option<Image>, NetlinkError> {
        let mut image = Image::default();
        for family in self.our_families()? {
            let number = family_number(family);
            // Every dump of these takes the table's name as its first attribute or, of tables and chains, none; what is
            // not ours is passed over.
            for (kind, narrow, needed) in [
                (abi::NFT_MSG_GETTABLE, false, Depth::Names),
                (abi::NFT_MSG_GETOBJ, true, Depth::Names),
                (abi::NFT_MSG_GETSET, true, Depth::Names),
                (abi::NFT_MSG_GETCHAIN, false, Depth::Names),
                (abi::NFT_MSG_GETRULE, true, Depth::Rules),
            ] {
                if depth < needed {
                    continue;
                }
                let name: &[(u16, &[u8])] = &[(abi::NFTA_TABLE_NAME, TABLE_NAME)];
                let request = Request { attributes: if narrow { name } else { &[] }, ..dump(kind, number) };
                if !self.read_dump(&mut image, &request)? {
                    return Ok(None);
                }
            }
            if depth < Depth::Elements {
                continue;
            }
            let sets: Vec<String> = image
                .tables
                .get(&number)
                .map(|table| table.sets.iter().map(|set| set.name.clone()).collect())
                .unwrap_or_default();
            for set in sets {
                let mut terminated = set.into_bytes();
                terminated.push(0);
                let request = Request {
                    attributes: &[
                        (abi::NFTA_SET_ELEM_LIST_TABLE, TABLE_NAME),
                        (abi::NFTA_SET_ELEM_LIST_SET, &terminated),
                    ],
                    ..dump(abi::NFT_MSG_GETSETELEM, number)
                };
                if !self.read_dump(&mut image, &request)? {
                    return Ok(None);
                }
            }
        }
        Ok(Some(image))
    }

    fn read_dump(&mut self, image: &mut Image, request: &Request<'_>) -> Result<bool, NetlinkError> {
        match self.netlink.ask("list a table", request, |message| {
            readback::read_message(image, message);
        }) {
            // The table or set went away since it was listed.
            Err(error) if error.code() == Some(libc::ENOENT) => Ok(false),
            other => other,
        }
    }
}

/// [`Ruleset::TABLE`] as the kernel wants it.
const TABLE_NAME: &[u8] = b"sidewall\0";

const fn dump(kind: u16, family: u8) -> Request<'static> {
    Request { subsystem: abi::NFNL_SUBSYS_NFTABLES, kind, flags: abi::NLM_F_DUMP, family, resource: 0, attributes: &[] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_name_is_the_rulesets() {
        assert_eq!(TABLE_NAME, format!("{}\0", Ruleset::TABLE).as_bytes());
    }
}
