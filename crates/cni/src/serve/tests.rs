use super::*;
use crate::ask::Agent;
use crate::wire::Detachment;
use sidewall_netns::{Launch, NetNs};
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn detachment() -> Ask {
    Ask::Del(Detachment { container: "a".try_into().unwrap(), network: None, interface: None, pod: None })
}

#[test]
fn a_question_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/cni.sock");
    let listening = Listening::at(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let server = thread::spawn(move || {
        let (connection, _) = listening.listener().accept().unwrap();
        answer(&connection, soon(), |ask, namespace| {
            assert!(namespace.is_none());
            assert_eq!(ask.write(), detachment().write());
            Answer::Noted
        })
        .unwrap()
    });
    let agent = Agent { socket: path.clone(), within: Duration::from_secs(10) };
    assert_eq!(agent.ask(&detachment(), None).unwrap(), Answer::Noted);
    assert_eq!(server.join().unwrap(), Answer::Noted);
    assert!(!path.exists(), "the socket goes with who listened");
}

#[test]
fn what_is_not_understood_is_refused_without_asking_anybody() {
    let file = File::open("/dev/null").unwrap();
    for (document, descriptor, reason, words) in [
        (&br#"{"version":9,"ask":"status"}"#[..], false, Reason::Version, "version 9"),
        (br#"{"version":1,"ask":"dance"}"#, false, Reason::NotUnderstood, "dance"),
        (b"\xff", false, Reason::NotUnderstood, "can't be understood"),
        (br#"{"version":1,"ask":"status"}"#, true, Reason::NotUnderstood, "with a descriptor"),
    ] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        frame::send(&ours, document, descriptor.then_some(file.as_fd()), soon()).unwrap();
        let said = answer(&theirs, soon(), |ask, _| panic!("{ask:?} was asked")).unwrap();
        let Answer::Refused(refusal) = Answer::read(&frame::receive(&ours, soon()).unwrap().document).unwrap() else {
            panic!("{said:?}");
        };
        assert_eq!(refusal.reason, reason);
        assert!(refusal.message.contains(words), "{}", refusal.message);
    }
}

#[test]
fn one_who_says_nothing_is_not_waited_for() {
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let late = Instant::now() + Duration::from_millis(100);
    let result = answer(&theirs, late, |_, _| panic!("nobody asked"));
    assert!(matches!(result, Err(AnswerError::Question(FrameError::Late))), "{result:?}");
}

#[test]
fn a_newer_agent_takes_the_place_and_the_older_leaves_it_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cni.sock");
    let older = Listening::at(&path).unwrap();
    let newer = Listening::at(&path).unwrap();
    drop(older);
    let client = UnixStream::connect(&path).unwrap();
    newer.listener().accept().unwrap();
    drop((client, newer));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_directory_that_others_may_write_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    let refused = Listening::at(&directory.path().join("cni.sock"));
    assert!(matches!(refused, Err(ListenError::NotRootsAlone(_))));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// The environment's word by which the test below knows that it was started as somebody else, and what to do.
const ROLE: &str = "SIDEWALL_CNI_TEST_ROLE";

/// Starts this very program as somebody else, to run `played_by_another_user` alone. Needs root.
fn another_user(role: &str, path: &Path) -> sidewall_netns::Process {
    Launch::from_file(File::open("/proc/self/exe").unwrap(), "sidewall-cni tests")
        .args(["--exact", "serve::tests::played_by_another_user", "--ignored", "--nocapture"])
        .env(ROLE, role)
        .env("SIDEWALL_CNI_TEST_PATH", path)
        .directory("/")
        .netns(&NetNs::current().unwrap())
        .identity(65534, 65534)
        .stdout(File::open("/dev/null").unwrap())
        .die_with_parent()
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "played by the tests below, as another user"]
fn played_by_another_user() {
    let path = PathBuf::from(std::env::var_os("SIDEWALL_CNI_TEST_PATH").unwrap());
    match std::env::var(ROLE).as_deref() {
        Ok("client") => {
            let connection = UnixStream::connect(path).unwrap();
            let _ = frame::send(&connection, &Ask::Status.write(), None, soon());
            assert!(frame::receive(&connection, soon()).is_err());
        }
        Ok("server") => {
            let listener = UnixListener::bind(path).unwrap();
            let (connection, _) = listener.accept().unwrap();
            let asked = frame::receive(&connection, soon());
            assert!(matches!(asked, Err(FrameError::Closed)), "{asked:?}");
        }
        other => panic!("no role: {other:?}"),
    }
}

#[test]
fn another_user_gets_no_answer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cni.sock");
    let listening = Listening::at(&path).unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let mut client = another_user("client", &path);
    let (connection, _) = listening.listener().accept().unwrap();
    let result = answer(&connection, soon(), |_, _| panic!("asked by another user"));
    assert!(matches!(result, Err(AnswerError::Peer(PeerError::NotRoot(65534)))), "{result:?}");
    drop(connection);
    assert!(client.wait().unwrap().success());
}

#[test]
fn another_users_socket_is_told_nothing() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    let path = directory.path().join("cni.sock");
    let mut server = another_user("server", &path);
    let begun = Instant::now();
    while !path.exists() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the other user does not listen");
        thread::sleep(Duration::from_millis(10));
    }
    let agent = Agent { socket: path, within: Duration::from_secs(5) };
    let error = agent.ask(&detachment(), None).unwrap_err();
    assert!(matches!(error, crate::ask::AskError::Peer(PeerError::NotRoot(65534))), "{error}");
    assert!(server.wait().unwrap().success());
}
