//! What may be written of our own kinds: the validating webhook's decisions, as steps around what its caller asks others.
//!
//! ```text
//! AdmissionReview (bytes) ── read ──► Question ── wants ──► the caller asks the API server ──► Facts
//!                                        └────────────────── answer ◄───────────────────────────┘
//! ```
//!
//! **What refuses**: whatever the API says is wrong (unknown fields with what they probably should have been); a name that no
//! Secret has; a port that the proxy needs for itself; a Secret that the requester may not read, and one of which it cannot be
//! found out. **What warns**: everything that may come right without another word of the author's (a Secret that is not there
//! yet, or whose content the proxy would not take), and everything that he probably did not mean.
//!
//! **Whose Secrets.** The proxy would use a Secret in the name of whoever wrote the SidecarProxy, so he must be allowed to
//! `get` it himself. He is asked for each Secret of every listener that is new or was changed in any way, and of all listeners
//! where the pods that get the proxy, or its container, are others than before: where a Secret goes, what it opens and to whom
//! is all said there. Listeners that stand as they stood, and everything outside them, may be changed around without the right.
//! A change that leaves the whole `spec` as it was (labels, finalizers) is never refused: an object that was good once must not
//! become one that nobody can delete.
//!
//! **What the answer tells.** A Secret is looked into only after its reader was found to be allowed to read it, and nothing of it
//! is quoted. But the webhook's port cannot tell an API server from others who reach it (see [`crate::admission::webhook`]): whoever
//! reaches it can ask in anybody's name, and learn whether a Secret or a key is there, which lines of it are wrong, what pods
//! and policies a namespace has. Who may reach the port is therefore closed to all but the API server where the network allows.

mod facts;
mod findings;
mod pods;
mod policy;
mod proxy;
mod rivals;
mod secrets;
mod uses;

use std::fmt;

use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReviewSpec};
use serde_json::{Map, Value, json};
use sidewall_api::names::{API_VERSION, GROUP};
use sidewall_api::read::{Read, read_policy, read_proxy};
use sidewall_api::{ContainerNetworkPolicy, PolicyKind, Problem, SidecarProxy};

use crate::admission::review::ReviewError;
use crate::admission::review::wire::{self, Refused, Reply};
use crate::settings::Settings;
use findings::Findings;
use uses::Uses;

pub use crate::proxies::secrets::SecretContent;
pub use facts::{Content, Facts, KnownPod, Permission};
pub use uses::Access;

/// What is to be decided. Neither the object nor the user is printed.
pub struct Question {
    uid: String,
    namespace: String,
    user: UserInfo,
    dry_run: bool,
    /// Whether there was an object before.
    update: bool,
    subject: Subject,
}

/// What it is about.
enum Subject {
    /// Nothing of ours, or a change that we have no say in.
    NotOurs,
    /// A version of ours that this program does not know.
    Version(String),
    /// An object of ours whose spec stays what it was; and what is wrong with that.
    Standing { kind: PolicyKind, name: String, problems: Vec<Problem> },
    /// An object of ours that cannot be understood.
    Unreadable { kind: PolicyKind, name: String, problems: Vec<Problem> },
    /// A SidecarProxy, and what it newly uses.
    Proxy { read: Box<Read<SidecarProxy>>, uses: Uses },
    /// A ContainerNetworkPolicy.
    Policy { read: Box<Read<ContainerNetworkPolicy>> },
}

/// What must be asked before there can be an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wants<'a> {
    /// What the requester must be allowed to do, all of it in the namespace.
    pub access: Vec<&'a Access>,
    /// What else of the namespace is looked at: its pods and its SidecarProxies, and the objects of this kind. `None`: nothing.
    pub others: Option<PolicyKind>,
}

/// An answer, and what it means.
pub struct Answer {
    /// The AdmissionReview to send back, as JSON.
    pub body: Vec<u8>,
    /// What was decided.
    pub decision: Decision,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The namespace.
    pub namespace: String,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { body, decision, dry_run, namespace } = self;
        let mut shown = f.debug_struct("Answer");
        shown.field("body", &format_args!("{} bytes", body.len())).field("decision", decision);
        shown.field("dry_run", dry_run).field("namespace", namespace).finish()
    }
}

