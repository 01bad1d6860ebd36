//! The front proxy configuration: plain data that serde reads.
