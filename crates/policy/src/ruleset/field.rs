//! What a rule can look at.

/// The byte order in which the kernel holds a field's value in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// The machine's own.
    Host,
    /// Big endian.
    Network,
}

/// The kind of a value, as a set's key has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A conntrack mark.
    Mark,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A transport protocol's number.
    Protocol,
    /// A transport port.
    Port,
    /// A user.
    Uid,
    /// A group.
    Gid,
    /// A cgroup v2's id: its directory's inode.
    Cgroup,
    /// An ICMP type.
    IcmpType,
    /// An ICMPv6 type.
    Icmpv6Type,
    /// A packet type: for this host, broadcast, multicast, …
    PacketType,
    /// The type of an address, as the routing tables tell it.
    FibType,
    /// A device's name: its bytes from the highest on, the rest zero; see [`device_name`].
    DeviceName,
    /// A single byte of another meaning.
    Byte,
    /// A 16-bit number in network order.
    Short,
    /// A 32-bit number in host order.
    Number,
}

impl Kind {
    /// How many bytes a value has.
    pub const fn width(self) -> usize {
        match self {
            Self::Protocol | Self::IcmpType | Self::Icmpv6Type | Self::PacketType | Self::Byte => 1,
            Self::Port | Self::Short => 2,
            Self::Mark | Self::Ipv4 | Self::Uid | Self::Gid | Self::FibType | Self::Number => 4,
            Self::Cgroup => 8,
            Self::Ipv6 | Self::DeviceName => 16,
        }
    }

    /// How the kernel holds it.
    pub const fn order(self) -> ByteOrder {
        match self {
            Self::Ipv4 | Self::Ipv6 | Self::Port | Self::Short | Self::DeviceName => ByteOrder::Network,
            _ => ByteOrder::Host,
        }
    }
}

/// A device's name as a value of [`Kind::DeviceName`]. The kernel's names have at most 15 bytes; what is longer is cut.
pub fn device_name(name: &str) -> u128 {
    const MOST: usize = 15;
    let mut bytes = [0; 16];
    for (byte, letter) in bytes.iter_mut().zip(name.bytes().take(MOST)) {
        *byte = letter;
    }
    u128::from_be_bytes(bytes)
}

