//! Netfilter of one network namespace: loading, reading back, counting, unloading.

mod change;
mod counters;
mod exchange;
mod read;
mod repair;

pub use change::{Because, Changed, Way};
pub use repair::Repaired;

use crate::abi;
use crate::compose;
use crate::conntrack::{self, Which};
use crate::drift::{self, ForeignTable, Standing};
use crate::encode::{self, Batch};
use crate::error::{LoadError, NetlinkError};
use crate::load::{self, Outcome};
use crate::netlink::{Netlink, Request};
use crate::slot::Slot;
use read::Depth;
use sidewall_netns::NetNs;
use sidewall_policy::ruleset::{Family, Generation, Ruleset};
use std::collections::{BTreeMap, BTreeSet};

/// Netfilter of one network namespace, through one socket.
///
/// While it lives, tables that were loaded with [`LoadOptions::owner`] can be changed by nobody else; when it is
/// dropped they stay as they are (`NFT_TABLE_F_PERSIST`), and the next one may take them over.
#[derive(Debug)]
pub struct Kernel {
    netlink: Netlink,
    /// The flags with which our tables were loaded or adopted; `None` before that.
    flags: Option<u32>,
    /// How many transactions of ours the kernel has taken, round the clock.
    commits: u32,
    /// What stands in the tables, where nobody but us can have changed them.
    stands: Option<Stands>,
    /// The number that was given last, and how many after it no flow bears.
    free: Option<(Generation, u8)>,
}

/// A ruleset of ours in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stands {
    /// The slot that it stands in.
    slot: Slot,
    /// Its generation.
    generation: Generation,
    /// [`Kernel::nft_generation`] after our last transaction: another number means that somebody changed some table.
    number: u32,
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

impl Kernel {
    /// Netfilter of a namespace.
    ///
    /// # Errors
    /// [`NetlinkError`] where the namespace cannot be entered or the process may not speak to netfilter.
    pub fn open(namespace: &NetNs) -> Result<Self, NetlinkError> {
        Ok(Self::with(Netlink::open(namespace)?))
    }

    /// Netfilter of the calling thread's namespace.
    ///
    /// # Errors
    /// As [`Kernel::open`].
    pub fn here() -> Result<Self, NetlinkError> {
        Ok(Self::with(Netlink::here()?))
    }

    fn with(netlink: Netlink) -> Self {
        Self { netlink, flags: None, commits: 0, stands: None, free: None }
    }

    /// Puts the ruleset in force in the place of what stands in our tables, at one moment: no packet meets neither or half
    /// of both. Counters start at zero. The namespace's other tables are not touched.
    ///
    /// Where the tables and their chains with hooks stay the same, the new sets and chains are made ready beside the old
    /// ones first, then the hooks' rules are exchanged in one transaction, then the old ones are deleted. Otherwise (nothing
    /// was loaded, somebody changed the tables, another hook or owner) the tables are replaced as a whole: in one transaction
    /// too, but while the kernel ends it, look-ups in the new sets find nothing for some 100 µs.
    ///
    /// Where an earlier ruleset of this namespace had the same generation, call [`Kernel::retire`] first, or ask for
    /// [`Kernel::fresh_generation`]. Where tables of ours stand that this [`Kernel`] does not know, flows of the generation lose
    /// their verdicts once more after the load: nobody knows whether they are from it.
    ///
    /// # Errors
    /// [`LoadError`], which names the rule, chain or set that the kernel refused. What was in force before still is.
    pub fn load(&mut self, ruleset: &Ruleset, options: LoadOptions) -> Result<Loaded, LoadError> {
        let unknown = self.stands.is_none() && !self.our_families()?.is_empty();
        let loaded = self.put(ruleset, options)?;
        if unknown {
            conntrack::void(&mut self.netlink, Which::Of(ruleset.generation))?;
        }
        Ok(loaded)
    }

    /// The same, whatever stood there before.
    fn put(&mut self, ruleset: &Ruleset, options: LoadOptions) -> Result<Loaded, LoadError> {
        self.stands = None;
        let before = (self.nft_generation()?, self.commits);
        let (messages, slot) = self.replace(ruleset, options)?;
        self.flags = Some(options.flags());
        // Where somebody else changed something meanwhile, it may have been in our tables.
        let ours = self.commits.wrapping_sub(before.1);
        let number = (0..ours).fold(before.0, |number, _| next_number(number));
        if self.nft_generation().is_ok_and(|now| now == number) {
            self.stands = Some(Stands { slot, generation: ruleset.generation, number });
        }
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
        self.stands = None;
        self.commit(&encode::encode_adoption(&families, flags, first))?;
        self.flags = Some(flags);
        Ok(families)
    }

