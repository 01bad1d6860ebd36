//! From a [`Ruleset`] to the image that the kernel is to hold.

mod amend;
mod rule;
#[cfg(test)]
mod tests;

pub(crate) use amend::{Amendment, amend};

use crate::abi;
use crate::image::{ChainImage, Data, ElementImage, HookImage, Image, SetImage, TableImage};
use crate::place::{Part, Place};
use crate::slot::{self, Slot};
use sidewall_policy::ruleset::{
    ByteOrder, Chain, Element, Family, Hook, HookPoint, Kind, Ruleset, Set, Table, Verdict,
};
use std::collections::{BTreeMap, BTreeSet};

/// The greatest length of a name: nftables' own (`NFT_NAME_MAXLEN`, without its NUL) less the slot.
const NAME_MAX: usize = 255 - slot::PREFIX;
/// The greatest length of a device's name (`IFNAMSIZ`, without its NUL).
const DEVICE_MAX: usize = 15;
/// The greatest length of a key: the kernel's sixteen 32-bit registers.
const KEY_MAX: usize = 64;

/// A ruleset that netfilter has no form for. It is a mistake of the program that made it, never of a user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}; this is a bug in the compiler of rules, please report it")]
pub struct EncodeError {
    /// Where.
    pub place: Place,
    /// What.
    pub problem: EncodeProblem,
}

/// What netfilter has no form for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeProblem {
    /// Two tables of one family.
    #[error("there are two tables of this family")]
    TwoTables,
    /// A name that the kernel would refuse or cut.
    #[error(
        "{0:?} cannot be a name: it must have 1 to {NAME_MAX} bytes (a device 1 to {DEVICE_MAX}), none of them zero"
    )]
    Name(String),
    /// A chain with a hook whose name begins like those of what stands in a slot.
    #[error("the name of a chain with a hook cannot begin with \"a.\" or \"b.\"")]
    SlotName,
    /// A name that another part of the same sort has.
    #[error("the name is taken twice")]
    TwoOfOneName,
    /// A hook that the table's family does not have.
    #[error("the hook does not belong to the table's family")]
    Hook,
    /// A set's key that no register can hold, or an interval of several kinds.
    #[error("a key of these kinds is not possible")]
    Key,
    /// An element whose form is not the set's.
    #[error("element {0} does not have the form of its set")]
    Element(usize),
    /// Elements out of order, or overlapping.
    #[error("element {0} is not after the one before it")]
    ElementOrder(usize),
    /// A value that does not fit its field.
    #[error("the value {0:#x} does not fit its field")]
    Value(u128),
    /// A chain that the table does not have.
    #[error("there is no chain {0:?}")]
    NoChain(String),
    /// A set or verdict map that the table does not have.
    #[error("there is no set or verdict map {0:?} of that sort")]
    NoSet(String),
    /// A counter that the table does not have.
    #[error("there is no counter {0:?}")]
    NoCounter(String),
    /// The fields of a look-up are not of the kinds of the set's key.
    #[error("the fields are not of the kinds of the key of {0:?}")]
    Fields(String),
    /// A mask on several fields at once.
    #[error("several fields cannot be masked at once")]
    Mask,
    /// A rate of no packets.
    #[error("a rate must be at least 1 a second")]
    Rate,
    /// A comment that is too long.
    #[error("the comment has {0} bytes, more than 127, or a zero byte")]
    Comment(usize),
}

/// The number of a family (`NFPROTO_*`).
pub(crate) const fn family_number(family: Family) -> u8 {
    match family {
        Family::Inet => abi::NFPROTO_INET,
        Family::Netdev => abi::NFPROTO_NETDEV,
    }
}

/// The family of a number, where it is one of ours.
pub(crate) const fn family_of(number: u8) -> Option<Family> {
    match number {
        abi::NFPROTO_INET => Some(Family::Inet),
        abi::NFPROTO_NETDEV => Some(Family::Netdev),
        _ => None,
    }
}

