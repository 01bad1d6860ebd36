use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use prost::Message;
use tokio::net::UnixListener;
use tokio::time::Instant;

use super::runtime::{Answer, Runtime, framed};
use crate::wire::runtime as wire;
use crate::{BadAnswer, Call, Client, ContainerState, Error, EventKind, Network, Options, SandboxState};

fn metadata() -> Option<wire::PodSandboxMetadata> {
    let (name, uid, namespace) = ("web".into(), "u-1".into(), "shop".into());
    Some(wire::PodSandboxMetadata { name, uid, namespace, attempt: 2 })
}

fn container(id: &str) -> wire::Container {
    wire::Container {
        id: id.into(),
        pod_sandbox_id: "s1".into(),
        metadata: Some(wire::ContainerMetadata { name: "app".into(), attempt: 3 }),
        state: 1,
        created_at: 1_000_000_000,
        ..Default::default()
    }
}

/// A runtime that answers whatever is asked in the same way.
async fn always(answer: Answer) -> (Runtime, Client) {
    let runtime = Runtime::start(move |_, _| answer.clone());
    let client = runtime.client().await;
    (runtime, client)
}

#[tokio::test]
async fn a_runtime_that_is_not_there_is_told_from_one_that_may_not_be_asked() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("runtime.sock");
    let options = Options { connect_within: Duration::from_millis(200), ..Options::new(&socket) };
    assert!(matches!(Client::connect(options.clone()).await, Err(Error::NotThere { .. })), "no file");
    drop(UnixListener::bind(&socket).unwrap());
    assert!(matches!(Client::connect(options.clone()).await, Err(Error::NotThere { .. })), "nobody listens");
    std::fs::remove_file(&socket).unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&socket, "").unwrap();
    let error = Client::connect(options).await.unwrap_err();
    assert!(error.to_string().contains("runtime.sock"), "{error}");
}

#[tokio::test]
async fn what_does_not_speak_http_2_is_no_runtime() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("runtime.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        }
    });
    let client = Client::connect(Options::new(&socket)).await;
    let error = match client {
        Ok(client) => client.version().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(error, Error::Lost { .. } | Error::NotConnected { .. }), "{error:?}");
    server.abort();
}

#[tokio::test]
async fn lists_are_read_and_put_in_order() {
    let runtime = Runtime::start(|path, _| match path {
        "/runtime.v1.RuntimeService/ListContainers" => Answer::one(&wire::ListContainersResponse {
            containers: vec![container("c2"), wire::Container { state: 99, ..container("c1") }],
        }),
        "/runtime.v1.RuntimeService/ListPodSandbox" => Answer::one(&wire::ListPodSandboxResponse {
            items: vec![wire::PodSandbox { id: "s1".into(), metadata: metadata(), state: 1, ..Default::default() }],
        }),
        path => panic!("asked for {path}"),
    });
    let client = runtime.client().await;
    let containers = client.containers().await.unwrap();
    let told: Vec<_> = containers.iter().map(|found| (found.id.as_str(), found.state)).collect();
    assert_eq!(told, [("c1", ContainerState::Unknown), ("c2", ContainerState::Running)]);
    assert_eq!((containers[1].name.as_str(), containers[1].attempt), ("app", 3));
    let sandboxes = client.sandboxes().await.unwrap();
    assert_eq!((sandboxes[0].state, sandboxes[0].created), (SandboxState::NotReady, None));
    assert_eq!(sandboxes[0].pod.attempt, 2);
}

