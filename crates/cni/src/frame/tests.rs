use super::*;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// What `receive` makes of these octets, after which the other side closes.
fn receive_octets(octets: &[u8]) -> Result<Frame, FrameError> {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.write_all(octets).unwrap();
    drop(ours);
    receive(&theirs, soon())
}

/// Sends octets with copies of a descriptor.
fn send_raw(over: &UnixStream, octets: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    assert_eq!(sendmsg(over, &[IoSlice::new(octets)], &mut control, SendFlags::empty()).unwrap(), octets.len());
}

#[test]
fn a_frame_with_a_descriptor_arrives_as_it_was_sent() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"here").unwrap();
    for length in [1, 4, CHUNK - 1, CHUNK, 3 * CHUNK + 7, DOCUMENT_MAX] {
        let document: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        let sent = document.clone();
        let copy = file.try_clone().unwrap();
        let over = ours.try_clone().unwrap();
        let sender = thread::spawn(move || send(&over, &sent, Some(copy.as_fd()), soon()));
        let frame = receive(&theirs, soon()).unwrap();
        sender.join().unwrap().unwrap();
        assert_eq!(frame.document, document);
        let mut text = String::new();
        let mut got = File::from(frame.descriptor.unwrap());
        got.rewind().unwrap();
        got.read_to_string(&mut text).unwrap();
        assert_eq!(text, "here");
    }
    send(&ours, b"x", None, soon()).unwrap();
    assert!(receive(&theirs, soon()).unwrap().descriptor.is_none());
}

#[test]
fn a_frame_may_come_an_octet_at_a_time() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut incoming = Incoming::default();
    assert!(matches!(incoming.receive(&theirs), Ok(Step::Wait)));
    let octets = [&3_u32.to_be_bytes()[..], b"abc"].concat();
    for (index, octet) in octets.iter().enumerate() {
        ours.write_all(&[*octet]).unwrap();
        match incoming.receive(&theirs).unwrap() {
            Step::More => assert!(index < 6),
            Step::Done(frame) => assert_eq!((frame.document.as_slice(), index), (&b"abc"[..], 6)),
            Step::Wait => panic!("octet {index} was there"),
        }
        assert!(matches!(incoming.receive(&theirs), Ok(Step::Wait)));
    }
}

#[test]
fn what_is_no_frame_is_refused() {
    assert!(matches!(receive_octets(b""), Err(FrameError::Closed)));
    assert!(matches!(receive_octets(b"\0\0"), Err(FrameError::Closed)));
    assert!(matches!(receive_octets(b"\0\0\0\x03ab"), Err(FrameError::Closed)));
    assert!(matches!(receive_octets(b"\0\0\0\0"), Err(FrameError::Empty)));
    assert!(matches!(receive_octets(b"GET / HTTP/1.1\r\n"), Err(FrameError::TooLong(_))));
    let over = u32::try_from(DOCUMENT_MAX + 1).unwrap().to_be_bytes();
    assert!(matches!(receive_octets(&over), Err(FrameError::TooLong(_))));
    let (ours, _theirs) = UnixStream::pair().unwrap();
    assert!(matches!(send(&ours, b"", None, soon()), Err(FrameError::Empty)));
    assert!(matches!(send(&ours, &vec![b' '; DOCUMENT_MAX + 1], None, soon()), Err(FrameError::TooLong(_))));
}

/// How many of this process's descriptors lead to a file.
fn open_here(path: &std::path::Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| entry.ok()?.path().read_link().ok());
    links.filter(|link| link == path).count()
}

#[test]
fn more_than_one_descriptor_is_refused_and_none_is_left_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let file = File::create(&path).unwrap();
    for descriptors in [vec![file.as_fd(); 2], vec![file.as_fd(); 5]] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send_raw(&ours, b"\0\0\0\x01x", &descriptors);
        assert!(matches!(receive(&theirs, soon()), Err(FrameError::Descriptors)));
        assert_eq!(open_here(&path), 1);
    }
    // One with the header and another with the document, or with the header's second half.
    for (first, second) in [(&b"\0\0\0\x01"[..], &b"x"[..]), (b"\0\0", b"\0\x01x")] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send_raw(&ours, first, &[file.as_fd()]);
        let mut incoming = Incoming::default();
        assert!(matches!(incoming.receive(&theirs), Ok(Step::More)));
        assert_eq!(open_here(&path), 2);
        send_raw(&ours, second, &[file.as_fd()]);
        assert!(matches!(incoming.receive(&theirs), Err(FrameError::Descriptors)));
        assert_eq!(open_here(&path), 1);
    }
}

#[test]
fn nobody_is_waited_for_beyond_the_deadline() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let begun = Instant::now();
    let dribble = thread::spawn(move || {
        let _ = ours.write_all(&100_u32.to_be_bytes());
        while begun.elapsed() < Duration::from_secs(5) && ours.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
    });
    assert!(matches!(receive(&theirs, begun + Duration::from_millis(300)), Err(FrameError::Late)));
    assert!(begun.elapsed() >= Duration::from_millis(300) && begun.elapsed() < Duration::from_secs(3));
    drop(theirs);
    dribble.join().unwrap();

    let (ours, _theirs) = UnixStream::pair().unwrap();
    let full = vec![0; DOCUMENT_MAX];
    let result = send(&ours, &full, None, Instant::now() + Duration::from_millis(100));
    assert!(matches!(result, Err(FrameError::Late)), "{result:?}");
}
