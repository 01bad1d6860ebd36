//! Label selectors.
//!
//! The same words as Kubernetes' `LabelSelector`, read strictly: an operator or a field that we do
//! not know is an error. The type of the Kubernetes library takes any text as an operator and
//! passes over unknown fields, so that a selector could select more than its author wrote.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{is_label_key, is_label_value};
use crate::problem::{FieldPath, Problem};

/// The most labels or requirements that one selector may name.
pub const SELECTOR_TERMS_MAX: usize = 32;

/// The most values of one requirement.
pub const SELECTOR_VALUES_MAX: usize = 64;

/// How large a selector may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectorLimits {
    /// The most labels, and the most requirements.
    pub terms: usize,
    /// The most values of one requirement.
    pub values: usize,
}

impl Default for SelectorLimits {
    /// Those of our own kinds.
    fn default() -> Self {
        Self { terms: SELECTOR_TERMS_MAX, values: SELECTOR_VALUES_MAX }
    }
}

/// Selects objects by their labels. All terms must hold; one without terms selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// Labels that must be there with exactly this value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = SELECTOR_TERMS_MAX, "additionalProperties" = {"type": "string", "maxLength": 63}))]
    pub match_labels: BTreeMap<String, String>,

    /// Requirements on labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = SELECTOR_TERMS_MAX))]
    pub match_expressions: Vec<Requirement>,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new(
    "(self.operator == 'In' || self.operator == 'NotIn') == (has(self.values) && size(self.values) > 0)"
).message("In and NotIn need values; Exists and DoesNotExist take none"))]
pub struct Requirement {
    /// The label's key.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,

    /// How the label is compared.
    pub operator: Operator,

    /// The values to compare with: some for `In` and `NotIn`, none for `Exists` and `DoesNotExist`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = SELECTOR_VALUES_MAX), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// How a [`Requirement`] compares.
// No doc comments on the variants: the schema would turn them into a oneOf, which is not structural.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl LabelSelector {
    /// The selector that selects everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// A selector of one label.
    pub fn label(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { match_labels: BTreeMap::from([(key.into(), value.into())]), match_expressions: Vec::new() }
    }

    /// Whether it selects everything because it has no terms.
    pub fn is_everything(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// Whether it selects an object with these labels.
    ///
    /// `NotIn` holds also where the label is absent, as in Kubernetes.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|r| r.matches(labels))
    }

    /// What is wrong with it in a kind of ours; `at` is its own path.
    pub fn validate(&self, at: &FieldPath, problems: &mut Vec<Problem>) {
        self.validate_within(&SelectorLimits::default(), at, problems);
    }

    /// What is wrong with it where it may be so large; `at` is its own path.
    pub fn validate_within(&self, limits: &SelectorLimits, at: &FieldPath, problems: &mut Vec<Problem>) {
        if self.match_labels.len() > limits.terms {
            problems.push(too_many(at.key("matchLabels"), self.match_labels.len(), limits.terms));
        }
        for (key, value) in &self.match_labels {
            let path = at.key("matchLabels").key(key.as_str());
            check_key(key, &path, problems);
            check_value(value, &path, problems);
        }
        if self.match_expressions.len() > limits.terms {
            problems.push(too_many(at.key("matchExpressions"), self.match_expressions.len(), limits.terms));
        }
        for (i, requirement) in self.match_expressions.iter().enumerate() {
            requirement.validate(limits, &at.key("matchExpressions").index(i), problems);
        }
    }
}

impl Requirement {
    /// Whether it holds for these labels.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn => !value.is_some_and(|v| self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }

    fn validate(&self, limits: &SelectorLimits, at: &FieldPath, problems: &mut Vec<Problem>) {
        check_key(&self.key, &at.key("key"), problems);
        let values = at.key("values");
        match self.operator {
            Operator::In | Operator::NotIn if self.values.is_empty() => problems
                .push(Problem::error(values.clone(), format!("operator {:?} needs at least one value", self.operator))),
            Operator::Exists | Operator::DoesNotExist if !self.values.is_empty() => problems.push(Problem::error(
                values.clone(),
                format!("operator {:?} takes no values: remove them, or use In or NotIn", self.operator),
            )),
            _ => {}
        }
        if self.values.len() > limits.values {
            problems.push(too_many(values.clone(), self.values.len(), limits.values));
        }
        for (i, value) in self.values.iter().enumerate() {
            check_value(value, &values.index(i), problems);
        }
    }
}

fn too_many(path: FieldPath, have: usize, max: usize) -> Problem {
    Problem::error(path, format!("has {have} entries, and at most {max} are allowed"))
}

fn check_key(key: &str, path: &FieldPath, problems: &mut Vec<Problem>) {
    if !is_label_key(key) {
        problems.push(Problem::error(
            path.clone(),
            format!(
                "{key:?} is no label key: an optional DNS name and `/`, then at most 63 letters, digits, `-`, `_` and `.`"
            ),
        ));
    }
}

fn check_value(value: &str, path: &FieldPath, problems: &mut Vec<Problem>) {
    if !is_label_value(value) {
        problems.push(Problem::error(
            path.clone(),
            format!(
                "{value:?} is no label value: at most 63 letters, digits, `-`, `_` and `.`, a letter or digit at both ends"
            ),
        ));
    }
}

/// Why a selector of the Kubernetes library was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("label selector: operator {operator:?} for {key:?} is unknown: use In, NotIn, Exists or DoesNotExist")]
pub struct UnknownOperator {
    /// The label's key.
    pub key: String,
    /// What stood there.
    pub operator: String,
}

impl TryFrom<&meta::LabelSelector> for LabelSelector {
    type Error = UnknownOperator;

    fn try_from(selector: &meta::LabelSelector) -> Result<Self, UnknownOperator> {
        let requirement = |r: &meta::LabelSelectorRequirement| {
            let operator = match r.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(UnknownOperator { key: r.key.clone(), operator: other.to_owned() });
                }
            };
            Ok(Requirement { key: r.key.clone(), operator, values: r.values.clone().unwrap_or_default() })
        };
        Ok(Self {
            match_labels: selector.match_labels.clone().unwrap_or_default(),
            match_expressions: selector
                .match_expressions
                .iter()
                .flatten()
                .map(requirement)
                .collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests;