    /// Deletes every table of ours. It is no error where there is none.
    ///
    /// # Errors
    /// [`LoadError::Denied`] where another program owns them.
    pub fn unload(&mut self) -> Result<(), LoadError> {
        let first = self.netlink.take_sequence(1);
        self.stands = None;
        self.free = None;
        self.commit(&encode::encode_removal(first))?;
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
        let (mut found, number) = self.read(Depth::Elements)?;
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
        let standing = drift::compare(&compose::compose(ruleset, flags)?.in_slot(live), &found).named_as_in(live);
        // The kernel is known to hold it as of that number, whoever put it there.
        self.stands = match standing {
            Standing::AsLoaded => Some(Stands { slot: live, generation: ruleset.generation, number }),
            Standing::Drifted(_) => None,
        };
        Ok(standing)
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

    /// Whether nobody has changed any table of the namespace since this [`Kernel`] last loaded, changed or verified ours. Where
    /// not, [`Kernel::repair`] tells what it was.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn is_untouched(&mut self) -> Result<bool, NetlinkError> {
        let Some(stands) = self.stands else { return Ok(false) };
        Ok(self.nft_generation()? == stands.number)
    }

    /// Whether any table of ours stands in the namespace, whoever loaded it.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn has_tables(&mut self) -> Result<bool, NetlinkError> {
        Ok(!self.our_families()?.is_empty())
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
        conntrack::retire(&mut self.netlink, Which::Of(generation))
    }

    /// Takes the numbers of all generations but one away from every flow that bears one, at the cost of one
    /// [`Kernel::retire`]: afterwards, every other number may be given to a new ruleset. `kept` is the one in force.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn retire_others(&mut self, kept: Generation) -> Result<usize, NetlinkError> {
        conntrack::retire(&mut self.netlink, Which::AllBut(kept))
    }

    /// The number for the ruleset that follows `current`, which is in force: the next one, of which no flow bears it. Other
    /// numbers are taken from all flows when there is none left that is known to be free, which is at the first call and at
    /// every thirtieth; it takes as long as reading all of conntrack does.
    ///
    /// It counts on being asked before each new generation of the namespace.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn next_generation(&mut self, current: Generation) -> Result<Generation, NetlinkError> {
        let free = match self.free.take() {
            Some((given, free)) if given == current && free > 0 => free,
            _ => {
                self.retire_others(current)?;
                Generation::COUNT - 1
            }
        };
        let next = current.next();
        self.free = Some((next, free - 1));
        Ok(next)
    }

    /// The number for a ruleset that follows none that is known to stand: of rules that were taken away, or of a former
    /// program's, flows may bear any. It takes as long as reading all of conntrack does, which is nothing where there is no
    /// flow. The numbers after it that no flow bears either are the next that [`Kernel::next_generation`] gives.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn fresh_generation(&mut self) -> Result<Generation, NetlinkError> {
        self.free = None;
        let mut taken: BTreeSet<Generation> = self.generations_in_use()?.into_keys().collect();
        let standing = self.stands.map(|stands| stands.generation);
        taken.extend(standing);
        let mut all = (1..=Generation::COUNT).filter_map(Generation::new);
        if let Some(fresh) = all.clone().find(|generation| !taken.contains(generation)) {
            // Rules that nobody knows may give their number to further flows.
            if standing.is_some() || self.our_families()?.is_empty() {
                let after = std::iter::successors(Some(fresh.next()), |generation| Some(generation.next()));
                let free = after.take_while(|generation| *generation != fresh && !taken.contains(generation));
                self.free = Some((fresh, u8::try_from(free.count()).unwrap_or(0)));
            }
            return Ok(fresh);
        }
        // Of as many as there are, one is cleared.
        let fresh = all.find(|generation| Some(*generation) != standing).unwrap_or(Generation::FIRST);
        self.retire(fresh)?;
        Ok(fresh)
    }

    /// How many flows bear which generation.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn generations_in_use(&mut self) -> Result<BTreeMap<Generation, usize>, NetlinkError> {
        conntrack::generations(&mut self.netlink)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), LoadError> {
        // Only a guarded one can have another outcome.
        self.commit_guarded(batch).map(|_| ())
    }

    /// Sends a batch, and keeps count.
    fn commit_guarded(&mut self, batch: &Batch) -> Result<Outcome, LoadError> {
        let outcome = load::commit(&mut self.netlink, batch)?;
        if outcome == Outcome::Done && !batch.is_empty() {
            self.commits = self.commits.wrapping_add(1);
        }
        Ok(outcome)
    }
}

/// The number of the tables after another transaction. 0 is left out.
const fn next_number(number: u32) -> u32 {
    match number.wrapping_add(1) {
        0 => 1,
        next => next,
    }
}
