//! How far the proxy is between its start and its end.

/// One after the other, and none twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It serves.
    Serving,
    /// The signal to stop has come. New connections are still taken, since whoever sends them may not know yet; `/readyz`
    /// says no, and every answer is its connection's last.
    Unready,
    /// Nothing new is taken; requests in flight go on until they end or the time to drain is over.
    Closing,
}
