//! A plugin of the container runtime, by the Node Resource Interface (NRI) that containerd and CRI-O offer: told of each
//! container before its first instruction, and able to refuse it.
//!
//! ```text
//! unix socket ── mux: two connections in one ── ttrpc: requests and responses ── Handler
//! ```
//!
//! [`serve`] is one session: it connects, registers, is given what there is ([`Handler::synchronize`]), hears of what comes
//! and goes until the connection ends, and says why it ended. [`run`] does so again and again.
//!
//! **The runtime waits for every answer, and for all pods at once**: containerd holds a lock while a plugin has an event,
//! so that whoever takes long here holds up the whole node. It does not wait for ever: after its request timeout (2 s
//! unless configured) **it closes the plugin and goes on without it**, which starts the container. Hence every callback has
//! a limit of its own below that one, after which the answer is given in its stead ([`Handler::late`]; a veto unless said
//! otherwise). A callback that panics is answered with a veto too, where panics unwind; where they abort, as in our
//! releases, the connection ends with the process, and what stands are the rules in the kernel.
//!
//! **Both forms of the protocol** are understood: events as `StateChange` (NRI up to 0.10, which is containerd 1.7 to 2.2)
//! and with a call each (newer ones, which fall back on the other form for plugins that do not have it), and a
//! synchronisation in one piece or in many.
//!
//! **Everything has a limit**: messages, the whole of a synchronisation, callbacks under way, waiting for the runtime to
//! read ([`Options`]). ttrpc is written here and not taken from a library: it is a header of ten bytes around two messages,
//! and a server that must answer in time, whatever its handlers do, has to own it.
//!
//! CRI-O has not been tried; it uses the same implementation of the runtime's side as containerd.
#![forbid(unsafe_code)]

mod answer;
mod ask;
mod end;
mod handler;
mod model;
mod mux;
mod options;
mod run;
mod session;
mod ttrpc;
mod wire;

pub use end::{End, Violation};
pub use handler::{Event, Handler, Late, LateCallback, Veto};
pub use model::{Container, ContainerState, Network, Pod, RuntimeInfo, User};
pub use options::{BadIndex, Options, PluginIndex, Retry};
pub use run::run;
pub use session::serve;
pub use sidewall_runtime_ids::{BadId, ContainerId, ID_MAX, SandboxId};
