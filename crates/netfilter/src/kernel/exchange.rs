//! A new ruleset in the place of the one in force.

use super::read::Depth;
use super::{Kernel, LoadOptions};
use crate::compose;
use crate::encode;
use crate::error::{LoadError, NetlinkError};
use crate::image::Image;
use crate::slot::Slot;
use sidewall_policy::ruleset::Ruleset;

impl Kernel {
    /// Puts a ruleset in force, and says in how many messages and in which slot.
    pub(super) fn replace(&mut self, ruleset: &Ruleset, options: LoadOptions) -> Result<(usize, Slot), LoadError> {
        let flags = options.flags();
        let image = compose::compose(ruleset, flags)?;
        if let Some((found, live)) = self.exchangeable(&image, options)? {
            match self.exchange(image.in_slot(live.other()), &found, live) {
                // What somebody changed since it was read may be why; and where the ruleset itself is, the kernel names the
                // place better when it sees all at once.
                Err(LoadError::Unsupported { .. } | LoadError::Refused { .. } | LoadError::RefusedWhole { .. }) => {}
                other => return Ok((other?, live.other())),
            }
            let messages = self.replace_tables(&compose::compose(ruleset, flags)?.in_slot(Slot::A))?;
            return Ok((messages, Slot::A));
        }
        Ok((self.replace_tables(&image.in_slot(Slot::A))?, Slot::A))
    }

    /// Deletes and makes the tables in one batch. While the kernel ends it, packets may meet the new rules with sets that
    /// find nothing yet.
    fn replace_tables(&mut self, image: &Image) -> Result<usize, LoadError> {
        let batch = encode::encode_image(image, self.netlink.take_sequence(1));
        self.commit(&batch)?;
        Ok(batch.len())
    }

    /// What stands in the kernel and in which slot, where a ruleset can take its place by other rules in the same chains.
    fn exchangeable(&mut self, image: &Image, options: LoadOptions) -> Result<Option<(Image, Slot)>, LoadError> {
        // Tables that have no owner any more cannot be changed, only replaced.
        if options.owner && self.flags != Some(options.flags()) {
            return Ok(None);
        }
        let read = |kernel: &mut Self, depth| match kernel.read(depth) {
            Ok((found, _)) => Ok(Some(found)),
            Err(NetlinkError::Restless { .. }) => Ok(None),
            Err(error) => Err(error),
        };
        let Some(mut found) = read(self, Depth::Names)?.filter(|found| found.is_exchangeable_for(image)) else {
            return Ok(None);
        };
        if found.slots().len() < 2 {
            return Ok(found.live().map(|live| (found, live)));
        }
        // An exchange was broken off, or could not clear the slot that it left.
        found = match read(self, Depth::Rules)? {
            Some(found) if found.is_exchangeable_for(image) => found,
            _ => return Ok(None),
        };
        let Some(live) = found.live() else {
            return Ok(None);
        };
        match self.clear(&found, live.other()) {
            Ok(_) => Ok(Some((found, live))),
            Err(_) => Ok(None),
        }
    }

    /// Puts an image in force that stands in the other slot than the `live` one of what was `found`.
    fn exchange(&mut self, image: Image, found: &Image, live: Slot) -> Result<usize, LoadError> {
        let preparation = encode::encode_preparation(&image, self.netlink.take_sequence(1));
        self.commit(&preparation)?;
        let switch = encode::encode_switch(&image, self.netlink.take_sequence(1));
        if let Err(error) = self.commit(&switch) {
            // What cannot be cleared now is cleared before the next load. Where the kernel took the switch and could not
            // say so, it refuses this, because all of it is referred to.
            let _ = self.clear(&image, live.other());
            return Err(error);
        }
        // The new rules are in force, whatever comes of this. Leftovers are in no packet's way; `verify` tells of them, and
        // the next load clears them first.
        let cleared = self.clear(found, live).unwrap_or(0);
        Ok(preparation.len() + switch.len() + cleared)
    }

    fn clear(&mut self, image: &Image, slot: Slot) -> Result<usize, LoadError> {
        let clearance = encode::encode_clearance(image, slot, self.netlink.take_sequence(1));
        self.commit(&clearance)?;
        Ok(clearance.len())
    }
}
