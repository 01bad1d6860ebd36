//! What this kernel can do, found out by trying.

use crate::error::{LoadError, NetlinkError};
use crate::kernel::{Kernel, LoadOptions};
use sidewall_flow::{Decision, Place as Judged};
use sidewall_netns::NetNs;
use sidewall_policy::ruleset::{
    Chain, Compare, Family, Field, Generation, Hook, HookPoint, Rule, Ruleset, Statement, Table,
};
use std::fmt;

/// What this kernel can do of what rulesets may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Features {
    /// Tables of family inet with filter chains, and conntrack's fields in them. Without it there are no walls.
    pub inet: bool,
    /// The mark of connections (`CONFIG_NF_CONNTRACK_MARK`). Without it there are no walls either.
    pub ct_mark: bool,
    /// `socket cgroupv2` (kernel 5.13, `CONFIG_NFT_SOCKET`): identity by cgroup.
    pub socket_cgroup: bool,
    /// Tables that stay when their owner goes, and that nobody else may change while it lives (kernel 6.9).
    pub owner_persist: bool,
    /// The egress hook of devices (kernel 5.16, `CONFIG_NETFILTER_EGRESS`).
    pub device_egress: bool,
    /// NFLOG (`CONFIG_NFT_LOG`, `CONFIG_NETFILTER_NETLINK_LOG`).
    pub log: bool,
    /// `tproxy` (kernel 4.19, `CONFIG_NFT_TPROXY`): a SYN onto TIME_WAIT finds its listener before it is judged.
    pub find_listener: bool,
    /// Chains of type `nat` in tables of family inet, and `redir` in them (kernel 5.2, `CONFIG_NFT_REDIR`): traffic that a
    /// front proxy captures.
    pub redirect: bool,
    /// Addresses changed at every hook (`nat` of family inet, kernel 5.2, `CONFIG_NFT_NAT`), `rt` and TCP options written
    /// (`CONFIG_NFT_EXTHDR`): a split pod's link.
    pub link: bool,
    /// TCP resets and ICMP errors (`CONFIG_NFT_REJECT_INET`).
    pub reject: bool,
    /// `fib … type` (`CONFIG_NFT_FIB_INET`).
    pub fib: bool,
    /// IPv4 options and IPv6 extension headers (`CONFIG_NFT_EXTHDR`; IPv4 since kernel 5.3).
    pub headers: bool,
}

impl Features {
    /// Everything, as a kernel of today has it.
    pub const ALL: Self = Self {
        inet: true,
        ct_mark: true,
        socket_cgroup: true,
        owner_persist: true,
        device_egress: true,
        log: true,
        find_listener: true,
        redirect: true,
        link: true,
        reject: true,
        fib: true,
        headers: true,
    };

    /// Tries each feature in a network namespace made for it, which is gone afterwards.
    ///
    /// # Errors
    /// [`NetlinkError`] where nothing can be tried at all: no privilege, no netfilter.
    pub fn probe() -> Result<Self, NetlinkError> {
        let namespace = NetNs::new()?;
        let mut kernel = Kernel::open(&namespace)?;
        let plain = LoadOptions::default();
        let owned = LoadOptions { owner: true };
        let statement = |statement| inet(vec![statement]);
        Ok(Self {
            inet: holds(&mut kernel, &statement(exists(Field::CtState)), plain)?,
            ct_mark: holds(
                &mut kernel,
                &inet(vec![exists(Field::CtMark), Statement::SetMark { keep: !1, set: 1 }]),
                plain,
            )?,
            socket_cgroup: holds(&mut kernel, &statement(exists(Field::SocketCgroup { level: 1 })), plain)?,
            device_egress: holds(&mut kernel, &device_egress(), plain)?,
            log: holds(&mut kernel, &statement(Statement::Log(Decision::denied(Judged::Forged))), plain)?,
            find_listener: holds(&mut kernel, &find_listener(), plain)?,
            redirect: holds(&mut kernel, &redirect(), plain)?,
            link: holds(&mut kernel, &link(), plain)?,
            reject: holds(&mut kernel, &statement(Statement::RejectTcpReset), plain)?
                && holds(&mut kernel, &statement(Statement::RejectProhibited), plain)?,
            fib: holds(&mut kernel, &statement(exists(Field::FibSourceType)), plain)?,
            headers: holds(
                &mut kernel,
                &inet(vec![exists(Field::LooseSourceRoute), exists(Field::RoutingHeader)]),
                plain,
            )?,
            owner_persist: holds(&mut kernel, &inet(Vec::new()), owned)?,
        })
    }

