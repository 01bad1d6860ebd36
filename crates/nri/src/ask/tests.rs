use prost::Message;

use super::*;
use crate::model::Network;

fn request(method: &str, payload: &impl Message) -> ttrpc::Request {
    ttrpc::Request {
        service: "nri.pkg.api.v1alpha1.Plugin".into(),
        method: method.into(),
        payload: payload.encode_to_vec().into(),
        timeout_nano: 0,
    }
}

fn about() -> nri::EventRequest {
    nri::EventRequest {
        pod: Some(nri::PodSandbox { id: "p1".into(), ..Default::default() }),
        container: Some(nri::Container { id: "c1".into(), pod_sandbox_id: "p1".into(), ..Default::default() }),
    }
}

#[test]
fn both_forms_of_an_event_are_the_same() {
    let pairs = [
        ("RunPodSandbox", nri::Event::RunPodSandbox, Some(Event::RunPod)),
        ("StopPodSandbox", nri::Event::StopPodSandbox, Some(Event::StopPod)),
        ("RemovePodSandbox", nri::Event::RemovePodSandbox, Some(Event::RemovePod)),
        ("CreateContainer", nri::Event::CreateContainer, Some(Event::CreateContainer)),
        ("StartContainer", nri::Event::StartContainer, Some(Event::StartContainer)),
        ("StopContainer", nri::Event::StopContainer, Some(Event::StopContainer)),
        ("RemoveContainer", nri::Event::RemoveContainer, Some(Event::RemoveContainer)),
        ("PostCreateContainer", nri::Event::PostCreateContainer, None),
        ("PostStartContainer", nri::Event::PostStartContainer, None),
        ("UpdateContainer", nri::Event::UpdateContainer, None),
        ("PostUpdateContainer", nri::Event::PostUpdateContainer, None),
    ];
    for (method, event, expected) in pairs {
        let nri::EventRequest { pod, container } = about();
        let change = nri::StateChangeEvent { event: event.into(), pod, container };
        let new = Ask::read(request(method, &about())).unwrap();
        assert_eq!(new, Ask::read(request("StateChange", &change)).unwrap());
        let found = match new {
            Ask::Pod(event, _) | Ask::Container(event, _, _) => Some(event),
            _ => None,
        };
        assert_eq!(found, expected, "{method}");
    }
}

#[test]
fn what_is_unknown_is_told() {
    let code = |request| Ask::read(request).unwrap_err().0;
    assert_eq!(code(request("Reboot", &about())), code::UNIMPLEMENTED);
    assert_eq!(
        code(ttrpc::Request { service: "Runtime".into(), ..request("Shutdown", &about()) }),
        code::UNIMPLEMENTED
    );
    assert_eq!(
        code(request("StartContainer", &nri::EventRequest { container: None, ..about() })),
        code::INVALID_ARGUMENT
    );
    assert_eq!(code(request("StartContainer", &nri::EventRequest { pod: None, ..about() })), code::INVALID_ARGUMENT);
    let mut bad = about();
    bad.container.as_mut().unwrap().id = "../c1".into();
    assert_eq!(code(request("StartContainer", &bad)), code::INVALID_ARGUMENT);
    let garbage = ttrpc::Request { payload: vec![0xff; 9].into(), ..request("StartContainer", &about()) };
    assert_eq!(code(garbage), code::INVALID_ARGUMENT);
    let unknown = nri::StateChangeEvent { event: 77, ..Default::default() };
    assert_eq!(Ask::read(request("StateChange", &unknown)), Ok(Ask::Nothing));
}

#[test]
fn a_subscription_has_a_bit_for_each_event() {
    assert_eq!(subscription(false), 0b110_0010_0111);
    assert_eq!(subscription(true), 0b110_0010_1111);
}

#[test]
fn whose_network_a_pod_uses() {
    let namespace = |kind: &str, path: &str| nri::LinuxNamespace { r#type: kind.into(), path: path.into() };
    let network = Network::from;
    assert_eq!(network(vec![]), Network::Unknown);
    assert_eq!(network(vec![namespace("ipc", "")]), Network::Node);
    assert_eq!(network(vec![namespace("ipc", ""), namespace("network", "")]), Network::New);
    assert_eq!(network(vec![namespace("network", "/run/netns/a")]), Network::At("/run/netns/a".into()));
}
