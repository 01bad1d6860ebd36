//! What the runtime asks: from either form of the protocol to one.

use bytes::Bytes;
use prost::Message;

use crate::handler::Event;
use crate::model::{Container, Pod};
use crate::ttrpc::code;
use crate::wire::{nri, ttrpc};
use sidewall_runtime_ids::BadId;

/// The services that this is: the one that there is, and the name that is announced for the next. Their messages are the
/// same as far as we read them.
const SERVICES: [&str; 2] = ["nri.pkg.api.v1alpha1.Plugin", "nri.pkg.api.v1beta1.Plugin"];

/// What is asked.
#[derive(Debug, PartialEq)]
pub(crate) enum Ask {
    Configure(nri::ConfigureRequest),
    Synchronize(Synchronize),
    Shutdown,
    Pod(Event, Box<Pod>),
    Container(Event, Box<Pod>, Box<Container>),
    /// Something that is none of our concern: it is answered that all is well.
    Nothing,
}

/// A part of what there is.
#[derive(Debug, PartialEq)]
pub(crate) struct Synchronize {
    pub(crate) pods: Vec<Pod>,
    pub(crate) containers: Vec<Container>,
    pub(crate) more: bool,
}

/// A status instead of an answer.
pub(crate) type Status = (i32, String);

impl Ask {
    pub(crate) fn read(request: ttrpc::Request) -> Result<Self, Status> {
        use nri::Event as E;
        if !SERVICES.contains(&request.service.as_str()) {
            return Err((code::UNIMPLEMENTED, "not a service of this plugin".into()));
        }
        let event = match request.method.as_str() {
            "Configure" => return Ok(Self::Configure(decode(request.payload)?)),
            "Synchronize" => return synchronize(decode(request.payload)?),
            "Shutdown" => return Ok(Self::Shutdown),
            "StateChange" => {
                let nri::StateChangeEvent { event, pod, container } = decode(request.payload)?;
                // An event that we do not know is none that we asked for.
                return read(E::try_from(event).unwrap_or(E::Unknown), nri::EventRequest { pod, container });
            }
            "RunPodSandbox" => E::RunPodSandbox,
            "StopPodSandbox" => E::StopPodSandbox,
            "RemovePodSandbox" => E::RemovePodSandbox,
            "CreateContainer" => E::CreateContainer,
            "StartContainer" => E::StartContainer,
            "StopContainer" => E::StopContainer,
            "RemoveContainer" => E::RemoveContainer,
            "PostCreateContainer"
            | "PostStartContainer"
            | "UpdateContainer"
            | "PostUpdateContainer"
            | "UpdatePodSandbox"
            | "PostUpdatePodSandbox" => return Ok(Self::Nothing),
            _ => return Err((code::UNIMPLEMENTED, "not a method of this plugin".into())),
        };
        read(event, decode(request.payload)?)
    }
}

/// The bits by which a plugin says what it wants to be told.
pub(crate) fn subscription(ask_at_create: bool) -> i32 {
    use nri::Event as E;
    let mut events = vec![
        E::RunPodSandbox,
        E::StopPodSandbox,
        E::RemovePodSandbox,
        E::StartContainer,
        E::StopContainer,
        E::RemoveContainer,
    ];
    if ask_at_create {
        events.push(E::CreateContainer);
    }
    events.into_iter().fold(0, |bits, event| bits | 1 << (i32::from(event) - 1))
}

fn read(event: nri::Event, about: nri::EventRequest) -> Result<Ask, Status> {
    use nri::Event as E;
    let pod = || {
        let pod = about.pod.ok_or_else(|| missing("pod"))?;
        Pod::try_from(pod).map(Box::new).map_err(bad)
    };
    let container = || {
        let container = about.container.ok_or_else(|| missing("container"))?;
        Container::try_from(container).map(Box::new).map_err(bad)
    };
    Ok(match event {
        E::RunPodSandbox => Ask::Pod(Event::RunPod, pod()?),
        E::StopPodSandbox => Ask::Pod(Event::StopPod, pod()?),
        E::RemovePodSandbox => Ask::Pod(Event::RemovePod, pod()?),
        E::CreateContainer => Ask::Container(Event::CreateContainer, pod()?, container()?),
        E::StartContainer => Ask::Container(Event::StartContainer, pod()?, container()?),
        E::StopContainer => Ask::Container(Event::StopContainer, pod()?, container()?),
        E::RemoveContainer => Ask::Container(Event::RemoveContainer, pod()?, container()?),
        E::Unknown | E::PostCreateContainer | E::PostStartContainer | E::UpdateContainer | E::PostUpdateContainer => {
            Ask::Nothing
        }
    })
}

fn synchronize(from: nri::SynchronizeRequest) -> Result<Ask, Status> {
    let pods = from.pods.into_iter().map(Pod::try_from).collect::<Result<_, _>>().map_err(bad)?;
    let containers = from.containers.into_iter().map(Container::try_from).collect::<Result<_, _>>().map_err(bad)?;
    Ok(Ask::Synchronize(Synchronize { pods, containers, more: from.more }))
}

fn decode<M: Message + Default>(payload: Bytes) -> Result<M, Status> {
    M::decode(payload).map_err(|error| (code::INVALID_ARGUMENT, format!("not a message of that method: {error}")))
}

fn missing(field: &str) -> Status {
    (code::INVALID_ARGUMENT, format!("`{field}` is missing"))
}

fn bad(problem: BadId) -> Status {
    (code::INVALID_ARGUMENT, problem.to_string())
}

#[cfg(test)]
mod tests;
