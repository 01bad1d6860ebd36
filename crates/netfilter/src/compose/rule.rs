//! From a rule's statements to the kernel's expressions.

use super::{EncodeProblem, Names, compose_verdict, push_value};
use crate::abi;
use crate::image::{Data, Expression, RuleImage};
use sidewall_policy::ruleset::{ByteOrder, Compare, Family, Field, Kind, Rule, Set, Statement};
use std::net::Ipv4Addr;

/// The greatest length of a comment in bytes, without its NUL (`NFTNL_UDATA_COMMENT_MAXLEN` − 1).
const COMMENT_MAX: usize = 127;
/// How much of a packet NFLOG copies: IPv6 with some extension headers and the transport header.
const SNAPLEN: u32 = 256;
/// The 32-bit register that single values and the first part of a concatenation go to.
const FIRST: usize = 0;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;

/// What the elements of a set hold beside their keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Keys,
    Verdicts,
    Counters,
}

pub(super) fn compose_rule(rule: &Rule, family: Family, names: &Names<'_>) -> Result<RuleImage, EncodeProblem> {
    let mut body = Body { family, names, network: None, transport: None, expressions: Vec::new() };
    for statement in &rule.statements {
        body.statement(statement)?;
    }
    Ok(RuleImage {
        expressions: body.expressions,
        user_data: match &rule.comment {
            Some(comment) => comment_data(comment)?,
            None => Vec::new(),
        },
    })
}

/// nft's form of a comment: type, length, text and its NUL.
fn comment_data(comment: &str) -> Result<Vec<u8>, EncodeProblem> {
    let length = u8::try_from(comment.len() + 1)
        .ok()
        .filter(|length| usize::from(*length) <= COMMENT_MAX + 1 && !comment.contains('\0'))
        .ok_or(EncodeProblem::Comment(comment.len()))?;
    let mut data = vec![abi::NFTNL_UDATA_RULE_COMMENT, length];
    data.extend(comment.as_bytes());
    data.push(0);
    Ok(data)
}

/// The number by which the kernel itself calls the register that starts at a 32-bit register.
fn register(index: usize) -> u32 {
    // At most 15: a key has at most 64 bytes.
    let index = index as u32;
    if index.is_multiple_of(4) { abi::NFT_REG_1 + index / 4 } else { abi::NFT_REG32_00 + index }
}

struct Body<'a> {
    family: Family,
    names: &'a Names<'a>,
    /// The network protocol (`NFPROTO_*`) that the rule has made sure of.
    network: Option<u8>,
    /// The transport protocol that the rule has made sure of.
    transport: Option<u8>,
    expressions: Vec<Expression>,
}

