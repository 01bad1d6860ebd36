//! What an [`crate::lab::attacker::Attacker`] is told to do, as code, where several tests tell the same.

use std::net::IpAddr;

/// Code that listens over TCP; several may listen at one place.
pub fn listens(at: IpAddr, port: u16) -> String {
    format!(
        "delete $keep{{$_}} for qw(l a);
         $keep{{l}} = bound(SOCK_STREAM, '{at}', {port}, options => [[SOL_SOCKET, SO_REUSEADDR, pack('i', 1)], [{}, pack('i', 1)]]);
         listen($keep{{l}}, 8) or fail('listen'); 1",
        if at.is_ipv4() { "0, 15" } else { "41, 78" }
    )
}

/// Code that says what has come to who listens.
pub const ACCEPTS: &str =
    "my $set = ''; vec($set, fileno($keep{l}), 1) = 1; select($set, undef, undef, 3) or return 'nobody';
     accept($keep{a}, $keep{l}) or fail('accept'); $set = ''; vec($set, fileno($keep{a}), 1) = 1;
     select($set, undef, undef, 3); waiting($keep{a})";

/// Code that connects and says hello.
pub fn dials(to: IpAddr, port: u16) -> String {
    format!(
        "delete $keep{{c}}; $keep{{c}} = made(family('{to}'), SOCK_STREAM); dial($keep{{c}}, 'hello', '{to}', {port})"
    )
}

/// Code for the port that a connection was meant for (`SO_ORIGINAL_DST`, `IP6T_SO_ORIGINAL_DST`).
pub fn original(socket: &str, family: usize) -> String {
    format!("my $name = getsockopt({socket}, {}, 80) // fail('original'); unpack('x2 n', $name)", [0, 41][family])
}