/// The image of a ruleset, its tables with these flags (`NFT_TABLE_F_*`), with the ruleset's own names: what stands in
/// the kernel is [`Image::in_slot`] of it.
pub(crate) fn compose(ruleset: &Ruleset, flags: u32) -> Result<Image, EncodeError> {
    let mut image = Image::default();
    for table in &ruleset.tables {
        let composed = compose_table(table, flags)?;
        if image.tables.insert(family_number(table.family), composed).is_some() {
            return Err(EncodeError {
                place: Place::new(table.family, Part::Table),
                problem: EncodeProblem::TwoTables,
            });
        }
    }
    Ok(image)
}

/// The names that a table's rules and maps may use.
struct Names<'a> {
    chains: BTreeSet<&'a str>,
    counters: BTreeSet<&'a str>,
    sets: BTreeMap<&'a str, &'a Set>,
}

impl<'a> Names<'a> {
    fn of(table: &'a Table) -> Result<Self, EncodeError> {
        let at = |part: Part| move |problem| EncodeError { place: Place::new(table.family, part), problem };
        let mut names = Self { chains: BTreeSet::new(), counters: BTreeSet::new(), sets: BTreeMap::new() };
        for counter in &table.counters {
            let fresh = names.counters.insert(&counter.name);
            named(&counter.name, fresh).map_err(at(Part::Counter(counter.name.clone())))?;
        }
        for set in &table.sets {
            let fresh = names.sets.insert(&set.name, set).is_none();
            named(&set.name, fresh).map_err(at(Part::Set(set.name.clone())))?;
        }
        for chain in &table.chains {
            let fresh = names.chains.insert(&chain.name);
            named(&chain.name, fresh).map_err(at(Part::Chain(chain.name.clone())))?;
            if chain.hook.is_some() && Slot::of(&chain.name).is_some() {
                return Err(at(Part::Chain(chain.name.clone()))(EncodeProblem::SlotName));
            }
        }
        Ok(names)
    }
}

fn compose_table(table: &Table, flags: u32) -> Result<TableImage, EncodeError> {
    let family = table.family;
    let at = |part: Part| move |problem| EncodeError { place: Place::new(family, part), problem };
    let names = Names::of(table)?;
    let mut image = TableImage {
        flags,
        counters: table.counters.iter().map(|c| c.name.clone()).collect(),
        ..TableImage::default()
    };
    for set in &table.sets {
        image.sets.push(compose_set(set, &names).map_err(at(Part::Set(set.name.clone())))?);
    }
    for chain in &table.chains {
        image.chains.push(compose_chain(chain, family, &names)?);
    }
    Ok(image)
}

fn named(name: &str, fresh: bool) -> Result<(), EncodeProblem> {
    checked_name(name, NAME_MAX)?;
    fresh.then_some(()).ok_or(EncodeProblem::TwoOfOneName)
}

fn checked_name(name: &str, max: usize) -> Result<(), EncodeProblem> {
    if name.is_empty() || name.len() > max || name.contains('\0') {
        return Err(EncodeProblem::Name(name.to_owned()));
    }
    Ok(())
}

fn compose_chain(chain: &Chain, family: Family, names: &Names<'_>) -> Result<ChainImage, EncodeError> {
    let hook =
        match &chain.hook {
            Some(hook) => Some(compose_hook(hook, family).map_err(|problem| EncodeError {
                place: Place::new(family, Part::Chain(chain.name.clone())),
                problem,
            })?),
            None => None,
        };
    let mut rules = Vec::with_capacity(chain.rules.len());
    for (index, rule) in chain.rules.iter().enumerate() {
        let composed = rule::compose_rule(rule, family, names).map_err(|problem| EncodeError {
            place: Place::new(family, Part::Rule { chain: chain.name.clone(), number: index + 1 }),
            problem,
        })?;
        rules.push(composed);
    }
    Ok(ChainImage { name: chain.name.clone(), hook, flags: 0, rules })
}

