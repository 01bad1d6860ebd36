//! What policies mean for a pod, judged by flows.

mod edges;
mod entities;
mod isolation;
mod networks;
mod peers;
mod ports;
mod properties;
mod proxy;
mod reference;
mod services;
mod trouble;