impl<'a> Body<'a> {
    fn statement(&mut self, statement: &Statement) -> Result<(), EncodeProblem> {
        match statement {
            Statement::Match { field, mask, compare, value } => self.compare(*field, *mask, *compare, *value)?,
            Statement::Lookup { fields, mask, set, negate } => {
                let found = self.find(set, Holds::Keys)?;
                self.load_key(found, fields, *mask)?;
                let flags = if *negate { abi::NFT_LOOKUP_F_INV } else { 0 };
                self.push(
                    Expression::new("lookup")
                        .string(abi::NFTA_LOOKUP_SET, set)
                        .number(abi::NFTA_LOOKUP_SREG, register(FIRST))
                        .number(abi::NFTA_LOOKUP_FLAGS, flags),
                );
            }
            Statement::Dispatch { fields, mask, map } => {
                let found = self.find(map, Holds::Verdicts)?;
                self.load_key(found, fields, *mask)?;
                self.push(
                    Expression::new("lookup")
                        .string(abi::NFTA_LOOKUP_SET, map)
                        .number(abi::NFTA_LOOKUP_SREG, register(FIRST))
                        .number(abi::NFTA_LOOKUP_DREG, abi::NFT_REG_VERDICT)
                        .number(abi::NFTA_LOOKUP_FLAGS, 0),
                );
            }
            Statement::SetMark { keep, set } => {
                self.load(Field::CtMark, FIRST);
                // The kernel turns bits round; only bits that the mask has cleared are then set.
                let keep = keep & !set;
                self.bitwise(keep.to_ne_bytes().to_vec(), set.to_ne_bytes().to_vec());
                self.push(
                    Expression::new("ct")
                        .number(abi::NFTA_CT_KEY, abi::NFT_CT_MARK)
                        .number(abi::NFTA_CT_SREG, register(FIRST)),
                );
            }
            Statement::Count(name) => {
                if !self.names.counters.contains(name.as_str()) {
                    return Err(EncodeProblem::NoCounter(name.clone()));
                }
                self.push(
                    Expression::new("objref")
                        .number(abi::NFTA_OBJREF_IMM_TYPE, abi::NFT_OBJECT_COUNTER)
                        .string(abi::NFTA_OBJREF_IMM_NAME, name),
                );
            }
            Statement::CountBy { fields, map } => {
                let found = self.find(map, Holds::Counters)?;
                self.load_key(found, fields, None)?;
                self.push(
                    Expression::new("objref")
                        .number(abi::NFTA_OBJREF_SET_SREG, register(FIRST))
                        .string(abi::NFTA_OBJREF_SET_NAME, map),
                );
            }
            Statement::Limit { per_second, burst } => {
                if *per_second == 0 {
                    return Err(EncodeProblem::Rate);
                }
                self.push(
                    Expression::new("limit")
                        .bytes(abi::NFTA_LIMIT_RATE, u64::from(*per_second).to_be_bytes())
                        .bytes(abi::NFTA_LIMIT_UNIT, 1_u64.to_be_bytes())
                        // The kernel would read 0 as its own default of five.
                        .number(abi::NFTA_LIMIT_BURST, (*burst).max(1))
                        .number(abi::NFTA_LIMIT_TYPE, 0)
                        .number(abi::NFTA_LIMIT_FLAGS, 0),
                );
            }
            Statement::Log(decision) => self.push(
                Expression::new("log")
                    .bytes(abi::NFTA_LOG_GROUP, Statement::LOG_GROUP.to_be_bytes())
                    .string(abi::NFTA_LOG_PREFIX, &decision.to_string())
                    .number(abi::NFTA_LOG_SNAPLEN, SNAPLEN),
            ),
            Statement::FindListener4 => self.find_listener(Field::Ipv4Destination, abi::NFPROTO_IPV4),
            Statement::FindListener6 => self.find_listener(Field::Ipv6Destination, abi::NFPROTO_IPV6),
            Statement::Redirect { port } => self.redirect(*port),
            Statement::LeadTo { address } => self.translate(abi::NFT_NAT_DNAT, *address),
            Statement::SpeakAs { address } => self.translate(abi::NFT_NAT_SNAT, *address),
            Statement::ClampSegments => self.clamp_segments(),
            Statement::RejectTcpReset => {
                self.push(Expression::new("reject").number(abi::NFTA_REJECT_TYPE, abi::NFT_REJECT_TCP_RST))
            }
            Statement::RejectProhibited => self.push(
                Expression::new("reject")
                    .number(abi::NFTA_REJECT_TYPE, abi::NFT_REJECT_ICMPX_UNREACH)
                    .bytes(abi::NFTA_REJECT_ICMP_CODE, [abi::NFT_REJECT_ICMPX_ADMIN_PROHIBITED]),
            ),
            Statement::Verdict(verdict) => {
                let verdict = compose_verdict(verdict, self.names)?;
                self.push(
                    Expression::new("immediate")
                        .number(abi::NFTA_IMMEDIATE_DREG, abi::NFT_REG_VERDICT)
                        .data(abi::NFTA_IMMEDIATE_DATA, verdict),
                );
            }
        }
        Ok(())
    }

