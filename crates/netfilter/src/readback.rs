//! What the kernel tells of its tables, read into an [`Image`]. Pure, and safe on any bytes whatever.

#[cfg(test)]
mod tests;

use crate::abi;
use crate::compose::family_of;
use crate::image::{
    ChainImage, Data, ElementImage, Expression, HookImage, Image, RuleImage, SetImage, TableImage, Value,
};
use crate::wire::{Attribute, Attributes, Message, messages};
use sidewall_policy::ruleset::Ruleset;
use std::borrow::Cow;

/// Reads the messages of a dump, in whatever order they come, and keeps what is about tables of ours.
///
/// What cannot be read is counted in the image, so that it never equals one that was loaded.
pub fn parse(bytes: &[u8]) -> Image {
    let mut image = Image::default();
    for message in messages(bytes) {
        read_message(&mut image, &message);
    }
    image
}

/// Adds what a message tells to an image.
pub(crate) fn read_message(image: &mut Image, message: &Message<'_>) {
    if message.kind >> 8 != abi::NFNL_SUBSYS_NFTABLES {
        return;
    }
    let Some(family) = message.family().filter(|number| family_of(*number).is_some()) else {
        return;
    };
    // In every kind of message that is read here, the table's name is the first attribute.
    const TABLE: u16 = 1;
    let table = message.attributes().find(|a| a.kind == TABLE);
    if table.is_none_or(|table| table.text() != Ruleset::TABLE) {
        return;
    }
    if message.attributes().has_rest() {
        image.unreadable += 1;
        return;
    }
    let table = image.tables.entry(family).or_default();
    let read = match message.kind & 0xff {
        abi::NFT_MSG_NEWTABLE => read_table(table, message.attributes()),
        abi::NFT_MSG_NEWOBJ => read_object(table, message.attributes()),
        abi::NFT_MSG_NEWSET => read_set(table, message.attributes()),
        abi::NFT_MSG_NEWSETELEM => read_elements(table, message.attributes()),
        abi::NFT_MSG_NEWCHAIN => read_chain(table, message.attributes()),
        abi::NFT_MSG_NEWRULE => read_rule(table, message.attributes()),
        _ => Some(()),
    };
    if read.is_none() {
        image.unreadable += 1;
    }
}

fn read_table(table: &mut TableImage, attributes: Attributes<'_>) -> Option<()> {
    for attribute in attributes {
        if attribute.kind == abi::NFTA_TABLE_FLAGS {
            table.flags = attribute.number()?;
        }
    }
    Some(())
}

fn read_object(table: &mut TableImage, attributes: Attributes<'_>) -> Option<()> {
    let (mut name, mut kind) = (None, None);
    for attribute in attributes {
        match attribute.kind {
            abi::NFTA_OBJ_NAME => name = Some(attribute.text()),
            abi::NFTA_OBJ_TYPE => kind = attribute.number(),
            _ => {}
        }
    }
    match kind? {
        abi::NFT_OBJECT_COUNTER => table.counters.push(name?),
        kind => table.other_objects.push(format!("{kind} {}", name?)),
    }
    Some(())
}

fn read_set(table: &mut TableImage, attributes: Attributes<'_>) -> Option<()> {
    let mut set = SetImage::default();
    for attribute in attributes {
        match attribute.kind {
            abi::NFTA_SET_NAME => set.name = attribute.text(),
            abi::NFTA_SET_FLAGS => set.flags = attribute.number()?,
            abi::NFTA_SET_KEY_TYPE => set.key_type = attribute.number()?,
            abi::NFTA_SET_KEY_LEN => set.key_length = attribute.number()?,
            abi::NFTA_SET_DATA_TYPE => set.data_type = Some(attribute.number()?),
            _ => {}
        }
    }
    // Elements may have come first.
    match table.sets.iter_mut().find(|other| other.name == set.name) {
        Some(other) => {
            let elements = std::mem::take(&mut other.elements);
            *other = SetImage { elements, ..set };
        }
        None => table.sets.push(set),
    }
    Some(())
}

fn read_elements(table: &mut TableImage, attributes: Attributes<'_>) -> Option<()> {
    let name = attributes.clone().find(|a| a.kind == abi::NFTA_SET_ELEM_LIST_SET)?.text();
    let position = match table.sets.iter().position(|set| set.name == name) {
        Some(position) => position,
        None => {
            table.sets.push(SetImage { name, ..SetImage::default() });
            table.sets.len() - 1
        }
    };
    let elements = &mut table.sets[position].elements;
    for list in attributes.filter(|a| a.kind == abi::NFTA_SET_ELEM_LIST_ELEMENTS) {
        if list.nested().has_rest() {
            return None;
        }
        for element in list.nested() {
            elements.push(read_element(element.nested())?);
        }
    }
    Some(())
}

