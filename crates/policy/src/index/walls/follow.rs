//! The rules that follow others in a pod.

use crate::compile::{Compiled, compile};
use crate::mark;
use crate::model::ResolvedPod;
use crate::ruleset::{Change, Compare, Field, Generation, Ruleset, Statement};

/// Compiles a pod's rules to follow those that stand, and says what leads from those to these: what
/// [`crate::compile::compile_next`] says, but that no element is deleted within a generation, not even one that is only
/// counted elsewhere from now on; the kernel's side takes none. Nothing is compiled twice: of a ruleset with a thousand
/// peers, only the rules that bear the generation are written anew.
pub(super) fn follow(resolved: &ResolvedPod, from: &Compiled) -> (Compiled, Change) {
    let mut to = compile(resolved, from.ruleset.generation);
    let change = to.ruleset.change_from(&from.ruleset);
    let stays = match &change {
        Change::Parts(parts) => {
            let mut sets = parts.tables.iter().flat_map(|table| &table.sets);
            !parts.takes_away() && sets.all(|set| set.delete.is_empty())
        }
        Change::Shape => false,
    };
    if stays {
        return (to, change);
    }
    renumber(&mut to.ruleset, from.ruleset.generation.next());
    let change = to.ruleset.change_from(&from.ruleset);
    (to, change)
}

/// The same rules as another generation.
fn renumber(ruleset: &mut Ruleset, to: Generation) {
    let from = mark::generation(ruleset.generation);
    let now = mark::generation(to);
    ruleset.generation = to;
    let chains = ruleset.tables.iter_mut().flat_map(|table| &mut table.chains);
    for statement in chains.flat_map(|chain| &mut chain.rules).flat_map(|rule| &mut rule.statements) {
        match statement {
            Statement::Match {
                field: Field::CtMark,
                mask: Some(mask),
                compare: Compare::Equal | Compare::NotEqual,
                value,
            } if *mask & mark::GENERATION == mark::GENERATION => {
                let others = *value & !u128::from(mark::GENERATION);
                if *value & u128::from(mark::GENERATION) == u128::from(from) {
                    *value = others | u128::from(now);
                }
            }
            Statement::SetMark { keep, set } if *keep & mark::GENERATION == 0 && *set & mark::GENERATION == from => {
                *set = *set & !mark::GENERATION | now;
            }
            _ => {}
        }
    }
}
