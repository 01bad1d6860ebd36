//! The generation that flows bear in the five highest bits of their conntrack mark.

use crate::abi;
use crate::error::NetlinkError;
use crate::netlink::{Netlink, Request};
use crate::wire::Message;
use sidewall_policy::mark;
use sidewall_policy::ruleset::Generation;
use std::collections::BTreeMap;

/// The bits of the mark that hold for one generation only: its number and its verdicts (client passed, server passed,
/// denied). The names of the two ends stay, as they do when a ruleset meets an older generation: a flow that forgot its
/// ends could be taken over by another container. The twelve lowest bits are not ours.
const PASSING: u32 = mark::GENERATION | mark::CLIENT | mark::SERVER | mark::DENIED;
/// How often the flows are read before a generation counts as one that does not go away.
const ROUNDS: u32 = 20;
/// How many flows are cleared by one system call.
const AT_ONCE: usize = 128;

/// A flow, as far as the kernel must be told which one is meant.
struct Flow {
    family: u8,
    /// The attributes that name it: its tuples, its id and its zone.
    name: Vec<(u16, Vec<u8>)>,
}

/// Which flows lose their generation and verdicts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    /// Those that bear a generation.
    Of(Generation),
    /// Those that bear any other generation.
    AllBut(Generation),
}

impl Which {
    /// What the kernel itself can choose by: the mark, after `& mask`.
    fn filter(self) -> (u32, u32) {
        match self {
            Self::Of(generation) => (mark::generation(generation), mark::GENERATION),
            Self::AllBut(_) => (0, 0),
        }
    }

    fn has(self, flow_mark: u32) -> bool {
        let (mark, mask) = self.filter();
        let generation = flow_mark & mark::GENERATION;
        match self {
            Self::AllBut(kept) => generation != 0 && generation != mark::generation(kept),
            Self::Of(_) => flow_mark & mask == mark,
        }
    }
}

/// Takes generation and verdicts out of the marks of flows, until there is none; says how many there were.
pub(crate) fn retire(netlink: &mut Netlink, which: Which) -> Result<usize, NetlinkError> {
    let mut cleared = 0;
    for _ in 0..ROUNDS {
        let (flows, steady) = find(netlink, which)?;
        if flows.is_empty() && steady {
            return Ok(cleared);
        }
        cleared += clear(netlink, &flows)?;
    }
    Err(NetlinkError::Restless { attempts: ROUNDS })
}

/// The same once for each flow: those of a generation in force bear it again at their next packet.
pub(crate) fn void(netlink: &mut Netlink, which: Which) -> Result<usize, NetlinkError> {
    let mut cleared = 0;
    for _ in 0..ROUNDS {
        let (flows, steady) = find(netlink, which)?;
        cleared += clear(netlink, &flows)?;
        if steady {
            return Ok(cleared);
        }
    }
    Err(NetlinkError::Restless { attempts: ROUNDS })
}

fn find(netlink: &mut Netlink, which: Which) -> Result<(Vec<Flow>, bool), NetlinkError> {
    let mut flows = Vec::new();
    let (mark, mask) = which.filter();
    let steady = list(netlink, mark, mask, |message| {
        if which.has(mark_of(message)) {
            flows.extend(read_flow(message));
        }
    })?;
    Ok((flows, steady))
}

fn mark_of(message: &Message<'_>) -> u32 {
    let mark = message.attributes().find(|attribute| attribute.kind == abi::CTA_MARK);
    mark.and_then(|mark| mark.number()).unwrap_or(0)
}

/// How many flows bear which generation.
pub(crate) fn generations(netlink: &mut Netlink) -> Result<BTreeMap<Generation, usize>, NetlinkError> {
    for _ in 0..ROUNDS {
        let mut found = BTreeMap::new();
        let steady = list(netlink, 0, 0, |message| {
            let number = mark_of(message) >> mark::GENERATION.trailing_zeros();
            // Five bits.
            if let Some(generation) = Generation::new(number as u8) {
                *found.entry(generation).or_default() += 1;
            }
        })?;
        if steady {
            return Ok(found);
        }
    }
    Err(NetlinkError::Restless { attempts: ROUNDS })
}

