//! A ruleset that somebody changed, put in force again.

use super::{Kernel, LoadOptions};
use crate::conntrack::{self, Which};
use crate::drift::{Difference, Standing};
use crate::error::{LoadError, NetlinkError};
use sidewall_policy::ruleset::Ruleset;

/// How often a ruleset is put in force before whoever changes it has won.
const ATTEMPTS: u32 = 3;

/// What a repair found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// What was not as it should be; empty where nothing was done.
    pub differences: Vec<Difference>,
    /// How many live flows are judged again at their next packet, because the rules that let them pass are not known.
    pub flows: usize,
}

impl Kernel {
    /// Compares our tables with a ruleset, and where they differ loads it. Live flows of its generation lose their verdicts
    /// then: what passed by the rules of somebody else ends at its next packet, what the ruleset allows goes on.
    ///
    /// # Errors
    /// As for [`Kernel::load`]: [`LoadError::Denied`] where another program owns the tables; [`NetlinkError::Restless`] where
    /// somebody changes them again each time.
    pub fn repair(&mut self, ruleset: &Ruleset, options: LoadOptions) -> Result<Repaired, LoadError> {
        let Standing::Drifted(differences) = self.verify(ruleset)? else {
            return Ok(Repaired { differences: Vec::new(), flows: 0 });
        };
        for _ in 0..ATTEMPTS {
            self.put(ruleset, options)?;
            let flows = conntrack::void(&mut self.netlink, Which::Of(ruleset.generation))?;
            if self.verify(ruleset)? == Standing::AsLoaded {
                return Ok(Repaired { differences, flows });
            }
        }
        Err(NetlinkError::Restless { attempts: ATTEMPTS }.into())
    }
}