#[tokio::test]
async fn a_sandbox_is_asked_for_in_full() {
    let runtime = Runtime::start(|_, question| {
        let question = wire::PodSandboxStatusRequest::decode(question).unwrap();
        assert!(question.verbose && question.pod_sandbox_id == "s1");
        let options = wire::NamespaceOption { network: wire::NamespaceMode::Node.into() };
        let namespaces = Some(wire::Namespace { options: Some(options) });
        let network = wire::PodSandboxNetworkStatus {
            ip: "10.1.2.3".into(),
            additional_ips: vec![wire::PodIp { ip: "fd00::3".into() }],
        };
        Answer::one(&wire::PodSandboxStatusResponse {
            status: Some(wire::PodSandboxStatus {
                id: "s1".into(),
                metadata: metadata(),
                network: Some(network),
                linux: Some(wire::LinuxPodSandboxStatus { namespaces }),
                ..Default::default()
            }),
            info: [("info".to_owned(), r#"{"pid":7}"#.to_owned())].into(),
        })
    });
    let status = runtime.client().await.sandbox_status(&"s1".parse().unwrap()).await.unwrap();
    assert_eq!(status.addresses, ["10.1.2.3".parse::<std::net::IpAddr>().unwrap(), "fd00::3".parse().unwrap()]);
    assert_eq!((status.network, status.sandbox.state), (Network::Node, SandboxState::Ready));
    assert_eq!(status.details.unwrap().pid, Some(7));
}

#[tokio::test]
async fn each_refusal_has_its_error() {
    let (_runtime, client) = always(Answer::Status(5, "an error occurred%3A not found")).await;
    let error = client.container_status(&"c1".parse().unwrap()).await.unwrap_err();
    let Error::NotFound { call: Call::ContainerStatus, message } = &error else { panic!("{error:?}") };
    assert_eq!(message, "an error occurred: not found");

    let (_runtime, client) = always(Answer::Status(12, "unknown service")).await;
    assert!(matches!(client.version().await, Err(Error::NotImplemented { call: Call::Version, .. })));
    let events = client.events().next().await;
    assert!(matches!(events, Err(Error::NotImplemented { call: Call::GetContainerEvents, .. })), "{events:?}");

    let (_runtime, client) = always(Answer::Status(13, "broken")).await;
    assert!(matches!(client.status().await, Err(Error::Refused { code: "INTERNAL", .. })));

    // A status of the runtime's own, in the words that our own library would use: its code decides.
    let (_runtime, client) = always(Answer::Status(2, "transport error")).await;
    assert!(matches!(client.status().await, Err(Error::Refused { code: "UNKNOWN", .. })));
}

#[tokio::test]
async fn long_words_are_cut() {
    let words: &'static str = "x".repeat(9000).leak();
    let (_runtime, client) = always(Answer::Status(2, words)).await;
    let Err(Error::Refused { message, .. }) = client.status().await else { panic!() };
    assert!(message.len() < 2100 && message.ends_with('…'), "{}", message.len());
}

#[tokio::test]
async fn each_bad_answer_has_its_error() {
    let problem = |error: Error| match error {
        Error::BadAnswer { problem, .. } => problem,
        error => panic!("{error:?}"),
    };
    let (_runtime, client) = always(Answer::Messages(vec![vec![0xff; 9]])).await;
    assert!(matches!(problem(client.version().await.unwrap_err()), BadAnswer::Malformed(_)));

    let (_runtime, client) = always(Answer::Messages(vec![vec![]])).await;
    let status = client.container_status(&"c1".parse().unwrap()).await.unwrap_err();
    assert_eq!(problem(status), BadAnswer::Missing("status"));

    for (id, metadata) in [("", true), ("../../etc", true), ("c1", false)] {
        let metadata = metadata.then(wire::ContainerMetadata::default);
        let list = wire::ListContainersResponse { containers: vec![wire::Container { metadata, ..container(id) }] };
        let (_runtime, client) = always(Answer::one(&list)).await;
        let problem = problem(client.containers().await.unwrap_err());
        assert!(matches!(problem, BadAnswer::Id { .. } | BadAnswer::Missing("metadata")), "{problem:?}");
    }

    // No message where there must be one; half a message; a message said to be compressed.
    for bytes in [vec![], framed(b"abc")[..6].to_vec(), [&[1], &framed(b"abc")[1..]].concat()] {
        let (_runtime, client) = always(Answer::Bytes(bytes)).await;
        let error = client.version().await.unwrap_err();
        assert!(matches!(error, Error::Refused { code: "INTERNAL", .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_answer_is_bounded_before_it_is_kept() {
    let runtime = Runtime::start(|_, _| {
        // It says that four gibibytes follow.
        Answer::Bytes([&[0, 0xff, 0xff, 0xff, 0xff], &[0; 64][..]].concat())
    });
    let options = Options { answer_most: 1024, ..Options::new(runtime.socket()) };
    let client = Client::connect(options).await.unwrap();
    let error = client.containers().await.unwrap_err();
    assert!(matches!(error, Error::BadAnswer { problem: BadAnswer::TooLarge { most: 1024 }, .. }), "{error:?}");
}

#[tokio::test]
async fn silence_ends_in_time() {
    let runtime = Runtime::start(|_, _| Answer::Silence);
    let limit = Duration::from_millis(300);
    let options = Options { answer_within: limit, ..Options::new(runtime.socket()) };
    let client = Client::connect(options).await.unwrap();
    let before = Instant::now();
    let error = client.version().await.unwrap_err();
    assert!(matches!(error, Error::TooSlow { call: Call::Version, limit: told } if told == limit), "{error:?}");
    assert!(before.elapsed() >= limit);
}

#[tokio::test]
async fn a_lost_connection_stays_lost() {
    let (_runtime, client) = always(Answer::Hangup).await;
    for _ in 0..2 {
        let error = client.version().await.unwrap_err();
        assert!(matches!(error, Error::Lost { call: Call::Version, .. }), "{error:?}");
    }
    let events = client.events().next().await.unwrap_err();
    assert!(matches!(events, Error::Lost { .. }), "{events:?}");
}

#[tokio::test]
async fn events_come_one_by_one_and_tell_of_their_end() {
    let event = |kind: i32| {
        let status = wire::PodSandboxStatus { id: "s1".into(), metadata: metadata(), ..Default::default() };
        wire::ContainerEventResponse {
            container_id: "c1".into(),
            container_event_type: kind,
            created_at: 5,
            pod_sandbox_status: Some(status),
            containers_statuses: vec![],
        }
        .encode_to_vec()
    };
    let (_runtime, client) = always(Answer::Messages(vec![event(1), event(3), event(9)])).await;
    let mut events = client.events();
    for kind in [EventKind::Started, EventKind::Deleted, EventKind::Unknown] {
        let found = events.next().await.unwrap();
        assert_eq!((found.kind, found.container.as_str()), (kind, "c1"));
        assert_eq!(found.sandbox.unwrap().sandbox.pod.name, "web");
    }
    let end = events.next().await.unwrap_err();
    assert!(matches!(end, Error::BadAnswer { problem: BadAnswer::Ended, .. }), "{end:?}");
    assert_eq!(events.next().await.unwrap().kind, EventKind::Started, "it begins anew");

    // A wait that was given up costs no event.
    let (_runtime, client) = always(Answer::Open(vec![event(1)])).await;
    let mut events = client.events();
    events.next().await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), events.next()).await.is_err());
}
