//! The questions.

use std::path::Path;

use crate::call::Caller;
use crate::connection;
use crate::details::Details;
use crate::error::{BadAnswer, Call, Error};
use crate::events::Events;
use crate::model::{Container, ContainerStatus, RuntimeStatus, Sandbox, SandboxStatus, Version};
use crate::options::Options;
use crate::wire::runtime as wire;
use sidewall_runtime_ids::{ContainerId, SandboxId};

/// A connection to the container runtime. Clones share it; calls may run at the same time.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) caller: Caller,
    options: Options,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`Error::NotThere`], [`Error::NotPermitted`] or [`Error::NotConnected`]. Who listens but does not speak CRI is found
    /// out by the first question only: ask for the [`Client::version`].
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let connection = connection::open(&options).await?;
        Ok(Self { caller: Caller::new(connection, options.answer_most), options })
    }

    /// The socket that this is connected to.
    pub fn socket(&self) -> &Path {
        &self.options.socket
    }

    /// Who answers.
    pub async fn version(&self) -> Result<Version, Error> {
        let answer: wire::VersionResponse = self.ask(Call::Version, &wire::VersionRequest::default()).await?;
        Ok(answer.into())
    }

    /// How the runtime is, and which runtime handlers it has.
    pub async fn status(&self) -> Result<RuntimeStatus, Error> {
        let answer: wire::StatusResponse = self.ask(Call::Status, &wire::StatusRequest::default()).await?;
        Ok(answer.into())
    }

    /// All sandboxes, those that have stopped too, by their ids.
    pub async fn sandboxes(&self) -> Result<Vec<Sandbox>, Error> {
        let call = Call::ListPodSandbox;
        let answer: wire::ListPodSandboxResponse = self.ask(call, &wire::ListPodSandboxRequest::default()).await?;
        let mut all: Vec<Sandbox> = convert_all(call, answer.items)?;
        all.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(all)
    }

    /// All containers, those that have ended too, by their ids.
    pub async fn containers(&self) -> Result<Vec<Container>, Error> {
        let call = Call::ListContainers;
        let answer: wire::ListContainersResponse = self.ask(call, &wire::ListContainersRequest::default()).await?;
        let mut all: Vec<Container> = convert_all(call, answer.containers)?;
        all.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(all)
    }

    /// One sandbox in full.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is none of that id (any more).
    pub async fn sandbox_status(&self, id: &SandboxId) -> Result<SandboxStatus, Error> {
        let call = Call::PodSandboxStatus;
        let question = wire::PodSandboxStatusRequest { pod_sandbox_id: id.to_string(), verbose: true };
        let answer: wire::PodSandboxStatusResponse = self.ask(call, &question).await?;
        let mut status: SandboxStatus = convert(call, required(call, "status", answer.status)?)?;
        status.details = details(call, &answer.info)?;
        Ok(status)
    }

    /// One container in full.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is none of that id (any more).
    pub async fn container_status(&self, id: &ContainerId) -> Result<ContainerStatus, Error> {
        let call = Call::ContainerStatus;
        let question = wire::ContainerStatusRequest { container_id: id.to_string(), verbose: true };
        let answer: wire::ContainerStatusResponse = self.ask(call, &question).await?;
        let mut status: ContainerStatus = convert(call, required(call, "status", answer.status)?)?;
        status.details = details(call, &answer.info)?;
        Ok(status)
    }

    /// What comes and goes from now on. Nothing is asked before the first [`Events::next`].
    pub fn events(&self) -> Events {
        Events::new(self.caller.clone())
    }

    async fn ask<A: prost::Message + Default>(&self, call: Call, question: &impl prost::Message) -> Result<A, Error> {
        self.caller.ask(call, question, self.options.answer_within).await
    }
}

fn convert<W, T: TryFrom<W, Error = BadAnswer>>(call: Call, from: W) -> Result<T, Error> {
    from.try_into().map_err(|problem| Error::BadAnswer { call, problem })
}

fn convert_all<W, T: TryFrom<W, Error = BadAnswer>>(call: Call, from: Vec<W>) -> Result<Vec<T>, Error> {
    from.into_iter().map(|one| convert(call, one)).collect()
}

fn required<T>(call: Call, field: &'static str, value: Option<T>) -> Result<T, Error> {
    value.ok_or(Error::BadAnswer { call, problem: BadAnswer::Missing(field) })
}

fn details(call: Call, info: &std::collections::BTreeMap<String, String>) -> Result<Option<Details>, Error> {
    Details::read(info).map_err(|problem| Error::BadAnswer { call, problem })
}