/// What was decided on a review.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is nothing that we have a say in.
    NotOurs,
    /// The object may be stored, and its author is told this.
    Allowed {
        /// What he is told.
        warnings: Vec<String>,
    },
    /// The object is refused.
    Refused {
        /// Why, and what to do.
        message: String,
    },
}

/// Reads a review of an object of ours that is created or changed.
///
/// # Errors
///
/// The bytes are no review; see [`ReviewError`].
pub fn read(body: &[u8]) -> Result<Question, ReviewError> {
    let mut asked = wire::read(body)?;
    let (object, old) = (asked.object.take(), asked.old_object.take());
    let update = asked.operation == "UPDATE";
    let namespace = asked.namespace().to_owned();
    let subject = if (update || asked.operation == "CREATE") && !asked.has_sub_resource() {
        subject(&asked.resource, &namespace, object, update.then_some(old))
    } else {
        Subject::NotOurs
    };
    Ok(Question {
        uid: asked.uid().to_owned(),
        namespace,
        dry_run: asked.is_dry_run(),
        user: asked.user_info,
        update,
        subject,
    })
}

fn subject(resource: &wire::Resource, namespace: &str, object: Value, old: Option<Value>) -> Subject {
    if resource.group != GROUP {
        return Subject::NotOurs;
    }
    let kind = match resource.resource.as_str() {
        "sidecarproxies" => PolicyKind::SidecarProxy,
        "containernetworkpolicies" => PolicyKind::ContainerNetworkPolicy,
        _ => return Subject::NotOurs,
    };
    let known = API_VERSION.strip_prefix(GROUP).is_some_and(|rest| rest.strip_prefix('/') == Some(&resource.version));
    if !known {
        return Subject::Version(wire::short(&resource.version, 64));
    }
    let spec = object.get("spec").filter(|spec| !spec.is_null());
    let standing = spec.is_some() && spec == old.as_ref().and_then(|old| old.get("spec"));
    let object = trimmed(object, namespace);
    let name = name_of(&object);
    let problems = match kind {
        PolicyKind::SidecarProxy => match read_proxy(object) {
            Ok(_) if standing => Vec::new(),
            Ok(read) => {
                let before = old.and_then(|old| read_proxy(trimmed(old, namespace)).ok());
                let uses = Uses::new_in(&read.object, before.as_ref().map(|before| &before.object));
                return Subject::Proxy { read: Box::new(read), uses };
            }
            Err(unreadable) => unreadable.problems,
        },
        _ => match read_policy(object) {
            Ok(_) if standing => Vec::new(),
            Ok(read) => return Subject::Policy { read: Box::new(read) },
            Err(unreadable) => unreadable.problems,
        },
    };
    if standing { Subject::Standing { kind, name, problems } } else { Subject::Unreadable { kind, name, problems } }
}

/// The object less what its author does not write: who manages which field can be longer than all the rest.
fn trimmed(object: Value, namespace: &str) -> Value {
    let Value::Object(mut fields) = object else { return object };
    fields.remove("status");
    if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
        let mut kept: Map<String, Value> = ["name", "generateName", "creationTimestamp"]
            .into_iter()
            .filter_map(|key| metadata.remove_entry(key))
            .collect();
        // The request's word, which the API server has checked.
        kept.insert("namespace".to_owned(), json!(namespace));
        *metadata = kept;
    }
    Value::Object(fields)
}

/// The name, or what it will begin with.
fn name_of(object: &Value) -> String {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    match (text("/metadata/name"), text("/metadata/generateName")) {
        (Some(name), _) => wire::short(name, 253),
        (None, Some(prefix)) => wire::short(prefix, 253),
        (None, None) => String::new(),
    }
}

impl Question {
    /// The namespace of the object.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Who asks.
    pub fn user(&self) -> &UserInfo {
        &self.user
    }

