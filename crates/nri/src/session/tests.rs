//! Against a runtime's side that does as the test says, in both forms of the protocol.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;

use crate::end::{End, Violation};
use crate::handler::{Event, Late};
use crate::options::{Options, Retry};
use crate::wire::nri;

mod recorder;
mod runtime_side;

use recorder::{Do, Recorder};
use runtime_side::{RuntimeSide, container, frame, pod};

fn about(id: &str) -> nri::EventRequest {
    nri::EventRequest { pod: Some(pod("p1")), container: Some(container(id, "p1")) }
}

fn change(event: nri::Event, id: &str) -> nri::StateChangeEvent {
    let nri::EventRequest { pod, container } = about(id);
    nri::StateChangeEvent { event: event.into(), pod, container }
}

#[tokio::test]
async fn a_plugin_registers_and_is_told_what_there_is() {
    let recorder = Recorder::new(Do::Accept);
    let mut runtime = RuntimeSide::meet(|options| options, &recorder).await;
    let registration = runtime.registration().await;
    assert_eq!((registration.plugin_name.as_str(), registration.plugin_idx.as_str()), ("sidewall", "10"));
    let configure = nri::ConfigureRequest {
        runtime_name: "containerd".into(),
        runtime_version: "v2.9".into(),
        request_timeout: 1000,
        ..Default::default()
    };
    let answer = nri::ConfigureResponse::decode(runtime.ask("Configure", &configure).await.unwrap()).unwrap();
    assert_eq!(answer.events, 0b110_0010_0111);
    let mut told = about("c1").container.unwrap();
    told.linux = Some(nri::LinuxContainer { cgroups_path: "/k/c1".into(), namespaces: vec![] });
    let all = nri::SynchronizeRequest { pods: vec![pod("p1")], containers: vec![told], more: false };
    let answer = nri::SynchronizeResponse::decode(runtime.ask("Synchronize", &all).await.unwrap()).unwrap();
    assert!(!answer.more);
    let limit = "answer within 750ms";
    assert_eq!(recorder.said(), [format!("connected containerd v2.9, {limit}"), "synchronize p1; c1 at /k/c1".into()]);
    let _plugin = runtime.close();
    assert!(matches!(recorder.end().await, End::Closed { synchronised: true }));
}

#[tokio::test]
async fn what_there_is_may_come_in_parts() {
    let recorder = Recorder::new(Do::Accept);
    let mut runtime = RuntimeSide::registered(|options| options, &recorder).await;
    let part = |ids: &[&str], more| {
        let containers = ids.iter().map(|id| container(id, "p1")).collect();
        nri::SynchronizeRequest { pods: vec![pod(&format!("p-{}", ids[0]))], containers, more }
    };
    for (ids, more) in [(&["c1", "c2"][..], true), (&["c3"], true), (&["c4"], false)] {
        let answer = runtime.ask("Synchronize", &part(ids, more)).await.unwrap();
        assert_eq!(nri::SynchronizeResponse::decode(answer).unwrap().more, more);
    }
    assert_eq!(recorder.said()[1..], ["synchronize p-c1, p-c3, p-c4; c1, c2, c3, c4"]);
}

#[tokio::test]
async fn what_there_is_is_bounded() {
    let recorder = Recorder::new(Do::Accept);
    let small = |options| Options { synchronise_most: 200, ..options };
    let mut runtime = RuntimeSide::registered(small, &recorder).await;
    let part = nri::SynchronizeRequest { pods: vec![pod(&"p".repeat(100))], containers: vec![], more: true };
    runtime.ask("Synchronize", &part).await.unwrap();
    runtime.send(3, "Synchronize", &part).await;
    let end = recorder.end().await;
    assert!(matches!(end, End::Violation(Violation::Synchronisation { most: 200 })), "{end:?}");
}

#[tokio::test]
async fn a_session_ends_where_what_there_is_was_not_taken() {
    for (what, reason) in [(Do::Refuse, "no guard"), (Do::Panic, "the plugin failed; its own log says why")] {
        let recorder = Recorder::new(what);
        let mut runtime = RuntimeSide::registered(|options| options, &recorder).await;
        let all = nri::SynchronizeRequest { pods: vec![pod("refused")], ..Default::default() };
        let (code, message) = runtime.ask("Synchronize", &all).await.unwrap_err();
        assert_eq!((code, message), (9, format!("sidewall: {reason}")));
        let end = recorder.end().await;
        assert!(matches!(&end, End::NotTaken(veto) if veto.reason() == reason), "{end:?}");
    }
}