    /// What is both here and in `mask`: a lesser kernel, for tests and for turning a feature off.
    #[must_use]
    pub const fn masked(self, mask: Self) -> Self {
        Self {
            inet: self.inet && mask.inet,
            ct_mark: self.ct_mark && mask.ct_mark,
            socket_cgroup: self.socket_cgroup && mask.socket_cgroup,
            owner_persist: self.owner_persist && mask.owner_persist,
            device_egress: self.device_egress && mask.device_egress,
            log: self.log && mask.log,
            find_listener: self.find_listener && mask.find_listener,
            redirect: self.redirect && mask.redirect,
            link: self.link && mask.link,
            reject: self.reject && mask.reject,
            fib: self.fib && mask.fib,
            headers: self.headers && mask.headers,
        }
    }

    /// How rulesets are loaded here: with an owner, where the kernel has owners that tables outlive.
    pub const fn options(self) -> LoadOptions {
        LoadOptions { owner: self.owner_persist }
    }

    fn named(self) -> [(&'static str, bool); 12] {
        [
            ("inet", self.inet),
            ("ct-mark", self.ct_mark),
            ("socket-cgroup", self.socket_cgroup),
            ("owner-persist", self.owner_persist),
            ("device-egress", self.device_egress),
            ("log", self.log),
            ("find-listener", self.find_listener),
            ("redirect", self.redirect),
            ("link", self.link),
            ("reject", self.reject),
            ("fib", self.fib),
            ("headers", self.headers),
        ]
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, there)) in self.named().into_iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            let sign = if there { '+' } else { '-' };
            write!(f, "{space}{sign}{name}")?;
        }
        Ok(())
    }
}

/// Whether the kernel takes a ruleset. It is not left there.
fn holds(kernel: &mut Kernel, ruleset: &Ruleset, options: LoadOptions) -> Result<bool, NetlinkError> {
    match kernel.load(ruleset, options) {
        Ok(_) => {
            if let Err(LoadError::Netlink(error)) = kernel.unload() {
                return Err(error);
            }
            Ok(true)
        }
        Err(LoadError::Netlink(error)) => Err(error),
        Err(_) => Ok(false),
    }
}

fn exists(field: Field) -> Statement {
    Statement::Match { field, mask: None, compare: Compare::Equal, value: 1 }
}

fn ruleset(family: Family, point: HookPoint, statements: Vec<Statement>) -> Ruleset {
    Ruleset {
        generation: Generation::FIRST,
        tables: vec![Table {
            family,
            counters: Vec::new(),
            sets: Vec::new(),
            chains: vec![Chain {
                name: "probe".to_owned(),
                hook: Some(Hook { point, priority: 0, accept: true }),
                rules: vec![Rule { statements, comment: None }],
            }],
        }],
    }
}

fn inet(statements: Vec<Statement>) -> Ruleset {
    ruleset(Family::Inet, HookPoint::Output, statements)
}

fn find_listener() -> Ruleset {
    let mut ruleset = ruleset(Family::Inet, HookPoint::Prerouting, vec![Statement::FindListener4]);
    let six = Rule { statements: vec![Statement::FindListener6], comment: None };
    ruleset.tables[0].chains[0].rules.push(six);
    ruleset
}

fn redirect() -> Ruleset {
    let tcp = Statement::Match { field: Field::Protocol, mask: None, compare: Compare::Equal, value: 6 };
    ruleset(Family::Inet, HookPoint::PreroutingNat, vec![tcp, Statement::Redirect { port: 1 }])
}

fn link() -> Ruleset {
    let tcp = Statement::Match { field: Field::Protocol, mask: None, compare: Compare::Equal, value: 6 };
    let address = std::net::Ipv4Addr::LOCALHOST;
    let mut all = ruleset(Family::Inet, HookPoint::Output, vec![tcp, Statement::ClampSegments]);
    for (name, point, statement) in [
        ("leads", HookPoint::OutputNat, Statement::LeadTo { address }),
        ("carried", HookPoint::PreroutingNat, Statement::LeadTo { address }),
        ("speaks", HookPoint::PostroutingNat, Statement::SpeakAs { address }),
        ("heard", HookPoint::InputNat, Statement::SpeakAs { address }),
    ] {
        all.tables[0].chains.push(Chain {
            name: name.to_owned(),
            hook: Some(Hook { point, priority: 100, accept: true }),
            rules: vec![Rule { statements: vec![statement], comment: None }],
        });
    }
    all
}

/// Every namespace has a device `lo`.
fn device_egress() -> Ruleset {
    ruleset(Family::Netdev, HookPoint::DeviceEgress("lo".to_owned()), Vec::new())
}
