//! Reading tables, sets and rules as of one moment.

use super::Kernel;
use crate::abi;
use crate::compose::{family_number, family_of};
use crate::drift::ForeignTable;
use crate::error::NetlinkError;
use crate::image::Image;
use crate::netlink::Request;
use crate::readback;
use sidewall_policy::ruleset::{Family, Ruleset};

/// How often a read is begun again because something else changed the tables meanwhile.
pub(super) const READS: u32 = 20;

/// How much of our tables is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Depth {
    /// Tables, and the names and forms of objects, sets and chains.
    Names,
    /// Also the rules.
    Rules,
    /// Also the elements of sets.
    Elements,
}

impl Kernel {
    pub(super) fn tables(&mut self) -> Result<Vec<ForeignTable>, NetlinkError> {
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

    pub(super) fn our_families(&mut self) -> Result<Vec<Family>, NetlinkError> {
        Ok(self
            .tables()?
            .iter()
            .filter(|table| table.name == Ruleset::TABLE)
            .filter_map(|table| family_of(table.family))
            .collect())
    }

    /// Reads our tables as of one moment, and tells the number that they had then.
    pub(super) fn read(&mut self, depth: Depth) -> Result<(Image, u32), NetlinkError> {
        for _ in 0..READS {
            let before = self.nft_generation()?;
            if let Some(image) = self.read_once(depth)?
                && self.nft_generation()? == before
            {
                return Ok((image, before));
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
pub(super) const TABLE_NAME: &[u8] = b"sidewall\0";

pub(super) const fn dump(kind: u16, family: u8) -> Request<'static> {
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