#[tokio::test]
async fn events_are_understood_in_both_forms() {
    let recorder = Recorder::new(Do::Accept);
    let mut runtime = RuntimeSide::synchronised(|options| options, &recorder).await;
    runtime.ask("StateChange", &change(nri::Event::RunPodSandbox, "")).await.unwrap();
    runtime.ask("StateChange", &change(nri::Event::StartContainer, "c1")).await.unwrap();
    runtime.ask("StopContainer", &about("c1")).await.unwrap();
    runtime.ask("StateChange", &change(nri::Event::RemoveContainer, "c1")).await.unwrap();
    runtime.ask("RunPodSandbox", &about("")).await.unwrap();
    runtime.ask("StartContainer", &about("c2")).await.unwrap();
    runtime.ask("RemoveContainer", &about("c2")).await.unwrap();
    runtime.ask("StopPodSandbox", &about("")).await.unwrap();
    runtime.ask("RemovePodSandbox", &about("")).await.unwrap();
    runtime.ask("PostStartContainer", &about("c2")).await.unwrap();
    runtime.ask("UpdateContainer", &about("c2")).await.unwrap();
    let said = recorder.said();
    let expected = [
        "RunPod p1",
        "StartContainer c1",
        "StopContainer c1",
        "RemoveContainer c1",
        "RunPod p1",
        "StartContainer c2",
        "RemoveContainer c2",
        "StopPod p1",
        "RemovePod p1",
    ];
    assert_eq!(said[2..], expected);
    assert_eq!(runtime.ask("Reboot", &about("c2")).await.unwrap_err().0, 12);
}

#[tokio::test]
async fn a_veto_reaches_the_runtime_with_its_reason() {
    let recorder = Recorder::new(Do::Refuse);
    let mut runtime = RuntimeSide::synchronised(|options| options, &recorder).await;
    for (method, ask) in [("StartContainer", about("c1").encode_to_vec()), {
        ("StateChange", change(nri::Event::StartContainer, "c1").encode_to_vec())
    }] {
        let (code, message) = runtime.ask_bytes(method, ask).await.unwrap_err();
        assert_eq!((code, message.as_str()), (9, "sidewall: no guard"));
    }
    let stopped = runtime.ask("StopContainer", &about("c1")).await;
    assert!(stopped.is_ok(), "what has ended can't be refused");
}