/// How many flows the namespace has, unconfirmed ones too.
fn count(netlink: &mut Netlink) -> Result<Option<u32>, NetlinkError> {
    let mut count = None;
    netlink.ask(
        "count the flows",
        &Request {
            subsystem: abi::NFNL_SUBSYS_CTNETLINK,
            kind: abi::IPCTNL_MSG_CT_GET_STATS,
            flags: abi::NLM_F_ACK,
            family: abi::NFPROTO_UNSPEC,
            resource: 0,
            attributes: &[],
        },
        |message| {
            if message.kind & 0xff == abi::IPCTNL_MSG_CT_GET_STATS {
                let entries = message.attributes().find(|attribute| attribute.kind == abi::CTA_STATS_GLOBAL_ENTRIES);
                count = entries.and_then(|entries| entries.number());
            }
        },
    )?;
    Ok(count)
}

/// Dumps the flows whose mark, after `& mask`, is `mark`.
fn list(netlink: &mut Netlink, mark: u32, mask: u32, each: impl FnMut(&Message<'_>)) -> Result<bool, NetlinkError> {
    // For a dump the kernel looks into every bucket of the whole machine's table, some milliseconds long. A kernel that
    // cannot tell is asked for the dump.
    if let Ok(Some(0)) = count(netlink) {
        return Ok(true);
    }
    let filter: &[(u16, &[u8])] = &[(abi::CTA_MARK, &mark.to_be_bytes()), (abi::CTA_MARK_MASK, &mask.to_be_bytes())];
    netlink.ask(
        "list the flows",
        &Request {
            subsystem: abi::NFNL_SUBSYS_CTNETLINK,
            kind: abi::IPCTNL_MSG_CT_GET,
            flags: abi::NLM_F_DUMP,
            family: abi::NFPROTO_UNSPEC,
            resource: 0,
            attributes: if mask == 0 { &[] } else { filter },
        },
        each,
    )
}

fn read_flow(message: &Message<'_>) -> Option<Flow> {
    let name: Vec<_> = message
        .attributes()
        .filter(|attribute| {
            matches!(attribute.kind, abi::CTA_TUPLE_ORIG | abi::CTA_TUPLE_REPLY | abi::CTA_ID | abi::CTA_ZONE)
        })
        .map(|attribute| {
            let nested = matches!(attribute.kind, abi::CTA_TUPLE_ORIG | abi::CTA_TUPLE_REPLY);
            let flag = if nested { abi::NLA_F_NESTED } else { 0 };
            (attribute.kind | flag, attribute.value.to_vec())
        })
        .collect();
    Some(Flow { family: message.family()?, name })
}

/// Says how many of the flows there still were.
fn clear(netlink: &mut Netlink, flows: &[Flow]) -> Result<usize, NetlinkError> {
    let (nothing, passing) = (0_u32.to_be_bytes(), PASSING.to_be_bytes());
    let mut cleared = 0;
    for flows in flows.chunks(AT_ONCE) {
        let named: Vec<Vec<(u16, &[u8])>> = flows
            .iter()
            .map(|flow| {
                let mut attributes: Vec<(u16, &[u8])> =
                    flow.name.iter().map(|(kind, value)| (*kind, value.as_slice())).collect();
                // The kernel makes the mark `mark & !mask ^ new`: the bits under the mask go, the others stay.
                attributes.push((abi::CTA_MARK, &nothing));
                attributes.push((abi::CTA_MARK_MASK, &passing));
                attributes
            })
            .collect();
        let requests = flows.iter().zip(&named).map(|(flow, attributes)| Request {
            subsystem: abi::NFNL_SUBSYS_CTNETLINK,
            kind: abi::IPCTNL_MSG_CT_NEW,
            flags: 0,
            family: flow.family,
            resource: 0,
            attributes,
        });
        // A flow that ended meanwhile has nothing to lose.
        let ended = netlink.tell("clear the marks of flows", requests, libc::ENOENT)?;
        cleared += flows.len().saturating_sub(ended);
    }
    Ok(cleared)
}
