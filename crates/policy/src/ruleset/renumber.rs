//! The same rules as another generation.

use super::{Compare, Field, Generation, Rule, Ruleset, Statement};
use crate::mark;

impl Ruleset {
    /// Gives the rules another number: they are then what the same pod compiles to as that generation.
    pub fn renumber(&mut self, to: Generation) {
        let from = std::mem::replace(&mut self.generation, to);
        let chains = self.tables.iter_mut().flat_map(|table| &mut table.chains);
        for statement in chains.flat_map(|chain| &mut chain.rules).flat_map(|rule| &mut rule.statements) {
            statement.renumber(from, to);
        }
    }
}

impl Rule {
    /// Whether it is another one as a rule of another generation.
    pub fn is_renumbered(&self, other: &Self, from: Generation, to: Generation) -> bool {
        let same = |(new, old): (&Statement, &Statement)| {
            new == old || {
                let mut old = old.clone();
                old.renumber(from, to);
                *new == old
            }
        };
        self.comment == other.comment
            && self.statements.len() == other.statements.len()
            && self.statements.iter().zip(&other.statements).all(same)
    }
}

impl Statement {
    /// Where it speaks of a generation, it speaks of another.
    fn renumber(&mut self, from: Generation, to: Generation) {
        let (from, to) = (mark::generation(from), mark::generation(to));
        match self {
            Self::Match {
                field: Field::CtMark,
                mask: Some(mask),
                compare: Compare::Equal | Compare::NotEqual,
                value,
            } if *mask & mark::GENERATION == mark::GENERATION => {
                let bits = u128::from(mark::GENERATION);
                if *value & bits == from.into() {
                    *value = *value & !bits | u128::from(to);
                }
            }
            Self::SetMark { keep, set } if *keep & mark::GENERATION == 0 && *set & mark::GENERATION == from => {
                *set = *set & !mark::GENERATION | to;
            }
            _ => {}
        }
    }
}