fn compose_hook(hook: &Hook, family: Family) -> Result<HookImage, EncodeProblem> {
    let mut devices = Vec::new();
    let number = match (&hook.point, family) {
        (HookPoint::Prerouting | HookPoint::PreroutingNat, Family::Inet) => abi::NF_INET_PRE_ROUTING,
        (HookPoint::Input | HookPoint::InputNat, Family::Inet) => abi::NF_INET_LOCAL_IN,
        (HookPoint::Output | HookPoint::OutputNat, Family::Inet) => abi::NF_INET_LOCAL_OUT,
        (HookPoint::PostroutingNat, Family::Inet) => abi::NF_INET_POST_ROUTING,
        (HookPoint::DeviceEgress(device), Family::Netdev) => {
            checked_name(device, DEVICE_MAX)?;
            devices.push(device.clone());
            abi::NF_NETDEV_EGRESS
        }
        _ => return Err(EncodeProblem::Hook),
    };
    Ok(HookImage {
        number,
        priority: hook.priority,
        devices,
        policy: if hook.accept { abi::NF_ACCEPT } else { abi::NF_DROP },
        kind: if hook.point.is_nat() { "nat" } else { "filter" }.to_owned(),
    })
}

fn compose_set(set: &Set, names: &Names<'_>) -> Result<SetImage, EncodeProblem> {
    let length = key_length(&set.key);
    if set.key.is_empty() || length > KEY_MAX || (set.interval && set.key.len() > 1) {
        return Err(EncodeProblem::Key);
    }
    let mut flags = 0;
    if set.interval {
        flags |= abi::NFT_SET_INTERVAL;
    }
    if set.map {
        flags |= abi::NFT_SET_MAP;
    }
    if set.counts {
        flags |= abi::NFT_SET_OBJECT;
    }
    let mut elements = Vec::with_capacity(set.elements.len() * if set.interval { 2 } else { 1 });
    let mut before: Option<&Element> = None;
    for (index, element) in set.elements.iter().enumerate() {
        if element.key.len() != set.key.len()
            || element.verdict.is_some() != set.map
            || element.counter.is_some() != set.counts
            || (set.map && set.counts)
            || (element.last.is_some() && !set.interval)
        {
            return Err(EncodeProblem::Element(index));
        }
        if before.is_some_and(|before| !follows(element, before)) {
            return Err(EncodeProblem::ElementOrder(index));
        }
        before = Some(element);
        compose_element(set, index, element, names, &mut elements)?;
    }
    Ok(SetImage {
        name: set.name.clone(),
        flags,
        key_type: set
            .key
            .iter()
            // nft keeps six bits for each part, and as many parts as there is room for.
            .fold(0_u32, |all, kind| all << 6 | datatype(*kind)),
        // At most KEY_MAX.
        key_length: length as u32,
        data_type: set.map.then_some(abi::NFT_DATA_VERDICT),
        grows: set.grows,
        network_order: set.interval || set.key.iter().all(|k| k.order() == ByteOrder::Network),
        elements,
    })
}

fn follows(element: &Element, before: &Element) -> bool {
    match (before.last, &*element.key) {
        (Some(last), [first]) => *first > last,
        _ => element.key > before.key,
    }
}