    fn compare(&mut self, field: Field, mask: Option<u32>, compare: Compare, value: u128) -> Result<(), EncodeProblem> {
        let kind = field.kind();
        self.require(field);
        self.load(field, FIRST);
        self.mask(kind, mask)?;
        let (operator, ranked) = match compare {
            Compare::Equal => (abi::NFT_CMP_EQ, false),
            Compare::NotEqual => (abi::NFT_CMP_NEQ, false),
            Compare::AtMost => (abi::NFT_CMP_LTE, true),
            Compare::AtLeast => (abi::NFT_CMP_GTE, true),
        };
        // The kernel compares bytes in their order; more and less make sense in network order only.
        let order = if ranked {
            self.turn_to_network_order(kind);
            ByteOrder::Network
        } else {
            kind.order()
        };
        let mut bytes = Vec::with_capacity(kind.width());
        push_value(&mut bytes, value, kind.width(), order)?;
        self.push(
            Expression::new("cmp")
                .number(abi::NFTA_CMP_SREG, register(FIRST))
                .number(abi::NFTA_CMP_OP, operator)
                .data(abi::NFTA_CMP_DATA, Data::Value(bytes)),
        );
        if compare == Compare::Equal && mask.is_none() {
            match (field, u8::try_from(value)) {
                (Field::NfProtocol, Ok(value)) if self.family == Family::Inet => {
                    self.network = Some(value);
                }
                (Field::Protocol, Ok(value)) => self.transport = Some(value),
                (Field::EtherType, _) if value == u128::from(abi::ETH_P_IP) => {
                    self.network = Some(abi::NFPROTO_IPV4);
                }
                (Field::EtherType, _) if value == u128::from(abi::ETH_P_IPV6) => {
                    self.network = Some(abi::NFPROTO_IPV6);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// To the packet's own destination: without an address the kernel would take the incoming device's first one.
    fn find_listener(&mut self, destination: Field, protocol: u8) {
        self.require(destination);
        self.load(destination, FIRST);
        self.push(
            Expression::new("tproxy")
                .number(abi::NFTA_TPROXY_FAMILY, protocol.into())
                .number(abi::NFTA_TPROXY_REG_ADDR, register(FIRST)),
        );
    }

    /// The kernel tells all three attributes, so that it is given all three.
    fn redirect(&mut self, port: u16) {
        self.push(
            Expression::new("immediate")
                .number(abi::NFTA_IMMEDIATE_DREG, register(FIRST))
                .data(abi::NFTA_IMMEDIATE_DATA, Data::Value(port.to_be_bytes().to_vec())),
        );
        self.push(
            Expression::new("redir")
                .number(abi::NFTA_REDIR_REG_PROTO_MIN, register(FIRST))
                .number(abi::NFTA_REDIR_REG_PROTO_MAX, register(FIRST))
                .number(abi::NFTA_REDIR_FLAGS, abi::NF_NAT_RANGE_PROTO_SPECIFIED),
        );
    }

    /// Gives a connection another IPv4 address, at one of its ends. In a table of both families the kernel leaves packets of
    /// IPv6 alone.
    fn translate(&mut self, end: u32, address: Ipv4Addr) {
        self.push(
            Expression::new("immediate")
                .number(abi::NFTA_IMMEDIATE_DREG, register(FIRST))
                .data(abi::NFTA_IMMEDIATE_DATA, Data::Value(address.octets().to_vec())),
        );
        self.push(
            Expression::new("nat")
                .number(abi::NFTA_NAT_TYPE, end)
                .number(abi::NFTA_NAT_FAMILY, abi::NFPROTO_IPV4.into())
                .number(abi::NFTA_NAT_REG_ADDR_MIN, register(FIRST))
                .number(abi::NFTA_NAT_REG_ADDR_MAX, register(FIRST))
                .number(abi::NFTA_NAT_FLAGS, abi::NF_NAT_RANGE_MAP_IPS),
        );
    }

    /// What the route carries, into the option; the kernel only ever lessens it.
    fn clamp_segments(&mut self) {
        self.push(
            Expression::new("rt")
                .number(abi::NFTA_RT_DREG, register(FIRST))
                .number(abi::NFTA_RT_KEY, abi::NFT_RT_TCPMSS),
        );
        self.turn(2);
        self.push(
            Expression::new("exthdr")
                .bytes(abi::NFTA_EXTHDR_TYPE, [abi::TCPOPT_MAXSEG])
                .number(abi::NFTA_EXTHDR_OFFSET, 2)
                .number(abi::NFTA_EXTHDR_LEN, 2)
                .number(abi::NFTA_EXTHDR_OP, abi::NFT_EXTHDR_OP_TCPOPT)
                .number(abi::NFTA_EXTHDR_SREG, register(FIRST)),
        );
    }

    fn find(&self, name: &str, holds: Holds) -> Result<&'a Set, EncodeProblem> {
        let names: &'a Names<'a> = self.names;
        let wanted = (holds == Holds::Verdicts, holds == Holds::Counters);
        names
            .sets
            .get(name)
            .copied()
            .filter(|set| (set.map, set.counts) == wanted)
            .ok_or_else(|| EncodeProblem::NoSet(name.to_owned()))
    }

    /// Loads the fields of a look-up into consecutive registers, as the set's key has them.
    fn load_key(&mut self, set: &Set, fields: &[Field], mask: Option<u32>) -> Result<(), EncodeProblem> {
        if !fields.iter().map(|field| field.kind()).eq(set.key.iter().copied()) {
            return Err(EncodeProblem::Fields(set.name.clone()));
        }
        if mask.is_some() && fields.len() != 1 {
            return Err(EncodeProblem::Mask);
        }
        for field in fields {
            self.require(*field);
        }
        let mut index = FIRST;
        for field in fields {
            self.load(*field, index);
            index += field.kind().width().div_ceil(4);
        }
        if let [field] = fields {
            self.mask(field.kind(), mask)?;
            if set.interval {
                self.turn_to_network_order(field.kind());
            }
        }
        Ok(())
    }

    /// Ends the rule for packets that do not have the header a field is read from. The kernel reads at an offset,
    /// whatever stands there.
    fn require(&mut self, field: Field) {
        let (network, transport) = match field {
            Field::Ipv4Source | Field::Ipv4Destination | Field::LooseSourceRoute | Field::StrictSourceRoute => {
                (Some(abi::NFPROTO_IPV4), None)
            }
            Field::Ipv6Source
            | Field::Ipv6Destination
            | Field::Ipv6NextHeader
            | Field::HopLimit
            | Field::RoutingHeader => (Some(abi::NFPROTO_IPV6), None),
            Field::IcmpType => (Some(abi::NFPROTO_IPV4), Some(ICMP)),
            Field::Icmpv6Type => (Some(abi::NFPROTO_IPV6), Some(ICMPV6)),
            Field::TcpFlags | Field::TcpDataOffset => (None, Some(TCP)),
            _ => (None, None),
        };
        if network.is_some() && self.network != network {
            let ether = if network == Some(abi::NFPROTO_IPV4) { abi::ETH_P_IP } else { abi::ETH_P_IPV6 };
            match (self.family, network) {
                // Every packet of a netdev table is of family netdev: the frame tells the protocol.
                (Family::Netdev, _) => self.guard(Field::EtherType, ether.to_be_bytes().to_vec()),
                (Family::Inet, Some(protocol)) => self.guard(Field::NfProtocol, vec![protocol]),
                (Family::Inet, None) => {}
            }
            self.network = network;
        }
        if let Some(protocol) = transport
            && self.transport != transport
        {
            self.guard(Field::Protocol, vec![protocol]);
            self.transport = transport;
        }
    }

    fn guard(&mut self, field: Field, value: Vec<u8>) {
        self.load(field, FIRST);
        self.push(
            Expression::new("cmp")
                .number(abi::NFTA_CMP_SREG, register(FIRST))
                .number(abi::NFTA_CMP_OP, abi::NFT_CMP_EQ)
                .data(abi::NFTA_CMP_DATA, Data::Value(value)),
        );
    }

    fn mask(&mut self, kind: Kind, mask: Option<u32>) -> Result<(), EncodeProblem> {
        if let Some(mask) = mask {
            let mut bytes = Vec::with_capacity(kind.width());
            push_value(&mut bytes, mask.into(), kind.width(), kind.order())?;
            let zeros = vec![0; bytes.len()];
            self.bitwise(bytes, zeros);
        }
        Ok(())
    }

    /// `(value & mask) ^ xor`, which is `| xor` where the two share no bit.
    fn bitwise(&mut self, mask: Vec<u8>, xor: Vec<u8>) {
        // At most 16.
        let length = mask.len() as u32;
        self.push(
            Expression::new("bitwise")
                .number(abi::NFTA_BITWISE_SREG, register(FIRST))
                .number(abi::NFTA_BITWISE_DREG, register(FIRST))
                .number(abi::NFTA_BITWISE_LEN, length)
                .data(abi::NFTA_BITWISE_MASK, Data::Value(mask))
                .data(abi::NFTA_BITWISE_XOR, Data::Value(xor)),
        );
    }

    fn turn_to_network_order(&mut self, kind: Kind) {
        if kind.order() == ByteOrder::Host && kind.width() > 1 {
            // 2, 4 or 8.
            self.turn(kind.width() as u32);
        }
    }

    fn turn(&mut self, width: u32) {
        self.push(
            Expression::new("byteorder")
                .number(abi::NFTA_BYTEORDER_SREG, register(FIRST))
                .number(abi::NFTA_BYTEORDER_DREG, register(FIRST))
                .number(abi::NFTA_BYTEORDER_OP, abi::NFT_BYTEORDER_HTON)
                .number(abi::NFTA_BYTEORDER_LEN, width)
                .number(abi::NFTA_BYTEORDER_SIZE, width),
        );
    }

    fn load(&mut self, field: Field, index: usize) {
        let target = register(index);
        let meta = |key| Expression::new("meta").number(abi::NFTA_META_DREG, target).number(abi::NFTA_META_KEY, key);
        let ct = |key| Expression::new("ct").number(abi::NFTA_CT_DREG, target).number(abi::NFTA_CT_KEY, key);
        let original = |key| ct(key).bytes(abi::NFTA_CT_DIRECTION, [abi::IP_CT_DIR_ORIGINAL]);
        let payload = |base, offset| {
            Expression::new("payload")
                .number(abi::NFTA_PAYLOAD_DREG, target)
                .number(abi::NFTA_PAYLOAD_BASE, base)
                .number(abi::NFTA_PAYLOAD_OFFSET, offset)
                .number(abi::NFTA_PAYLOAD_LEN, field.kind().width() as u32)
        };
        let network = |offset| payload(abi::NFT_PAYLOAD_NETWORK_HEADER, offset);
        let transport = |offset| payload(abi::NFT_PAYLOAD_TRANSPORT_HEADER, offset);
        let present = |operation, kind: u8| {
            Expression::new("exthdr")
                .number(abi::NFTA_EXTHDR_DREG, target)
                .bytes(abi::NFTA_EXTHDR_TYPE, [kind])
                .number(abi::NFTA_EXTHDR_OFFSET, 0)
                .number(abi::NFTA_EXTHDR_LEN, 1)
                .number(abi::NFTA_EXTHDR_FLAGS, abi::NFT_EXTHDR_F_PRESENT)
                .number(abi::NFTA_EXTHDR_OP, operation)
        };
        let socket =
            |key| Expression::new("socket").number(abi::NFTA_SOCKET_KEY, key).number(abi::NFTA_SOCKET_DREG, target);
        let fib = |flags| {
            Expression::new("fib")
                .number(abi::NFTA_FIB_DREG, target)
                .number(abi::NFTA_FIB_RESULT, abi::NFT_FIB_RESULT_ADDRTYPE)
                .number(abi::NFTA_FIB_FLAGS, flags)
        };
        let expression = match field {
            Field::NfProtocol => meta(abi::NFT_META_NFPROTO),
            Field::Protocol => meta(abi::NFT_META_L4PROTO),
            Field::InputDevice => meta(abi::NFT_META_IIF),
            Field::OutputDevice => meta(abi::NFT_META_OIF),
            Field::InputDeviceName => meta(abi::NFT_META_IIFNAME),
            Field::OutputDeviceName => meta(abi::NFT_META_OIFNAME),
            Field::Length => meta(abi::NFT_META_LEN),
            Field::PacketType => meta(abi::NFT_META_PKTTYPE),
            Field::EtherType => meta(abi::NFT_META_PROTOCOL),
            Field::RouteClass => meta(abi::NFT_META_RTCLASSID),
            Field::SocketUid => meta(abi::NFT_META_SKUID),
            Field::SocketGid => meta(abi::NFT_META_SKGID),
            Field::SocketCgroup { level } => {
                socket(abi::NFT_SOCKET_CGROUPV2).number(abi::NFTA_SOCKET_LEVEL, level.into())
            }
            Field::SocketWildcard => socket(abi::NFT_SOCKET_WILDCARD),
            Field::SocketTransparent => socket(abi::NFT_SOCKET_TRANSPARENT),
            Field::CtState => ct(abi::NFT_CT_STATE),
            Field::CtDirection => ct(abi::NFT_CT_DIRECTION),
            Field::CtMark => ct(abi::NFT_CT_MARK),
            Field::CtOriginalSource4 => original(abi::NFT_CT_SRC_IP),
            Field::CtOriginalSource6 => original(abi::NFT_CT_SRC_IP6),
            Field::CtOriginalDestination4 => original(abi::NFT_CT_DST_IP),
            Field::CtOriginalDestination6 => original(abi::NFT_CT_DST_IP6),
            Field::CtOriginalDestinationPort => original(abi::NFT_CT_PROTO_DST),
            Field::FibSourceType => fib(abi::NFTA_FIB_F_SADDR),
            Field::FibDestinationType => fib(abi::NFTA_FIB_F_DADDR),
            Field::FibSourceTypeOut => fib(abi::NFTA_FIB_F_SADDR | abi::NFTA_FIB_F_OIF),
            Field::FibDestinationTypeIn => fib(abi::NFTA_FIB_F_DADDR | abi::NFTA_FIB_F_IIF),
            Field::NetworkHeaderStart => network(0),
            Field::Ipv4Source => network(12),
            Field::Ipv4Destination => network(16),
            Field::Ipv6Source => network(8),
            Field::Ipv6Destination => network(24),
            Field::Ipv6NextHeader => network(6),
            Field::HopLimit => network(7),
            Field::IcmpType | Field::Icmpv6Type => transport(0),
            Field::SourcePort => transport(0),
            Field::DestinationPort => transport(2),
            Field::TcpFlags => transport(13),
            Field::TcpDataOffset => transport(12),
            Field::LooseSourceRoute => present(abi::NFT_EXTHDR_OP_IPV4, abi::IPOPT_LSRR),
            Field::StrictSourceRoute => present(abi::NFT_EXTHDR_OP_IPV4, abi::IPOPT_SSRR),
            Field::RoutingHeader => present(abi::NFT_EXTHDR_OP_IPV6, abi::IPPROTO_ROUTING),
        };
        self.push(expression);
    }

    fn push(&mut self, expression: Expression) {
        self.expressions.push(expression);
    }
}
