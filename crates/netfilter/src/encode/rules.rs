//! The messages that write the rules of a chain anew.

use super::batch::Encoder;
use crate::abi;
use crate::image::{ChainImage, Data, Expression, RuleImage, TableImage, Value};
use crate::place::Part;
use crate::wire::Writer;
use sidewall_policy::ruleset::{Family, Ruleset};

impl Encoder {
    pub(super) fn make_rules(&mut self, family: Family, table: &TableImage, which: fn(&ChainImage) -> bool) {
        for chain in table.chains.iter().filter(|chain| which(chain)) {
            self.rules_of(family, chain);
        }
    }

    fn rules_of(&mut self, family: Family, chain: &ChainImage) {
        for (index, rule) in chain.rules.iter().enumerate() {
            self.rule(family, &chain.name, index + 1, rule);
        }
    }

    /// Writes the rules of chains that stand anew.
    pub(super) fn rewrite_chains<'a>(&mut self, family: Family, chains: impl Iterator<Item = &'a ChainImage> + Clone) {
        for chain in chains.clone() {
            self.empty_chain(family, &chain.name);
        }
        for chain in chains {
            self.rules_of(family, chain);
        }
    }

    /// Deletes every rule of a chain: no handle means all.
    pub(super) fn empty_chain(&mut self, family: Family, name: &str) {
        let open = self.message(abi::NFT_MSG_DELRULE, 0, family, Part::Chain(name.to_owned()));
        self.writer.string(abi::NFTA_RULE_TABLE, Ruleset::TABLE);
        self.writer.string(abi::NFTA_RULE_CHAIN, name);
        self.writer.end_message(open);
    }

    pub(super) fn rule(&mut self, family: Family, chain: &str, number: usize, rule: &RuleImage) {
        let open = self.message(
            abi::NFT_MSG_NEWRULE,
            abi::NLM_F_CREATE | abi::NLM_F_APPEND,
            family,
            Part::Rule { chain: chain.to_owned(), number },
        );
        let writer = &mut self.writer;
        writer.string(abi::NFTA_RULE_TABLE, Ruleset::TABLE);
        writer.string(abi::NFTA_RULE_CHAIN, chain);
        let list = writer.nest(abi::NFTA_RULE_EXPRESSIONS);
        for expression in &rule.expressions {
            write_expression(writer, expression);
        }
        writer.end_nest(list);
        if !rule.user_data.is_empty() {
            writer.attribute(abi::NFTA_RULE_USERDATA, &rule.user_data);
        }
        writer.end_message(open);
    }
}

fn write_expression(writer: &mut Writer, expression: &Expression) {
    let nest = writer.nest(abi::NFTA_LIST_ELEM);
    writer.string(abi::NFTA_EXPR_NAME, &expression.name);
    let data = writer.nest(abi::NFTA_EXPR_DATA);
    for (kind, value) in &expression.attributes {
        match value {
            Value::Bytes(bytes) => writer.attribute(*kind, bytes),
            Value::Data(data) => write_data(writer, *kind, data),
        }
    }
    writer.end_nest(data);
    writer.end_nest(nest);
}

pub(super) fn write_data(writer: &mut Writer, kind: u16, data: &Data) {
    let nest = writer.nest(kind);
    match data {
        // Only an element has one, in an attribute of its own.
        Data::Counter(_) => {}
        Data::Value(bytes) => writer.attribute(abi::NFTA_DATA_VALUE, bytes),
        Data::Verdict { code, chain } => {
            let verdict = writer.nest(abi::NFTA_DATA_VERDICT);
            writer.number(abi::NFTA_VERDICT_CODE, *code);
            if let Some(chain) = chain {
                writer.string(abi::NFTA_VERDICT_CHAIN, chain);
            }
            writer.end_nest(verdict);
        }
    }
    writer.end_nest(nest);
}
