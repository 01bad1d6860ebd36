//! The messages that add and delete elements of sets.

use super::batch::Encoder;
use super::rules::write_data;
use crate::abi;
use crate::image::{Data, ElementImage};
use crate::place::Part;
use crate::wire::{ATTRIBUTE_MAX, Writer};
use sidewall_policy::ruleset::{Family, Ruleset};

impl Encoder {
    /// Adds the elements of a set that is being made.
    pub(super) fn elements(&mut self, family: Family, set: &str, elements: &[ElementImage]) {
        self.element_lists(abi::NFT_MSG_NEWSETELEM, abi::NLM_F_CREATE, family, set, elements);
    }

    /// Adds elements to a set that stands. One that it has already is an error.
    pub(super) fn add_elements(&mut self, family: Family, set: &str, elements: &[ElementImage]) {
        let flags = abi::NLM_F_CREATE | abi::NLM_F_EXCL;
        self.element_lists(abi::NFT_MSG_NEWSETELEM, flags, family, set, elements);
    }

    /// Deletes elements of a set that stands. One that it does not have is an error.
    pub(super) fn delete_elements(&mut self, family: Family, set: &str, elements: &[ElementImage]) {
        self.element_lists(abi::NFT_MSG_DELSETELEM, 0, family, set, elements);
    }

    /// Elements, in as many messages as the length of an attribute asks for.
    fn element_lists(&mut self, kind: u16, flags: u16, family: Family, set: &str, elements: &[ElementImage]) {
        let mut rest = elements;
        while !rest.is_empty() {
            let open = self.message(kind, flags, family, Part::Elements(set.to_owned()));
            let writer = &mut self.writer;
            writer.string(abi::NFTA_SET_ELEM_LIST_TABLE, Ruleset::TABLE);
            writer.string(abi::NFTA_SET_ELEM_LIST_SET, set);
            let list = writer.nest(abi::NFTA_SET_ELEM_LIST_ELEMENTS);
            while let [element, others @ ..] = rest {
                if writer.nest_length(&list) + element_bound(element) > ATTRIBUTE_MAX {
                    break;
                }
                write_element(writer, element);
                rest = others;
            }
            writer.end_nest(list);
            writer.end_message(open);
        }
    }
}

/// No element is longer: its key and its chain's name are bounded, the rest is headers.
fn element_bound(element: &ElementImage) -> usize {
    let chain = match &element.data {
        Some(Data::Verdict { chain: Some(name), .. } | Data::Counter(name)) => name.len(),
        _ => 0,
    };
    64 + element.key.len() + chain
}

fn write_element(writer: &mut Writer, element: &ElementImage) {
    let nest = writer.nest(abi::NFTA_LIST_ELEM);
    let key = writer.nest(abi::NFTA_SET_ELEM_KEY);
    writer.attribute(abi::NFTA_DATA_VALUE, &element.key);
    writer.end_nest(key);
    match &element.data {
        Some(Data::Counter(name)) => writer.string(abi::NFTA_SET_ELEM_OBJREF, name),
        Some(data) => write_data(writer, abi::NFTA_SET_ELEM_DATA, data),
        None => {}
    }
    if element.end {
        writer.number(abi::NFTA_SET_ELEM_FLAGS, abi::NFT_SET_ELEM_INTERVAL_END);
    }
    writer.end_nest(nest);
}
