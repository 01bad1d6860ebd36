//! What policies mean for a pod, judged by flows.

mod edges;
mod entities;
mod isolation;
mod networks;
mod peers;
mod ports;
mod proxy;
mod services;
mod trouble;