#[tokio::test]
async fn a_late_callback_is_answered_before_the_runtime_gives_up() {
    let recorder = Recorder::new(Do::Wait(Duration::from_secs(20)));
    let mut runtime = RuntimeSide::synchronised(|options| options, &recorder).await;
    let limit = Duration::from_millis(225);
    let before = std::time::Instant::now();
    // The request says itself how long the runtime waits.
    let (code, message) =
        runtime.ask_within("StartContainer", &about("c1"), Duration::from_millis(300)).await.unwrap_err();
    assert!(before.elapsed() >= limit && before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
    assert_eq!(code, 9);
    assert!(message.contains("StartContainer took longer than 225ms"), "{message}");
    assert_eq!(recorder.said().last().unwrap(), "late StartContainer Some(\"c1\") 225ms");
    // What is told after the fact is answered, and goes on.
    assert!(runtime.ask_within("StopContainer", &about("c1"), Duration::from_millis(300)).await.is_ok());
}

#[tokio::test]
async fn the_caller_may_accept_what_is_late() {
    let recorder = Recorder::new(Do::Wait(Duration::from_millis(400)));
    recorder.when_late(Late::Accept);
    let mut runtime = RuntimeSide::synchronised(|options| options, &recorder).await;
    let answer = runtime.ask_within("StartContainer", &about("c1"), Duration::from_millis(200)).await;
    assert!(answer.is_ok(), "{answer:?}");
    assert!(!recorder.said().contains(&"done StartContainer c1".to_owned()));
    recorder.until("done StartContainer c1").await;
}

#[tokio::test]
async fn a_callback_that_panics_is_answered_with_a_veto() {
    let recorder = Recorder::new(Do::Panic);
    let mut runtime = RuntimeSide::synchronised(|options| options, &recorder).await;
    let (code, message) = runtime.ask("StartContainer", &about("c1")).await.unwrap_err();
    assert_eq!(code, 9);
    assert!(message.contains("the plugin failed"), "{message}");
    assert_eq!(runtime.ask("StartContainer", &about("c1")).await.unwrap_err().0, 9, "it still serves");
}

#[tokio::test]
async fn pods_do_not_wait_for_each_other_here() {
    let recorder = Recorder::new(Do::WaitFor("c1", Duration::from_secs(20)));
    let mut runtime = RuntimeSide::synchronised(|options| options, &recorder).await;
    runtime.send(101, "StartContainer", &about("c1")).await;
    let before = std::time::Instant::now();
    assert!(runtime.ask("StartContainer", &about("c2")).await.is_ok());
    assert!(before.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn callbacks_under_way_are_bounded() {
    let recorder = Recorder::new(Do::Wait(Duration::from_secs(20)));
    let few = |options| Options { callbacks_most: 2, ..options };
    let mut runtime = RuntimeSide::synchronised(few, &recorder).await;
    for stream in [101, 103, 105] {
        runtime.send(stream, "StartContainer", &about("c1")).await;
    }
    assert!(matches!(recorder.end().await, End::Overloaded { most: 2 }));
}

#[tokio::test]
async fn an_event_that_makes_no_sense_does_not_pass() {
    let recorder = Recorder::new(Do::Accept);
    let mut runtime = RuntimeSide::synchronised(|options| options, &recorder).await;
    assert_eq!(runtime.ask("StartContainer", &nri::EventRequest::default()).await.unwrap_err().0, 3);
    assert_eq!(runtime.ask("StartContainer", &about("../c")).await.unwrap_err().0, 3);
    assert_eq!(runtime.ask_bytes("StartContainer", vec![0xff; 9]).await.unwrap_err().0, 3);
    assert!(runtime.ask("StartContainer", &about("c1")).await.is_ok(), "it still serves");
}

#[tokio::test]
async fn a_large_message_in_many_frames_between_others_is_understood() {
    let recorder = Recorder::new(Do::Accept);
    let mut runtime = RuntimeSide::registered(|options| options, &recorder).await;
    let mut large = pod("p1");
    large.annotations.insert("note".into(), "x".repeat(6 << 20));
    let all = nri::SynchronizeRequest { pods: vec![large], containers: vec![], more: false };
    assert!(runtime.ask_torn("Synchronize", &all).await.is_ok());
    assert_eq!(recorder.said()[1..], ["synchronize p1; "]);
}

#[tokio::test]
async fn what_the_protocol_forbids_ends_the_session() {
    let long_frame = [&1_u32.to_be_bytes()[..], &(65_u32 << 20).to_be_bytes()].concat();
    let long_message = frame(1, &[&(65_u32 << 20).to_be_bytes()[..], &[0, 0, 0, 1, 1, 0]].concat());
    let long_answer = frame(2, &[&(5_u32 << 20).to_be_bytes()[..], &[0, 0, 0, 1, 2, 0]].concat());
    let garbage = frame(1, &[0, 0, 0, 2, 0, 0, 0, 1, 1, 0, 0xff, 0xff]);
    for bytes in [long_frame, long_message, long_answer, garbage] {
        let recorder = Recorder::new(Do::Accept);
        let mut runtime = RuntimeSide::synchronised(|options| options, &recorder).await;
        runtime.raw(&bytes).await;
        let end = recorder.end().await;
        assert!(matches!(end, End::Violation(_)), "{end:?}");
    }
}

#[tokio::test]
async fn each_end_has_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { socket: directory.path().join("nri.sock"), ..Options::new("sidewall") };
    let recorder = Recorder::new(Do::Accept);
    let end = crate::serve(&options, &Arc::new(recorder.clone())).await;
    assert!(matches!(end, End::NotThere { .. }), "{end:?}");

    let mut runtime = RuntimeSide::meet(|options| options, &recorder).await;
    runtime.registration().await;
    runtime.refuse_registration("not you").await;
    let end = recorder.end().await;
    assert!(matches!(&end, End::Refused { code: 7, message } if message == "not you"), "{end:?}");

    let soon = |options| Options { synchronise_within: Duration::from_millis(200), ..options };
    let runtime = RuntimeSide::registered(soon, &recorder).await;
    let end = recorder.end().await;
    assert!(matches!(end, End::NotSynchronised(_)), "{end:?}");
    drop(runtime);

    let mut runtime = RuntimeSide::synchronised(|options| options, &recorder).await;
    assert!(runtime.ask("Shutdown", &nri::Nothing {}).await.is_ok());
    assert!(matches!(recorder.end().await, End::Shutdown));
}

#[tokio::test]
async fn a_runtime_that_does_not_read_is_left() {
    let recorder = Recorder::new(Do::Accept);
    let soon = |options| Options { read_within: Duration::from_millis(100), ..options };
    let mut runtime = RuntimeSide::synchronised(soon, &recorder).await;
    let flood = async {
        loop {
            runtime.send(1, "UpdateContainer", &about("c1")).await;
        }
    };
    let end = tokio::select! { () = flood => unreachable!(), end = recorder.end() => end };
    assert!(matches!(end, End::Unread(_)), "{end:?}");
}

#[tokio::test]
async fn run_connects_again_until_it_is_told_to_stop() {
    let recorder = Recorder::new(Do::Accept);
    let [absent, first, most] = [30, 20, 80].map(Duration::from_millis);
    let retry = Retry { absent, first, most };
    let mut listener = RuntimeSide::listen();
    let options = Options { socket: listener.socket(), retry, ..Options::new("sidewall") };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let handler = Arc::new(recorder.clone());
    let running = tokio::spawn(async move {
        let stop = async { drop(stopped.await) };
        crate::run(&options, &handler, stop).await;
    });
    for round in 1..4 {
        let mut runtime = listener.accept().await;
        runtime.registration().await;
        runtime.accept_registration().await;
        runtime.synchronise().await;
        let synchronised = recorder.said().iter().filter(|line| line.starts_with("synchronize")).count();
        assert_eq!(synchronised, round);
        drop(runtime.close());
        recorder.until_count("ended Closed { synchronised: true }", round).await;
    }
    // Nobody listens for a while: it keeps looking.
    let path = listener.socket();
    drop(listener);
    recorder.until_count("ended NotThere, again in 30ms", 3).await;
    let mut listener = RuntimeSide::listen_at(path);
    let mut runtime = listener.accept().await;
    runtime.registration().await;
    stop.send(()).unwrap();
    running.await.unwrap();
    assert!(!recorder.said().iter().any(|line| line.contains(&Event::StartContainer.to_string())));
}