fn compose_element(
    set: &Set,
    index: usize,
    element: &Element,
    names: &Names<'_>,
    elements: &mut Vec<ElementImage>,
) -> Result<(), EncodeProblem> {
    let data = match (&element.verdict, &element.counter) {
        (Some(verdict), _) => Some(compose_verdict(verdict, names)?),
        (None, Some(counter)) if names.counters.contains(&**counter) => Some(Data::Counter(counter.to_string())),
        (None, Some(counter)) => return Err(EncodeProblem::NoCounter(counter.to_string())),
        (None, None) => None,
    };
    elements.push(ElementImage {
        key: key_bytes(&set.key, &element.key, set.interval)?,
        end: false,
        data,
        foreign: false,
    });
    if let (true, [kind], [first]) = (set.interval, set.key.as_slice(), &*element.key) {
        let last = element.last.unwrap_or(*first);
        if last < *first {
            return Err(EncodeProblem::Element(index));
        }
        // A range that ends at the kind's greatest value stays open: there is no value after it.
        if last < greatest(*kind) {
            elements.push(ElementImage {
                key: key_bytes(&set.key, &[last + 1], true)?,
                end: true,
                data: None,
                foreign: false,
            });
        } else if last > greatest(*kind) {
            return Err(EncodeProblem::Value(last));
        }
    }
    Ok(())
}

fn compose_verdict(verdict: &Verdict, names: &Names<'_>) -> Result<Data, EncodeProblem> {
    let known = |chain: &String| {
        if names.chains.contains(chain.as_str()) {
            Ok(Some(chain.clone()))
        } else {
            Err(EncodeProblem::NoChain(chain.clone()))
        }
    };
    let (code, chain) = match verdict {
        Verdict::Accept => (abi::NF_ACCEPT, None),
        Verdict::Drop => (abi::NF_DROP, None),
        Verdict::Return => (abi::NFT_RETURN, None),
        Verdict::Jump(chain) => (abi::NFT_JUMP, known(chain)?),
        Verdict::Goto(chain) => (abi::NFT_GOTO, known(chain)?),
    };
    Ok(Data::Verdict { code, chain })
}

/// The length of a key in bytes. Each part of a concatenation fills whole 32-bit registers.
fn key_length(key: &[Kind]) -> usize {
    match key {
        [kind] => kind.width(),
        _ => key.iter().map(|kind| kind.width().next_multiple_of(4)).sum(),
    }
}

fn key_bytes(key: &[Kind], values: &[u128], interval: bool) -> Result<Vec<u8>, EncodeProblem> {
    let mut bytes = Vec::with_capacity(key_length(key));
    for (kind, value) in key.iter().zip(values) {
        // The kernel keeps an interval's ends in the order of their bytes, so they must be in network order.
        let order = if interval { ByteOrder::Network } else { kind.order() };
        push_value(&mut bytes, *value, kind.width(), order)?;
        if key.len() > 1 {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
    }
    Ok(bytes)
}

const fn greatest(kind: Kind) -> u128 {
    u128::MAX >> (128 - 8 * kind.width())
}

/// A value's bytes, as many as the field has.
fn push_value(bytes: &mut Vec<u8>, value: u128, width: usize, order: ByteOrder) -> Result<(), EncodeProblem> {
    let all = value.to_be_bytes();
    let (rest, own) = all.split_at(all.len() - width);
    if rest.iter().any(|byte| *byte != 0) {
        return Err(EncodeProblem::Value(value));
    }
    if order == ByteOrder::Network || cfg!(target_endian = "big") {
        bytes.extend(own);
    } else {
        bytes.extend(own.iter().rev());
    }
    Ok(())
}

/// nft's number for a kind's datatype, from its `datatype.h`. Only `nft list` looks at it.
pub(crate) const fn datatype(kind: Kind) -> u32 {
    match kind {
        // nft has an integer of no size of its own (4), and breaks off where one stands in a concatenation; these have the size
        // and print numbers that they have no name for.
        Kind::Byte => 12,
        Kind::Short => 13,
        Kind::Number => 19,
        Kind::DeviceName => 41,
        Kind::Ipv4 => 7,
        Kind::Ipv6 => 8,
        Kind::Protocol => 12,
        Kind::Port => 13,
        Kind::IcmpType => 14,
        Kind::Mark => 19,
        Kind::Uid => 24,
        Kind::Gid => 25,
        Kind::Icmpv6Type => 29,
        Kind::PacketType => 31,
        Kind::FibType => 38,
        Kind::Cgroup => 46,
    }
}
