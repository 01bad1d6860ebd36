use super::*;

fn attachment() -> Attachment {
    Attachment {
        network: "podnet".try_into().unwrap(),
        container: "4f6e".try_into().unwrap(),
        interface: "eth0".try_into().unwrap(),
        pod: crate::args::pod("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0").unwrap().unwrap(),
        spec_version: SpecVersion::V1_1_0,
        previous: RawValue::from_string("{ \"cniVersion\":\"1.1.0\", \"x\":1e400 }".into()).unwrap(),
    }
}

#[test]
fn questions_are_written_as_documented() {
    let text = |ask: &Ask| String::from_utf8(ask.write()).unwrap();
    assert_eq!(
        text(&Ask::Add(attachment())),
        r#"{"version":1,"ask":{"add":{"network":"podnet","container":"4f6e","interface":"eth0","#.to_owned()
            + r#""pod":{"namespace":"shop","name":"web-0"},"specVersion":"1.1.0","previous":{ "cniVersion":"1.1.0", "x":1e400 }}}}"#
    );
    let container = || SandboxId::try_from("4f6e").unwrap();
    let detachment = Detachment { container: container(), network: None, interface: None, pod: None };
    assert_eq!(text(&Ask::Del(detachment)), r#"{"version":1,"ask":{"del":{"container":"4f6e"}}}"#);
    let attachments = vec![ValidAttachment { container: container(), interface: "eth0".try_into().unwrap() }];
    let valid = Valid { network: "podnet".try_into().unwrap(), attachments };
    assert_eq!(
        text(&Ask::Gc(valid)),
        r#"{"version":1,"ask":{"gc":{"network":"podnet","attachments":[{"container":"4f6e","interface":"eth0"}]}}}"#
    );
    assert_eq!(text(&Ask::Status), r#"{"version":1,"ask":"status"}"#);
}

#[test]
fn questions_are_read_as_they_were_written() {
    let document = Ask::Check(attachment()).write();
    let Ask::Check(read) = Ask::read(&document).unwrap() else { panic!("another question") };
    assert_eq!(read.previous.get(), attachment().previous.get());
    assert_eq!(Ask::Check(read).write(), document);
}

#[test]
fn answers_are_read_as_they_were_written() {
    for (answer, text) in [
        (Answer::Guarded, r#"{"version":1,"answer":"guarded"}"#),
        (Answer::Free(Free::NothingSelects), r#"{"version":1,"answer":{"free":"nothingSelects"}}"#),
        (Answer::Noted, r#"{"version":1,"answer":"noted"}"#),
        (Answer::Ready, r#"{"version":1,"answer":"ready"}"#),
        (
            Answer::refused(Reason::NotReady, "later"),
            r#"{"version":1,"answer":{"refused":{"reason":"notReady","message":"later"}}}"#,
        ),
    ] {
        assert_eq!(String::from_utf8(answer.write()).unwrap(), text);
        assert_eq!(Answer::read(text.as_bytes()).unwrap(), answer);
    }
}

#[test]
fn what_is_not_known_is_an_error() {
    for text in [
        "",
        "{}",
        r#"{"version":1}"#,
        r#"{"version":"1","ask":"status"}"#,
        r#"{"version":1,"ask":"status","more":1}"#,
        r#"{"version":1,"ask":"dance"}"#,
        r#"{"version":1,"ask":{"del":{"container":"a","more":1}}}"#,
        r#"{"version":1,"ask":{"del":{"container":"../a"}}}"#,
        r#"{"version":1,"ask":{"add":{}}}"#,
        r#"{"version":1,"ask":"status"} x"#,
    ] {
        assert!(matches!(Ask::read(text.as_bytes()), Err(DocumentError::NotUnderstood(_))), "{text}");
    }
    for text in
        [r#"{"version":1,"answer":"fine"}"#, r#"{"version":1,"answer":{"refused":{"reason":"x","message":""}}}"#]
    {
        assert!(matches!(Answer::read(text.as_bytes()), Err(DocumentError::NotUnderstood(_))), "{text}");
    }
}

#[test]
fn another_version_is_told_apart_whatever_else_it_says() {
    for text in [r#"{"version":2,"ask":"status"}"#, r#"{"more":[],"version":2}"#] {
        assert!(matches!(Ask::read(text.as_bytes()), Err(DocumentError::Version(2))), "{text}");
        assert!(matches!(Answer::read(text.as_bytes()), Err(DocumentError::Version(2))), "{text}");
    }
}

#[test]
fn a_long_explanation_is_cut_at_a_character() {
    let document = Answer::refused(Reason::Failed, "ä".repeat(MESSAGE_MAX)).write();
    let Answer::Refused(refusal) = Answer::read(&document).unwrap() else { panic!("no refusal") };
    assert!(refusal.message.len() <= MESSAGE_MAX && refusal.message.len() > MESSAGE_MAX - 4);
}
