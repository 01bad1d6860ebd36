//! Which records are shown.

use sidewall_flow::{Action, FlowRecord, Record, RecordVerdict, Timestamp};
use sidewall_flowstream::Follow;

use crate::args::Flows;

/// What the command line asks for.
pub struct Filter {
    since: Option<Timestamp>,
    denied: bool,
    audit: bool,
    container: Option<String>,
}

impl Filter {
    /// From the command line.
    pub fn new(options: &Flows, now: Timestamp) -> Self {
        Self {
            since: options.since.map(|since| since.time(now)),
            denied: options.denied,
            audit: options.audit,
            container: options.container.clone(),
        }
    }

    /// The same, for an agent.
    pub fn ask(&self, namespace: Option<&str>, pod: Option<&str>, follow: bool) -> Follow {
        use RecordVerdict::{Allow, AuditWouldAllow, AuditWouldDeny, Deny, Forged, Improper};
        let wanted = |verdict: &RecordVerdict| {
            (!self.denied || verdict.enforced() == Action::Deny) && (!self.audit || verdict.is_audit())
        };
        let verdicts = [Deny, Allow, AuditWouldDeny, AuditWouldAllow, Forged, Improper].into_iter().filter(wanted);
        Follow {
            namespace: namespace.map(str::to_owned),
            pod: pod.map(str::to_owned),
            container: self.container.clone(),
            // A newer agent may have further verdicts, which are shown unless somebody chose.
            verdicts: if self.denied || self.audit { verdicts.collect() } else { Default::default() },
            since: self.since,
            follow,
            ..Follow::default()
        }
    }

    /// Whether a record is shown. What tells of no flow is, because what is missing might have been.
    pub fn admits(&self, record: &Record) -> bool {
        self.since.is_none_or(|since| record.time() >= since) && record.flow().is_none_or(|flow| self.admits_flow(flow))
    }

    fn admits_flow(&self, flow: &FlowRecord) -> bool {
        let container = |wanted: &String| {
            [&flow.container, &flow.peer.container].into_iter().any(|container| container.as_ref() == Some(wanted))
        };
        (!self.denied || flow.verdict.enforced() == Action::Deny)
            && (!self.audit || flow.verdict.is_audit())
            && self.container.as_ref().is_none_or(container)
    }

    /// Of the records that are shown, those from the `last`-last flow on.
    pub fn last<'a>(&self, records: &'a [Record], last: Option<usize>) -> Vec<&'a Record> {
        let shown: Vec<&Record> = records.iter().filter(|record| self.admits(record)).collect();
        let Some(last) = last else { return shown };
        let flows = shown.iter().enumerate().filter(|(_, record)| record.flow().is_some());
        let first = flows.rev().map(|(place, _)| place).nth(last.saturating_sub(1));
        let from = if last == 0 { shown.len() } else { first.unwrap_or(0) };
        shown[from..].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn filter(args: &[&str]) -> Filter {
        let cli = Cli::parse_from([&["sidewall", "flows", "web"], args].concat());
        let Command::Flows(options) = cli.command else { panic!("it is flows") };
        Filter::new(&options, "2026-11-22T02:30:00Z".parse().unwrap())
    }

    fn record(time: &str, container: &str, peer: Option<&str>, verdict: &str) -> Record {
        let mut line = serde_json::json!({
            "record": "flow", "version": 1, "time": time, "namespace": "shop", "pod": "web", "party": "container",
            "container": container, "direction": "egress", "wire": "loopback", "local": {}, "way": "leaving",
            "peer": {"kind": "container"}, "reply": false, "verdict": verdict, "cause": "isolated", "decision": "sw:deny/x",
        });
        if let Some(peer) = peer {
            line["peer"]["container"] = peer.into();
        }
        Record::from_line(&line.to_string()).unwrap()
    }

    fn lost(time: &str) -> Record {
        let line = format!(r#"{{"record":"lost","version":1,"time":"{time}","count":3,"place":"kernel"}}"#);
        Record::from_line(&line).unwrap()
    }

    #[test]
    fn records_are_chosen_by_all_that_is_asked() {
        let old = record("2026-11-22T02:10:00Z", "app", None, "deny");
        let audit = record("2026-11-22T02:29:30Z", "app", Some("shipper"), "audit-would-deny");
        let forged = record("2026-11-22T02:29:40Z", "proxy", None, "forged");
        let chosen = |args: &[&str]| {
            let filter = filter(args);
            [&old, &audit, &forged].map(|record| filter.admits(record))
        };
        assert_eq!(chosen(&[]), [true, true, true]);
        assert_eq!(chosen(&["--since", "10m"]), [false, true, true]);
        assert_eq!(chosen(&["--since", "2026-11-22T02:29:35Z"]), [false, false, true]);
        assert_eq!(chosen(&["--denied"]), [true, false, true]);
        assert_eq!(chosen(&["--audit"]), [false, true, false]);
        assert_eq!(chosen(&["--container", "shipper"]), [false, true, false]);
        assert_eq!(chosen(&["--denied", "--container", "app"]), [true, false, false]);
    }

    #[test]
    fn an_agent_is_asked_for_the_same() {
        let records = ["deny", "allow", "audit-would-deny", "audit-would-allow", "forged", "improper"]
            .map(|verdict| record("2026-11-22T02:29:30Z", "app", None, verdict));
        for args in [&[][..], &["--denied"], &["--audit"], &["--container", "app"], &["--since", "10s"]] {
            let filter = filter(args);
            let follow = filter.ask(Some("shop"), Some("web"), false);
            for record in &records {
                assert_eq!(follow.wants(record), filter.admits(record), "{args:?} {record:?}");
            }
        }
    }

    #[test]
    fn the_last_flows_keep_what_is_missing_between_them() {
        let at = |minute: u8| format!("2026-11-22T02:{minute:02}:00Z");
        let flow = |minute| record(&at(minute), "app", None, "deny");
        let all = [flow(1), lost(&at(2)), flow(3), lost(&at(4)), flow(5)];
        let last = |n| filter(&[]).last(&all, Some(n)).len();
        assert_eq!([last(0), last(1), last(2), last(3), last(9)], [0, 1, 3, 5, 5]);
        assert_eq!(filter(&[]).last(&all, None).len(), 5);
    }
}
