//! One party of a pod in the tests: a process in a container's cgroup, user and network namespace that makes sockets.
//!
//! The identity of a socket is that of its maker, so the test asks this process for sockets and uses them itself: one
//! process a party, and none a flow. The requests come over the socket that is its standard input.
#![forbid(unsafe_code)]

use sidewall_tests::party::serve;

fn main() {
    if let Err(error) = serve(std::io::stdin()) {
        eprintln!("party: {error}");
        std::process::exit(1);
    }
}
