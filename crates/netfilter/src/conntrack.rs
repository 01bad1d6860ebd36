//! The generation that flows bear in the five highest bits of their conntrack mark.

use crate::abi;
use crate::error::NetlinkError;
use crate::netlink::{Netlink, Request};
use crate::wire::Message;
use sidewall_policy::ruleset::Generation;
use std::collections::BTreeMap;

/// Where the generation stands in the mark.
const SHIFT: u32 = 27;
/// The bits of the mark that are the generation.
const GENERATION: u32 = 0x1f << SHIFT;
/// The bits of the mark that hold for one generation only: its number and its verdicts (client passed, server passed,
/// denied). The names of the two ends stay, as they do when a ruleset meets an older generation: a flow that forgot its
/// ends could be taken over by another container. The twelve lowest bits are not ours.
const PASSING: u32 = GENERATION | 0x7000;
/// How often the flows are read before a generation counts as one that does not go away.
const ROUNDS: u32 = 20;

/// A flow, as far as the kernel must be told which one is meant.
struct Flow {
    family: u8,
    /// The attributes that name it: its tuples, its id and its zone.
    name: Vec<(u16, Vec<u8>)>,
}

/// Takes a generation's number and verdicts out of the mark of every flow that bears it.
pub(crate) fn retire(netlink: &mut Netlink, generation: Generation) -> Result<usize, NetlinkError> {
    let mark = u32::from(generation.get()) << SHIFT;
    let mut cleared = 0;
    for _ in 0..ROUNDS {
        let mut flows = Vec::new();
        let steady = list(netlink, mark, GENERATION, |message| {
            flows.extend(read_flow(message));
        })?;
        let none = flows.is_empty();
        for flow in flows {
            cleared += usize::from(clear(netlink, &flow)?);
        }
        if none && steady {
            return Ok(cleared);
        }
    }
    Err(NetlinkError::Restless { attempts: ROUNDS })
}

/// How many flows bear which generation.
pub(crate) fn generations(netlink: &mut Netlink) -> Result<BTreeMap<Generation, usize>, NetlinkError> {
    for _ in 0..ROUNDS {
        let mut found = BTreeMap::new();
        let steady = list(netlink, 0, 0, |message| {
            let mark = message.attributes().find(|a| a.kind == abi::CTA_MARK);
            let number = mark.and_then(|mark| mark.number()).unwrap_or(0) >> SHIFT;
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

/// Dumps the flows whose mark, after `& mask`, is `mark`.
fn list(netlink: &mut Netlink, mark: u32, mask: u32, each: impl FnMut(&Message<'_>)) -> Result<bool, NetlinkError> {
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

/// `false` where the flow ended meanwhile.
fn clear(netlink: &mut Netlink, flow: &Flow) -> Result<bool, NetlinkError> {
    let (nothing, passing) = (0_u32.to_be_bytes(), PASSING.to_be_bytes());
    let mut attributes: Vec<(u16, &[u8])> = flow.name.iter().map(|(kind, value)| (*kind, value.as_slice())).collect();
    // The kernel makes the mark `mark & !mask ^ new`: the bits under the mask go, the others stay.
    attributes.push((abi::CTA_MARK, &nothing));
    attributes.push((abi::CTA_MARK_MASK, &passing));
    let asked = netlink.ask(
        "clear the mark of a flow",
        &Request {
            subsystem: abi::NFNL_SUBSYS_CTNETLINK,
            kind: abi::IPCTNL_MSG_CT_NEW,
            flags: abi::NLM_F_ACK,
            family: flow.family,
            resource: 0,
            attributes: &attributes,
        },
        |_| {},
    );
    match asked {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
