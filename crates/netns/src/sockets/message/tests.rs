use super::*;

fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    octets.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    octets.extend(kind.to_ne_bytes());
    octets.extend(2_u16.to_ne_bytes());
    octets.extend(sequence.to_ne_bytes());
    octets.extend(99_u32.to_ne_bytes());
    octets.extend(body);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    octets.extend(((4 + value.len()) as u16).to_ne_bytes());
    octets.extend(kind.to_ne_bytes());
    octets.extend(value);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

/// A listener on 127.0.0.1:8080 as the kernel tells of it.
fn listener(cgroup: Option<u64>, inode: u32) -> Vec<u8> {
    let mut body = vec![AF_INET, 10, 0, 0];
    body.extend([8080_u16.to_be_bytes(), [0; 2]].concat());
    body.extend([127, 0, 0, 1]);
    body.extend([0; 28]);
    body.extend(3_u32.to_ne_bytes());
    body.extend([0; 8]);
    body.extend([0; 12]);
    body.extend(1337_u32.to_ne_bytes());
    body.extend(inode.to_ne_bytes());
    assert_eq!(body.len(), INET_MESSAGE);
    body.extend(attribute(8, &[0]));
    body.extend(cgroup.into_iter().flat_map(|id| attribute(INET_DIAG_CGROUP_ID, &id.to_ne_bytes())));
    body
}

fn frames(uid: u32) -> Vec<u8> {
    let mut body = vec![AF_PACKET, 3, 0, 3];
    body.extend(77_u32.to_ne_bytes());
    body.extend([0; 8]);
    assert_eq!(body.len(), PACKET_MESSAGE);
    let info: Vec<u8> = [4_u32, 0, 0, 0, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    body.extend(attribute(PACKET_DIAG_INFO, &info));
    body.extend(attribute(PACKET_DIAG_UID, &uid.to_ne_bytes()));
    body
}

fn told(octets: &[u8], protocol: Protocol) -> Vec<Told> {
    read(octets, 5, protocol).collect()
}

#[test]
fn a_list_is_read_to_its_end() {
    let mut octets = message(SOCK_DIAG_BY_FAMILY, 4, &listener(Some(1), 1));
    octets.extend(message(SOCK_DIAG_BY_FAMILY, 5, &listener(Some(4711), 88)));
    octets.extend(message(SOCK_DIAG_BY_FAMILY, 5, &listener(None, 0)));
    octets.extend(message(SOCK_DIAG_BY_FAMILY, 5, &listener(None, 89)));
    octets.extend(message(NLMSG_DONE, 5, &0_u32.to_ne_bytes()));
    let socket = Socket {
        protocol: Protocol::Tcp,
        local: Some("127.0.0.1:8080".parse().unwrap()),
        remote: None,
        device: Some(3),
        state: Some(State::Listen),
        uid: 1337,
        cgroup: Some(CgroupId(4711)),
        inode: 88,
    };
    let old = Socket { cgroup: None, inode: 89, ..socket.clone() };
    assert_eq!(
        told(&octets, Protocol::Tcp),
        [Told::Socket(socket), Told::Remains, Told::Socket(old), Told::Done],
        "what answers another request is left out"
    );
}

#[test]
fn packet_sockets_tell_their_user_and_device() {
    let octets = message(SOCK_DIAG_BY_FAMILY, 5, &frames(1000));
    let [Told::Socket(socket)] = &told(&octets, Protocol::Packet)[..] else { panic!() };
    assert_eq!((socket.uid, socket.device, socket.inode, socket.cgroup), (1000, Some(4), 77, None));
    assert_eq!((socket.local, socket.state), (None, None));
}

#[test]
fn an_error_is_told_by_its_number_wherever_the_kernel_puts_it() {
    let code = (-libc::ENOENT).to_ne_bytes();
    for kind in [NLMSG_DONE, NLMSG_ERROR] {
        assert_eq!(told(&message(kind, 5, &code), Protocol::Sctp), [Told::Failed(libc::ENOENT)]);
        assert_eq!(told(&message(kind, 5, &[]), Protocol::Sctp), [Told::Unreadable]);
    }
    assert_eq!(told(&message(NLMSG_ERROR, 5, &i32::MIN.to_ne_bytes()), Protocol::Tcp), [Told::Failed(i32::MIN)]);
}

/// Whatever is cut off, nothing panics, nothing goes on for ever, and nothing incomplete is taken for a socket that it is not.
#[test]
fn truncated_and_garbled_messages_are_unreadable() {
    for (body, protocol) in [(listener(Some(9), 1), Protocol::Tcp), (frames(0), Protocol::Packet)] {
        let whole = message(SOCK_DIAG_BY_FAMILY, 5, &body);
        let Told::Socket(expected) = told(&whole, protocol).remove(0) else { panic!() };
        for length in 1..whole.len() {
            // The datagram is cut.
            let found = told(&whole[..length], protocol);
            assert!(found.len() == 1 && found[0] == Told::Unreadable, "{length}: {found:?}");
        }
        for length in 0..body.len() {
            // The message says that it is shorter. Where an attribute ends, that can't be seen.
            for found in told(&message(SOCK_DIAG_BY_FAMILY, 5, &body[..length]), protocol) {
                let Told::Socket(found) = found else { continue };
                assert_eq!((found.uid, found.inode), (expected.uid, expected.inode));
                assert!(found.cgroup.is_none());
            }
        }
        for at in 0..whole.len() {
            for value in [0, 1, 3, 4, 15, 127, 255] {
                let mut garbled = whole.clone();
                garbled[at] = value;
                assert!(told(&garbled, protocol).len() <= 2);
            }
        }
    }
    for octets in [&[0; 16][..], &[255; 64], &[16, 0, 0], &[4, 0, 0, 0, 0, 0, 0, 0]] {
        assert_eq!(told(octets, Protocol::Udp), [Told::Unreadable]);
    }
    assert_eq!(told(&[], Protocol::Udp), []);
    let family = message(SOCK_DIAG_BY_FAMILY, 5, &[&[7_u8], &listener(Some(1), 1)[1..]].concat());
    assert_eq!(told(&family, Protocol::Tcp), [Told::Unreadable]);
}

#[test]
fn requests_are_as_long_as_their_structures() {
    for request in [open(), held()].concat() {
        let octets = request.bytes(7);
        let length = if request == Request::Packet { PACKET_REQUEST } else { INET_REQUEST };
        assert_eq!(octets.len(), HEADER + length);
        assert_eq!(u32_at(&octets, 0), Some(octets.len() as u32));
    }
}

#[test]
fn each_socket_is_asked_for_once() {
    assert_eq!((open().len(), held().len()), (11, 10));
    for (open, held) in open().into_iter().zip(held()) {
        let (Request::Inet { states: one, .. }, Request::Inet { states: other, .. }) = (open, held) else { panic!() };
        assert_eq!((open.protocol(), one & other), (held.protocol(), 0));
        assert_eq!(one | other, !(1 << 3 | 1 << 6 | 1 << 12));
    }
}
