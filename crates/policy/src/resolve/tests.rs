//! What policies mean for a pod, judged by flows.

mod entities;
mod isolation;
mod peers;
mod ports;
mod proxy;
mod services;
mod trouble;
