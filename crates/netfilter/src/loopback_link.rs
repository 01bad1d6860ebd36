//! Loopback by a link's device (`route_localnet`): opened behind the rules that guard it, and never before them.
//!
//! The setting lets packets to 127.0.0.0/8 in by the device, from whoever is on its segment. What lets only those through
//! that the rules led there is a drop before connection tracking. So there is one place where the setting is made, and it
//! looks first whether that drop stands in the kernel.

use crate::drift::Standing;
use crate::error::{LoadError, NetlinkError};
use crate::kernel::Kernel;
use sidewall_netns::{NetNs, sysctl};
use sidewall_policy::ruleset::{Chain, Compare, Family, Field, HookPoint, Rule, Ruleset, Statement, Verdict};

/// `NF_IP_PRI_RAW`: before connection tracking.
const RAW: i32 = -300;
/// 127.0.0.0/8.
const LOOPBACK: (u32, u128) = (0xff00_0000, 0x7f00_0000);

/// Why loopback could not be opened to a link's device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoopbackError {
    /// The ruleset does not drop what others send to loopback.
    #[error("the rules do not drop what comes to 127.0.0.0/8 by {device}: it stays closed there; please report this")]
    Unguarded {
        /// The device.
        device: String,
    },
    /// The tables are not what was loaded.
    #[error(
        "the tables in the pod's namespace are not what was loaded: 127.0.0.0/8 stays closed by {device} until they are"
    )]
    NotStanding {
        /// The device.
        device: String,
    },
    /// The tables can't be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The namespace can't be asked.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The setting can't be read or written.
    #[error(transparent)]
    Setting(#[from] sidewall_netns::Error),
}

/// A link's device by which loopback is open.
#[derive(Debug)]
pub struct LoopbackLink {
    namespace: NetNs,
    key: String,
    device: String,
}

impl LoopbackLink {
    /// Opens loopback to a device, behind a ruleset that stands in its namespace.
    ///
    /// # Errors
    /// [`LoopbackError`]; nothing is opened then.
    pub fn open(kernel: &mut Kernel, namespace: &NetNs, device: &str, rules: &Ruleset) -> Result<Self, LoopbackError> {
        // With slashes: a device's name may have a dot.
        let key = format!("net/ipv4/conf/{device}/route_localnet");
        let link = Self { namespace: namespace.clone(), key, device: device.to_owned() };
        link.set(kernel, rules)?;
        Ok(link)
    }

    fn set(&self, kernel: &mut Kernel, rules: &Ruleset) -> Result<(), LoopbackError> {
        let device = || self.device.clone();
        if !guards(rules) {
            return Err(LoopbackError::Unguarded { device: device() });
        }
        if kernel.verify(rules)? != Standing::AsLoaded {
            return Err(LoopbackError::NotStanding { device: device() });
        }
        Ok(sysctl::set(&self.namespace, &self.key, "1")?)
    }

    /// Opens it again where somebody has closed it. Says whether that was so.
    ///
    /// # Errors
    /// As [`LoopbackLink::open`].
    pub fn repair(&self, kernel: &mut Kernel, rules: &Ruleset) -> Result<bool, LoopbackError> {
        if sysctl::get(&self.namespace, &self.key)? == "1" {
            return Ok(false);
        }
        self.set(kernel, rules)?;
        Ok(true)
    }

    /// Closes it: before the rules go.
    ///
    /// # Errors
    /// [`LoopbackError::Setting`].
    pub fn close(self) -> Result<(), LoopbackError> {
        Ok(sysctl::set(&self.namespace, &self.key, "0")?)
    }
}

/// Whether a ruleset drops, before connection tracking, what comes to loopback from elsewhere than loopback.
fn guards(rules: &Ruleset) -> bool {
    let tables = rules.tables.iter().filter(|table| table.family == Family::Inet);
    tables.into_iter().any(|table| {
        let raw = |chain: &&Chain| {
            chain.hook.as_ref().is_some_and(|hook| hook.point == HookPoint::Prerouting && hook.priority <= RAW)
        };
        let drops = |verdict: &Verdict| match verdict {
            Verdict::Drop => true,
            Verdict::Goto(name) => table.chains.iter().any(|chain| chain.name == *name && ends_in_drop(chain)),
            Verdict::Accept | Verdict::Return | Verdict::Jump(_) => false,
        };
        table.chains.iter().filter(raw).any(|chain| chain.rules.iter().any(|rule| guards_loopback(rule, &drops)))
    })
}

fn ends_in_drop(chain: &Chain) -> bool {
    let accepts = |statement: &Statement| matches!(statement, Statement::Verdict(verdict) if *verdict != Verdict::Drop);
    let last = chain.rules.last().map(|rule| rule.statements.as_slice());
    last == Some(&[Statement::Verdict(Verdict::Drop)]) && !chain.rules.iter().flat_map(|r| &r.statements).any(accepts)
}

/// Whether a rule is the drop, for everything that comes to it.
fn guards_loopback(rule: &Rule, drops: &dyn Fn(&Verdict) -> bool) -> bool {
    let mut statements = rule.statements.iter();
    let is_family = |statement: &Statement| {
        matches!(
            statement,
            Statement::Match { field: Field::NfProtocol, mask: None, compare: Compare::Equal, value: 2 }
        )
    };
    let is_loopback = |statement: &Statement| {
        matches!(statement, Statement::Match { field: Field::Ipv4Destination, mask: Some(mask), compare: Compare::Equal, value }
            if (*mask, *value) == LOOPBACK)
    };
    let mut next = statements.next();
    if next.is_some_and(is_family) {
        next = statements.next();
    }
    next.is_some_and(is_loopback)
        && matches!(statements.next(), Some(Statement::Verdict(verdict)) if drops(verdict))
        && statements.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sidewall_policy::testing::{Case, Draw, Ground};
    use sidewall_policy::{Generation, compile, resolve};

    #[test]
    fn every_compiled_ruleset_guards_loopback_and_none_without_its_drop() {
        let mut draw = Draw::new(77);
        for _ in 0..20 {
            let case = Case::draw(&mut draw, &Ground::default());
            let mut ruleset = compile(&resolve(&case.world, &case.subject), Generation::FIRST).ruleset;
            assert!(guards(&ruleset));
            let table = &mut ruleset.tables[0];
            let forged = table.chains.iter_mut().find(|chain| chain.name == "forged").unwrap();
            forged.rules.last_mut().unwrap().statements = vec![Statement::Verdict(Verdict::Accept)];
            assert!(!guards(&ruleset));
        }
    }
}