fn read_element(attributes: Attributes<'_>) -> Option<ElementImage> {
    let mut element = ElementImage { key: Vec::new(), end: false, data: None, foreign: false };
    for attribute in attributes {
        match attribute.kind {
            abi::NFTA_SET_ELEM_KEY => match read_data(&attribute)? {
                Data::Value(key) => element.key = key,
                Data::Verdict { .. } | Data::Counter(_) => return None,
            },
            abi::NFTA_SET_ELEM_DATA => element.data = Some(read_data(&attribute)?),
            abi::NFTA_SET_ELEM_OBJREF => element.data = Some(Data::Counter(attribute.text())),
            abi::NFTA_SET_ELEM_FLAGS => {
                let flags = attribute.number()?;
                element.end = flags & abi::NFT_SET_ELEM_INTERVAL_END != 0;
                element.foreign |= flags & !abi::NFT_SET_ELEM_INTERVAL_END != 0;
            }
            abi::NFTA_SET_ELEM_PAD => {}
            _ => element.foreign = true,
        }
    }
    Some(element)
}

fn read_chain(table: &mut TableImage, attributes: Attributes<'_>) -> Option<()> {
    /// `NFT_CHAIN_BASE`: the chain has a hook, which its own attribute tells better.
    const BASE: u32 = 1;
    let mut chain = ChainImage::default();
    let mut hook = None;
    let (mut policy, mut kind) = (None, None);
    for attribute in attributes {
        match attribute.kind {
            abi::NFTA_CHAIN_NAME => chain.name = attribute.text(),
            abi::NFTA_CHAIN_HOOK => hook = Some(read_hook(attribute.nested())?),
            abi::NFTA_CHAIN_POLICY => policy = Some(attribute.number()?),
            abi::NFTA_CHAIN_TYPE => kind = Some(attribute.text()),
            abi::NFTA_CHAIN_FLAGS => chain.flags = attribute.number()? & !BASE,
            _ => {}
        }
    }
    chain.hook = match hook {
        Some(hook) => Some(HookImage { policy: policy?, kind: kind?, ..hook }),
        None => None,
    };
    match table.chains.iter_mut().find(|c| c.name == chain.name) {
        Some(other) => {
            let rules = std::mem::take(&mut other.rules);
            *other = ChainImage { rules, ..chain };
        }
        None => table.chains.push(chain),
    }
    Some(())
}

fn read_hook(attributes: Attributes<'_>) -> Option<HookImage> {
    let mut hook = HookImage::default();
    for attribute in attributes {
        match attribute.kind {
            abi::NFTA_HOOK_HOOKNUM => hook.number = attribute.number()?,
            // The cast keeps the bits: the kernel sends the number so.
            abi::NFTA_HOOK_PRIORITY => hook.priority = attribute.number()? as i32,
            abi::NFTA_HOOK_DEV => add_device(&mut hook.devices, &attribute),
            abi::NFTA_HOOK_DEVS => attribute.nested().for_each(|device| add_device(&mut hook.devices, &device)),
            _ => {}
        }
    }
    Some(hook)
}

/// The kernel names a single device twice, alone and in its list.
fn add_device(devices: &mut Vec<String>, attribute: &Attribute<'_>) {
    let name = attribute.text();
    if !devices.contains(&name) {
        devices.push(name);
    }
}

fn read_rule(table: &mut TableImage, attributes: Attributes<'_>) -> Option<()> {
    let mut rule = RuleImage::default();
    let mut chain = None;
    for attribute in attributes {
        match attribute.kind {
            abi::NFTA_RULE_CHAIN => chain = Some(attribute.text()),
            abi::NFTA_RULE_EXPRESSIONS => {
                if attribute.nested().has_rest() {
                    return None;
                }
                for expression in attribute.nested() {
                    rule.expressions.push(read_expression(expression.nested())?);
                }
            }
            abi::NFTA_RULE_USERDATA => rule.user_data = attribute.value.to_vec(),
            _ => {}
        }
    }
    let name = chain?;
    match table.chains.iter_mut().find(|chain| chain.name == name) {
        Some(chain) => chain.rules.push(rule),
        None => table.chains.push(ChainImage { name, rules: vec![rule], ..ChainImage::default() }),
    }
    Some(())
}

fn read_expression(attributes: Attributes<'_>) -> Option<Expression> {
    let mut expression = Expression::new("");
    let mut data = None;
    for attribute in attributes {
        match attribute.kind {
            abi::NFTA_EXPR_NAME => expression.name = Cow::Owned(attribute.text()),
            abi::NFTA_EXPR_DATA => data = Some(attribute),
            _ => {}
        }
    }
    if let Some(data) = data {
        if data.nested().has_rest() {
            return None;
        }
        for attribute in data.nested() {
            let value = if Expression::is_data(&expression.name, attribute.kind) {
                Value::Data(read_data(&attribute)?)
            } else {
                Value::Bytes(attribute.value.to_vec())
            };
            expression.attributes.push((attribute.kind, value));
        }
    }
    Some(expression)
}

fn read_data(attribute: &Attribute<'_>) -> Option<Data> {
    let inner = attribute.nested().next()?;
    match inner.kind {
        abi::NFTA_DATA_VALUE => Some(Data::Value(inner.value.to_vec())),
        abi::NFTA_DATA_VERDICT => {
            let (mut code, mut chain) = (None, None);
            for part in inner.nested() {
                match part.kind {
                    abi::NFTA_VERDICT_CODE => code = Some(part.number()?),
                    abi::NFTA_VERDICT_CHAIN => chain = Some(part.text()),
                    _ => {}
                }
            }
            Some(Data::Verdict { code: code?, chain })
        }
        _ => None,
    }
}
