//! Where the flow log is offered. These need root, for whom the UNIX socket is.

use crate::support::{PATIENCE, Told, everything, flow, next, record, rest};
use sidewall_flowlog::Hub;
use sidewall_flowstream::{Client, ClientError, Everything, Limits, ListenError, Listener, Server};
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tokio::sync::oneshot;
use tokio::time::timeout;

fn serve(path: &Path, hub: Hub) -> (oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let listener = Listener::unix(path).unwrap();
    let (end, ended) = oneshot::channel();
    let server = Server::new(hub, Everything, Limits::default());
    (end, tokio::spawn(async move { listener.serve(server, async move { drop(ended.await) }).await }))
}

#[tokio::test]
async fn root_sees_everything_at_the_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows.sock");
    let hub = Hub::new();
    let (end, serving) = serve(&path, hub.clone());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    hub.publish(record("bank", "vault", 1));
    let client = Client::unix(&path).await.expect("this test needs root");
    let mut events = client.follow(&everything(), None).await.unwrap();
    assert_eq!(next(&mut events).await.unwrap(), Told::Begun(1));
    hub.publish(record("shop", "web", 2));
    hub.end();
    assert_eq!(rest(&mut events).await, [flow("vault", 1), flow("web", 2)]);
    drop((client, end));
    timeout(PATIENCE, serving).await.unwrap().unwrap();
    assert!(!path.exists());
    let error = Client::unix(&path).await.unwrap_err();
    assert!(matches!(error, ClientError::Nobody(_)), "{error}");
}

/// What [`somebody_else_is_not_heard`] runs as somebody else.
const AS_NOBODY: &str = "SIDEWALL_TEST_CONNECT_TO";

#[test]
#[ignore = "run by another test, as another user"]
fn connect_and_be_closed() {
    let path = PathBuf::from(std::env::var_os(AS_NOBODY).expect("it is run by another test"));
    let mut stream = UnixStream::connect(path).expect("whoever may write to the socket can connect");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A server would begin with its settings.
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => assert_eq!(bytes, b""),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_else_is_not_heard() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = directory.path().join("flows.sock");
    let (_end, serving) = serve(&path, Hub::new());
    // As if somebody had opened it to all.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let program = directory.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&program);
    command.args(["--ignored", "--exact", "sockets::connect_and_be_closed"]).env(AS_NOBODY, &path);
    command.uid(65534).gid(65534);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let output = output.expect("this test needs root");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    serving.abort();
}

#[tokio::test]
async fn a_later_process_has_the_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows.sock");
    let (first_hub, second_hub) = (Hub::new(), Hub::new());
    let (first_end, first) = serve(&path, first_hub);
    // Its upgrade begins before it has ended.
    let (_second_end, second) = serve(&path, second_hub.clone());
    drop(first_end);
    timeout(PATIENCE, first).await.unwrap().unwrap();
    assert!(path.exists(), "the older one leaves what is not its own");
    second_hub.publish(record("shop", "web", 1));
    let client = Client::unix(&path).await.unwrap();
    let mut events = client.follow(&everything(), None).await.unwrap();
    assert_eq!(next(&mut events).await.unwrap(), Told::Begun(1));
    second.abort();
}

#[tokio::test]
async fn nothing_but_a_socket_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows.sock");
    fs::write(&path, "precious").unwrap();
    assert!(matches!(Listener::unix(&path), Err(ListenError::NotASocket(_))));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    assert!(matches!(Listener::unix(&directory.path().join("no/flows.sock")), Err(ListenError::Socket { .. })));
}

#[tokio::test]
async fn no_address_that_others_reach_is_taken() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9553"] {
        let refused = Listener::loopback(address.parse().unwrap()).await;
        assert!(matches!(refused, Err(ListenError::NotLoopback(_))), "{address}");
    }
    let first = Listener::loopback("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let taken = Listener::loopback(first.address().unwrap()).await;
    assert!(matches!(taken, Err(ListenError::Address { .. })), "a port is not shared");
}
