use super::*;
use crate::testing::{end, number, record};
use crate::{Client, ClientError, QUEUE};

struct Offered {
    hub: Hub,
    server: Option<Server>,
    dir: tempfile::TempDir,
}

fn offered() -> (Offered, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    // A pod's directory can be longer than a socket's address.
    let long = dir.path().join("n".repeat(200));
    fs::create_dir(&long).unwrap();
    let hub = Hub::new();
    let server = Some(Server::start(&long, hub.clone()).unwrap());
    (Offered { hub, server, dir }, long)
}

#[test]
fn a_client_reads_what_was_kept_and_what_comes_to_the_end() {
    let (mut offered, at) = offered();
    offered.hub.publish(record(1));
    let mut once = Client::connect(&at, false).unwrap();
    assert_eq!(number(&once.next().unwrap().unwrap()), Some(1));
    assert!(once.next().is_none());
    let mut client = Client::connect(&at, true).unwrap();
    assert_eq!(number(&client.next().unwrap().unwrap()), Some(1));
    offered.hub.publish(record(2));
    assert_eq!(number(&client.next().unwrap().unwrap()), Some(2));
    offered.hub.publish(end());
    offered.hub.end();
    assert!(matches!(client.next(), Some(Ok(Record::End(_)))));
    assert!(client.next().is_none());
    drop(offered.server.take());
    assert!(!at.join(SOCKET).exists());
    assert!(matches!(Client::connect(&at, false), Err(ClientError::Nobody(_))));
    assert!(offered.dir.path().exists());
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up() {
    const PUBLISHED: u32 = 100_000;
    let (offered, at) = offered();
    let mut stuck = Client::connect(&at, true).unwrap();
    let mut reading = Client::connect(&at, true).unwrap();
    for n in 0..PUBLISHED {
        offered.hub.publish(record(n));
    }
    let all = |client: &mut Client| {
        let (mut records, mut lost) = (0, 0);
        while records + lost < u64::from(PUBLISHED) {
            match client.next().unwrap().unwrap() {
                Record::Lost(missing) => lost += missing.count,
                _ => records += 1,
            }
        }
        (records, lost)
    };
    for client in [&mut reading, &mut stuck] {
        let (records, lost) = all(client);
        assert_eq!(records + lost, u64::from(PUBLISHED));
        assert!(lost > 0 && records > QUEUE as u64, "{records} given, {lost} lost");
    }
}

#[test]
fn connections_are_limited_and_those_that_go_leave_their_place() {
    let (_offered, at) = offered();
    let mut all: Vec<Client> = (0..CONNECTIONS_MAX).map(|_| Client::connect(&at, true).unwrap()).collect();
    let refused = Client::connect(&at, true);
    assert!(matches!(refused, Err(ClientError::Refused { .. })), "{refused:?}");
    all.pop();
    let begun = Instant::now();
    while Client::connect(&at, true).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "its place is not free again");
        thread::sleep(PATIENCE);
    }
}

#[test]
fn a_refusal_is_read_also_where_the_connection_was_closed_first() {
    let dir = tempfile::tempdir().unwrap();
    let listener = listen(dir.path()).unwrap();
    let refuses = thread::spawn(move || {
        assert!(readable(&listener, Duration::from_secs(20)));
        let (stream, _) = listener.accept().unwrap();
        say(&mut &stream, &Reply { version: Version, kept: 0, refused: Some("one too many".to_owned()) }).unwrap();
    });
    let directory = Directory::open(dir.path()).unwrap();
    let stream = UnixStream::connect(directory.file(SOCKET)).unwrap();
    refuses.join().unwrap();
    let refused = Client::ask(stream, &dir.path().join(SOCKET), true);
    assert!(matches!(&refused, Err(ClientError::Refused { reason, .. }) if reason == "one too many"), "{refused:?}");
}

#[test]
fn other_requests_are_refused_with_a_reason() {
    let (_offered, at) = offered();
    let directory = Directory::open(&at).unwrap();
    for (request, reply) in [
        (r#"{"version":1,"follow":false,"since":0}"#.to_owned(), "unknown field `since`"),
        (r#"{"version":2,"follow":false}"#.to_owned(), "of version 2"),
        ("GET / HTTP/1.1".to_owned(), "can't be read"),
    ] {
        let mut stream = UnixStream::connect(directory.file(SOCKET)).unwrap();
        stream.write_all(format!("{request}\n").as_bytes()).unwrap();
        let line = read_line(&mut BufReader::new(&stream)).unwrap().unwrap();
        let refused = serde_json::from_str::<Reply>(&line).unwrap().refused.unwrap();
        assert!(refused.contains(reply), "{refused}");
    }
    // A line without end is not read to its end.
    let mut stream = UnixStream::connect(directory.file(SOCKET)).unwrap();
    let _ = stream.write_all(&vec![b'x'; 1 << 20]);
    assert!(!matches!(read_line(&mut BufReader::new(&stream)), Ok(Some(_))));
}

#[test]
fn the_socket_is_for_its_owner_alone() {
    let (_offered, at) = offered();
    assert_eq!(fs::metadata(at.join(SOCKET)).unwrap().permissions().mode() & 0o777, 0o600);
}
