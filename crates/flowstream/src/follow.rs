//! Which records are asked for.

use crate::record::{cause, cause_of, micros, time, verdict, verdict_of};
use crate::wire::FollowRequest;
use sidewall_flow::{FlowRecord, Record, RecordCause, RecordVerdict, Timestamp};
use std::collections::BTreeSet;

/// The longest name of a namespace, pod or container (RFC 1123, a subdomain).
pub const NAME_MAX: usize = 253;

/// Which records are asked for. What is missing is told whatever flows are asked for, because it might have been among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Follow {
    /// Of this namespace's pods; of none, of all, which not everybody may see.
    pub namespace: Option<String>,
    /// Of this pod, which needs a namespace.
    pub pod: Option<String>,
    /// Flows of which this container is either end.
    pub container: Option<String>,
    /// Flows with these verdicts; of none, with any.
    pub verdicts: BTreeSet<RecordVerdict>,
    /// Flows with these causes; of none, with any.
    pub causes: BTreeSet<RecordCause>,
    /// Records since then.
    pub since: Option<Timestamp>,
    /// Leave out what the node has kept.
    pub only_new: bool,
    /// Go on with what comes.
    pub follow: bool,
}

impl Follow {
    /// Whether a record is among those that are asked for.
    pub fn wants(&self, record: &Record) -> bool {
        self.since.is_none_or(|since| record.time() >= since)
            && self.wants_pod(record.pod())
            && record.flow().is_none_or(|flow| self.wants_flow(flow))
    }

    fn wants_pod(&self, pod: Option<(&str, &str)>) -> bool {
        match (&self.namespace, pod) {
            (None, _) => true,
            // It may be about others.
            (Some(_), None) => false,
            (Some(wanted), Some((namespace, pod))) => {
                namespace == wanted && self.pod.as_ref().is_none_or(|wanted| pod == wanted)
            }
        }
    }

    fn wants_flow(&self, flow: &FlowRecord) -> bool {
        let container = |wanted: &String| {
            [&flow.container, &flow.peer.container].into_iter().any(|container| container.as_ref() == Some(wanted))
        };
        (self.verdicts.is_empty() || self.verdicts.contains(&flow.verdict))
            && (self.causes.is_empty() || self.causes.contains(&flow.cause))
            && self.container.as_ref().is_none_or(container)
    }

    /// As it is sent.
    pub(crate) fn request(&self) -> FollowRequest {
        FollowRequest {
            namespace: self.namespace.clone().unwrap_or_default(),
            pod: self.pod.clone().unwrap_or_default(),
            container: self.container.clone().unwrap_or_default(),
            verdicts: self.verdicts.iter().copied().map(verdict).collect(),
            causes: self.causes.iter().copied().map(cause).collect(),
            since_micros: self.since.map_or(0, micros),
            only_new: self.only_new,
            follow: self.follow,
        }
    }

    /// As it was received.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(from: FollowRequest) -> Result<Self, String> {
        let name = |what: &str, name: String| match name.len() {
            0 => Ok(None),
            length if length > NAME_MAX => Err(format!("{what}: a name has at most {NAME_MAX} octets")),
            _ => Ok(Some(name)),
        };
        let follow = Self {
            namespace: name("namespace", from.namespace)?,
            pod: name("pod", from.pod)?,
            container: name("container", from.container)?,
            verdicts: all("verdicts", &from.verdicts, verdict_of)?,
            causes: all("causes", &from.causes, cause_of)?,
            since: (from.since_micros > 0).then(|| time(from.since_micros)),
            only_new: from.only_new,
            follow: from.follow,
        };
        if follow.pod.is_some() && follow.namespace.is_none() {
            return Err("pod: say its namespace too".to_owned());
        }
        Ok(follow)
    }
}

/// To leave out a value that is not known here would give more than was asked for, or nothing.
fn all<T: Ord>(what: &str, numbers: &[i32], of: impl Fn(i32) -> Option<T>) -> Result<BTreeSet<T>, String> {
    let one = |number: &i32| of(*number).ok_or_else(|| format!("{what}: {number} is none that this agent knows"));
    numbers.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::{flow, lost_of};

    #[test]
    fn what_is_asked_for_arrives_as_it_was_sent() {
        let all = Follow {
            namespace: Some("shop".into()),
            pod: Some("web".into()),
            container: Some("app".into()),
            verdicts: [RecordVerdict::Deny, RecordVerdict::Forged].into(),
            causes: [RecordCause::Isolated].into(),
            since: Some("2026-11-22T02:29:48.000123Z".parse().unwrap()),
            only_new: true,
            follow: true,
        };
        for follow in [all, Follow::default()] {
            assert_eq!(Follow::read(follow.request()), Ok(follow));
        }
    }

    #[test]
    fn a_request_that_makes_no_sense_is_refused() {
        let refused = |request: FollowRequest| Follow::read(request).unwrap_err();
        assert_eq!(refused(FollowRequest { pod: "web".into(), ..Default::default() }), "pod: say its namespace too");
        let long = FollowRequest { namespace: "n".repeat(NAME_MAX + 1), ..Default::default() };
        assert_eq!(refused(long), "namespace: a name has at most 253 octets");
        for number in [0, 7, -1, i32::MAX] {
            let newer = FollowRequest { verdicts: vec![1, number], ..Default::default() };
            assert_eq!(refused(newer), format!("verdicts: {number} is none that this agent knows"));
        }
        let causes = FollowRequest { causes: vec![99], ..Default::default() };
        assert_eq!(refused(causes), "causes: 99 is none that this agent knows");
        // Later than any time.
        let late = FollowRequest { since_micros: u64::MAX, ..Default::default() };
        assert!(Follow::read(late).unwrap().since > Some(Timestamp::now()));
    }

    #[test]
    fn a_record_must_be_all_that_is_asked_for() {
        let record = Record::Flow(Box::new(flow()));
        let shop = Follow { namespace: Some("shop".into()), ..Follow::default() };
        assert!(Follow::default().wants(&record) && shop.wants(&record));
        let wants = |change: fn(&mut Follow)| {
            let mut follow = shop.clone();
            change(&mut follow);
            follow.wants(&record)
        };
        assert!(wants(|f| f.pod = Some("web".into())));
        assert!(!wants(|f| f.pod = Some("web2".into())));
        assert!(!wants(|f| f.namespace = Some("shop2".into())));
        assert!(wants(|f| f.container = Some("app".into())));
        assert!(wants(|f| f.container = Some("db".into())), "the other end counts too");
        assert!(!wants(|f| f.container = Some("proxy".into())));
        assert!(wants(|f| f.verdicts = [RecordVerdict::Deny, RecordVerdict::AuditWouldDeny].into()));
        assert!(!wants(|f| f.verdicts = [RecordVerdict::Forged].into()));
        assert!(!wants(|f| f.causes = [RecordCause::NotDeclared].into()));
        assert!(wants(|f| f.since = Some(flow().time)));
        assert!(!wants(|f| f.since = Some("2030-01-01T00:00:00Z".parse().unwrap())));
    }

    #[test]
    fn what_is_missing_elsewhere_is_nobodys_business() {
        let shop =
            Follow { namespace: Some("shop".into()), verdicts: [RecordVerdict::Forged].into(), ..Follow::default() };
        assert!(shop.wants(&lost_of(Some(("shop", "web")))));
        assert!(!shop.wants(&lost_of(Some(("bank", "web")))));
        assert!(!shop.wants(&lost_of(None)));
        assert!(Follow::default().wants(&lost_of(None)));
    }
}