    /// Whether nothing will be stored.
    pub fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// What must be asked first. Where it is nothing at all, [`Facts::default`] will do.
    pub fn wants(&self) -> Wants<'_> {
        match &self.subject {
            Subject::Proxy { uses, .. } => {
                Wants { access: uses.access().collect(), others: Some(PolicyKind::SidecarProxy) }
            }
            Subject::Policy { .. } => Wants { access: Vec::new(), others: Some(PolicyKind::ContainerNetworkPolicy) },
            _ => Wants { access: Vec::new(), others: None },
        }
    }

    /// What the API server is asked, to find out whether the requester may: a SubjectAccessReview of all that it knows of him.
    pub fn access_review(&self, access: &Access) -> SubjectAccessReviewSpec {
        let UserInfo { username, uid, groups, extra } = self.user.clone();
        let (group, resource, verb, name) = access.words();
        SubjectAccessReviewSpec {
            user: username,
            uid,
            groups,
            extra,
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(self.namespace.clone()),
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                verb: Some(verb.to_owned()),
                name: name.map(str::to_owned),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        }
    }

    /// The answer, by what was found out.
    ///
    /// # Errors
    ///
    /// The answer cannot be written as JSON.
    pub fn answer(&self, facts: &Facts<'_>, settings: &Settings) -> Result<Answer, ReviewError> {
        let found = match &self.subject {
            Subject::NotOurs => return self.wrap(Decision::NotOurs, None, &[]),
            Subject::Version(version) => {
                let mut found = Findings::of_kind("this version", "");
                found.invalid(format!(
                    "{GROUP}/{version} is not known to this operator, which knows {API_VERSION}: write that, or update the operator"
                ));
                found
            }
            Subject::Standing { kind, name, problems } => {
                let mut found = Findings::of_kind(kind.as_str(), name);
                found.standing(problems);
                found
            }
            Subject::Unreadable { kind, name, problems } => {
                let mut found = Findings::of_kind(kind.as_str(), name);
                found.problems(problems);
                found
            }
            Subject::Proxy { read, uses } => {
                let mut found = Findings::of_kind(PolicyKind::SidecarProxy.as_str(), &self.name(&read.object.metadata));
                found.problems(&read.warnings);
                let asked = proxy::Asked {
                    proxy: &read.object,
                    uses,
                    namespace: &self.namespace,
                    user: self.user.username.as_deref().unwrap_or_default(),
                    update: self.update,
                };
                proxy::check(&asked, facts, settings, &mut found);
                found
            }
            Subject::Policy { read } => {
                let mut found =
                    Findings::of_kind(PolicyKind::ContainerNetworkPolicy.as_str(), &self.name(&read.object.metadata));
                found.problems(&read.warnings);
                policy::check(&read.object, facts, &mut found);
                found
            }
        };
        match found.refusal() {
            Some((cause, message)) => {
                let decision = Decision::Refused { message: wire::short(&message, wire::MESSAGE_MAX) };
                self.wrap(decision, Some(Refused { message: &message, cause }), &[])
            }
            None => {
                let warnings = found.into_warnings();
                self.wrap(Decision::Allowed { warnings: warnings.clone() }, None, &warnings)
            }
        }
    }

    fn name(&self, metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> String {
        metadata.name.clone().or_else(|| metadata.generate_name.clone()).unwrap_or_default()
    }

    fn wrap(
        &self,
        decision: Decision,
        refused: Option<Refused<'_>>,
        warnings: &[String],
    ) -> Result<Answer, ReviewError> {
        let body = wire::write(&self.uid, &Reply { refused, patch: None, warnings })?;
        Ok(Answer { body, decision, dry_run: self.dry_run, namespace: self.namespace.clone() })
    }
}

/// Names of things, and how many were left out: `app, log-shipper and 3 more`.
fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 8;
    let names: Vec<&str> = names.into_iter().collect();
    let mut text = names.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    if names.len() > MOST {
        text.push_str(&format!(" and {} more", names.len() - MOST));
    }
    text
}

/// What each of the steps may cost in which an object is held against all that is beside it, in the measure of the lints: some
/// milliseconds. What would be found later is not said.
const EFFORT: u64 = 20_000;

/// The most words of which it is asked whether they were meant.
const HINTS: usize = 200;

/// What was probably meant by a word, as the end of a sentence; nothing where no word is near.
fn hint<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> String {
    sidewall_api::suggest(word, words.take(HINTS)).map_or_else(String::new, |near| format!("; did you mean {near:?}?"))
}

#[cfg(test)]
mod tests;
