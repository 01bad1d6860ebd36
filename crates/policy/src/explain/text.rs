//! An explanation as text.

use super::advice::Adviser;
use super::{Advice, Change, EndName, Explanation, Side, other};
use crate::evaluate::{End, Half, Level, Reason};
use crate::model::PolicyName;
use sidewall_flow::{Action, Direction, Party};
use std::fmt;

/// An end of a flow.
pub fn end(name: &EndName) -> String {
    let who = match (&name.container, &name.address) {
        (Some(container), _) => container.clone(),
        (None, Some(address)) => address.to_string(),
        (None, None) => "nobody".to_owned(),
    };
    if name.known_as.is_empty() { who } else { format!("{who} ({})", name.known_as.join(", ")) }
}

/// Why a side came out as it did.
pub fn reason(adviser: &Adviser<'_>, half: &Half) -> String {
    let flow = adviser.flow;
    let port = format!("{}/{}", flow.protocol, flow.port);
    match &half.reason {
        Reason::Itself => "a container always reaches itself".to_owned(),
        Reason::NotIsolated => format!("no policy isolates it for this{}", captured(adviser, half)),
        Reason::Allowed { rule } => format!("{rule} allows it{}", captured(adviser, half)),
        Reason::Captured { by, proxy } => {
            format!("{by} captures what comes to {port} from the network for {proxy}, and it reaches nobody else")
        }
        Reason::Isolated { by } => {
            let by: Vec<String> = by.iter().map(PolicyName::to_string).collect();
            let other = other(flow, half.direction);
            let who = end(&adviser.end(other));
            let toward = match half.direction {
                Direction::Ingress => "from",
                Direction::Egress => "to",
            };
            let why = match other {
                End::Remote(address) if half.direction == Direction::Egress => {
                    adviser.missing_behind(address, half.level)
                }
                _ => None,
            };
            let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
            format!("isolated by {}, and no rule allows {port} {toward} {who}{why}", by.join(", "))
        }
        Reason::NotDeclared { owner } => {
            let how = if adviser.pod.identities.by_port() {
                "by user a receiver is known by the port that it declares"
            } else {
                "the parts of a split pod are joined by declared ports alone"
            };
            match owner {
                Some(owner) => format!("{owner} declares {port}, and {how}"),
                None if matches!(half.party, Party::Container(_)) => format!("it does not declare {port}, and {how}"),
                None => format!("no container declares {port}, and {how}"),
            }
        }
        Reason::NotReady { part } => format!("the part {part} of the split pod is not ready: nothing is carried there"),
    }
}

/// Where a flow is led, if not to the port that it aims at.
fn captured(adviser: &Adviser<'_>, half: &Half) -> String {
    let captured = adviser.pod.captures(adviser.flow).filter(|_| half.level == Level::Container);
    let led = captured.map(|captured| format!(" ({} captures it: it arrives at port {})", captured.by, captured.port));
    led.unwrap_or_default()
}

const fn word(action: Action) -> &'static str {
    match action {
        Action::Allow => "allowed",
        Action::Deny => "denied",
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, pod, protocol, port, .. } = self;
        let (sender, receiver) = (end(&self.sender), end(&self.receiver));
        writeln!(f, "{}: {sender} to {receiver}, {protocol}/{port}, in pod {namespace}/{pod}", word(self.verdict))?;
        self.sides.iter().try_for_each(|side| write!(f, "{side}"))?;
        advice(f, &self.advice)?;
        if let Some(audit) = &self.audit {
            writeln!(f, "with the Audit policies: {}", word(audit.verdict))?;
            audit.sides.iter().try_for_each(|side| write!(f, "{side}"))?;
            advice(f, &audit.advice)?;
        }
        for note in &self.notes {
            match &note.policy {
                Some(policy) => writeln!(f, "note: {policy}: {}", note.message)?,
                None => writeln!(f, "note: {}", note.message)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match (self.level, &self.network) {
            (Level::Container, _) => self.container.clone(),
            (Level::Pod, None) => "the pod".to_owned(),
            (Level::Pod, Some(network)) => format!("the pod on {network}"),
        };
        writeln!(f, "  {} of {whose}: {}: {}", self.direction, word(self.verdict), self.message)
    }
}

fn advice(f: &mut fmt::Formatter<'_>, advice: &[Advice]) -> fmt::Result {
    if advice.is_empty() {
        return Ok(());
    }
    writeln!(f, "what would allow it:")?;
    for Advice { message, change } in advice {
        match change {
            None => writeln!(f, "  {message}")?,
            Some(change) => {
                writeln!(f, "  {message}:")?;
                change.yaml().lines().try_for_each(|line| writeln!(f, "    {line}"))?;
            }
        }
    }
    Ok(())
}

impl Change {
    /// What to write, in YAML.
    pub fn yaml(&self) -> String {
        match self {
            Self::AllowRule(rule) => rule.yaml.clone(),
            Self::AllowAtEdge(rule) => rule.yaml.clone(),
            Self::DeclarePort { container, protocol, port } => {
                let container = super::yaml::scalar(container);
                format!("- name: {container}\n  ports: [{{containerPort: {port}, protocol: {protocol}}}]")
            }
        }
    }
}