/// What a statement loads from a packet, its socket or its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `meta nfproto`: 2 for IPv4, 10 for IPv6.
    NfProtocol,
    /// `meta l4proto`.
    Protocol,
    /// `meta iif`, the index of the device it came from; 1 is `lo` in every namespace.
    InputDevice,
    /// `meta oif`, the index of the device it leaves by.
    OutputDevice,
    /// `meta iifname`, the name of the device it came from; empty where there is none.
    InputDeviceName,
    /// `meta oifname`, the name of the device it leaves by; empty where there is none.
    OutputDeviceName,
    /// `meta length`, the packet's length in bytes from the IP header on.
    Length,
    /// `meta pkttype`.
    PacketType,
    /// `meta protocol`, the EtherType, in network order.
    EtherType,
    /// `meta rtclassid`: absent from a packet without a route.
    RouteClass,
    /// `meta skuid` of the sending socket.
    SocketUid,
    /// `meta skgid` of the sending socket.
    SocketGid,
    /// `socket cgroupv2 level`: the id of the socket's cgroup at that depth.
    SocketCgroup {
        /// The depth below the root of the hierarchy; its children have 1.
        level: u8,
    },
    /// `socket wildcard`: 0 or 1 for a full socket, absent from others.
    SocketWildcard,
    /// `socket transparent`: 0 or 1 for a full, TIME_WAIT or request socket, absent where there is none.
    SocketTransparent,
    /// `ct state`, bits of [`Field::CT_NEW`] and its like.
    CtState,
    /// `ct direction`: 0 original, 1 reply.
    CtDirection,
    /// `ct mark`.
    CtMark,
    /// `ct original ip saddr`: who opened the flow.
    CtOriginalSource4,
    /// `ct original ip6 saddr`.
    CtOriginalSource6,
    /// `ct original ip daddr`: whom the flow was meant for.
    CtOriginalDestination4,
    /// `ct original ip6 daddr`.
    CtOriginalDestination6,
    /// `ct original proto-dst`: the port that the flow was opened to, in packets of both directions.
    CtOriginalDestinationPort,
    /// `fib saddr type`.
    FibSourceType,
    /// `fib daddr type`.
    FibDestinationType,
    /// `fib saddr . oif type`: the type that the source has on the device that it leaves by. Only at OUTPUT.
    FibSourceTypeOut,
    /// `fib daddr . iif type`: the type that the destination has on the device that it came from. Only at INPUT and
    /// before.
    FibDestinationTypeIn,
    /// The first byte of the network header: version and, for IPv4, the header's length in words.
    NetworkHeaderStart,
    /// `ip saddr`.
    Ipv4Source,
    /// `ip daddr`.
    Ipv4Destination,
    /// `ip6 saddr`.
    Ipv6Source,
    /// `ip6 daddr`.
    Ipv6Destination,
    /// `ip6 nexthdr`: the first header after the fixed one.
    Ipv6NextHeader,
    /// `ip6 hoplimit`.
    HopLimit,
    /// `icmp type`.
    IcmpType,
    /// `icmpv6 type`.
    Icmpv6Type,
    /// `th sport`.
    SourcePort,
    /// `th dport`.
    DestinationPort,
    /// `tcp flags`.
    TcpFlags,
    /// The byte of the TCP header whose upper half is its length in words (RFC 9293 §3.1).
    TcpDataOffset,
    /// 1 where the IPv4 packet has the loose source route option (RFC 791), else 0.
    LooseSourceRoute,
    /// 1 where the IPv4 packet has the strict source route option (RFC 791), else 0.
    StrictSourceRoute,
    /// 1 where the IPv6 packet has a routing header (RFC 8200), else 0.
    RoutingHeader,
}

impl Field {
    /// `ct state invalid`.
    pub const CT_INVALID: u32 = 1;
    /// `ct state established`.
    pub const CT_ESTABLISHED: u32 = 2;
    /// `ct state related`.
    pub const CT_RELATED: u32 = 4;
    /// `ct state new`.
    pub const CT_NEW: u32 = 8;
    /// `ct state untracked`.
    pub const CT_UNTRACKED: u32 = 64;

    /// The kind of its value.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Protocol | Self::Ipv6NextHeader => Kind::Protocol,
            Self::PacketType => Kind::PacketType,
            Self::EtherType => Kind::Short,
            Self::SocketUid => Kind::Uid,
            Self::SocketGid => Kind::Gid,
            Self::SocketCgroup { .. } => Kind::Cgroup,
            Self::CtMark => Kind::Mark,
            Self::CtOriginalSource4 | Self::CtOriginalDestination4 | Self::Ipv4Source | Self::Ipv4Destination => {
                Kind::Ipv4
            }
            Self::CtOriginalSource6 | Self::CtOriginalDestination6 | Self::Ipv6Source | Self::Ipv6Destination => {
                Kind::Ipv6
            }
            Self::FibSourceType | Self::FibDestinationType | Self::FibSourceTypeOut | Self::FibDestinationTypeIn => {
                Kind::FibType
            }
            Self::InputDeviceName | Self::OutputDeviceName => Kind::DeviceName,
            Self::IcmpType => Kind::IcmpType,
            Self::Icmpv6Type => Kind::Icmpv6Type,
            Self::SourcePort | Self::DestinationPort | Self::CtOriginalDestinationPort => Kind::Port,
            Self::InputDevice | Self::OutputDevice | Self::Length | Self::RouteClass | Self::CtState => Kind::Number,
            Self::NfProtocol
            | Self::SocketWildcard
            | Self::SocketTransparent
            | Self::CtDirection
            | Self::NetworkHeaderStart
            | Self::HopLimit
            | Self::TcpFlags
            | Self::TcpDataOffset
            | Self::LooseSourceRoute
            | Self::StrictSourceRoute
            | Self::RoutingHeader => Kind::Byte,
        }
    }
}
