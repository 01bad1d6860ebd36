use super::*;
use crate::Protocol;

fn flow() -> FlowRecord {
    FlowRecord {
        version: Version,
        time: "2026-11-22T02:29:48.123456Z".parse().unwrap(),
        namespace: "shop".into(),
        pod: "web".into(),
        party: RecordParty::Container,
        container: Some("app".into()),
        direction: Direction::Egress,
        wire: RecordWire::Network,
        interface: Some("eth0".into()),
        network: None,
        protocol: Some(Protocol::Udp.into()),
        icmp: None,
        port: Some(53),
        local: RecordEnd { address: Some("10.1.0.9".parse().unwrap()), port: Some(40_000) },
        peer: RecordPeer {
            namespace: Some("kube-system".into()),
            name: Some("kube-dns".into()),
            entity: Some("ClusterDNS".into()),
            address: Some("10.96.0.10".parse().unwrap()),
            port: Some(53),
            ..RecordPeer::of(RecordPeerKind::Service)
        },
        way: RecordWay::Leaving,
        reply: false,
        verdict: RecordVerdict::Deny,
        cause: RecordCause::Isolated,
        policies: vec![RecordPolicy {
            kind: "ContainerNetworkPolicy".into(),
            namespace: "shop".into(),
            name: "app".into(),
            direction: Direction::Egress,
            level: RecordLevel::Container,
        }],
        more_policies: 0,
        rule: None,
        uid: Some(1001),
        gid: Some(1001),
        decision: "sw:deny/egress/c1".into(),
    }
}

#[test]
fn the_form_of_a_line_stays() {
    let record = Record::Flow(Box::new(flow()));
    let line = record.to_line();
    assert_eq!(
        line,
        concat!(
            r#"{"record":"flow","version":1,"time":"2026-11-22T02:29:48.123456Z","namespace":"shop","pod":"web","#,
            r#""party":"container","container":"app","direction":"egress","wire":"network","interface":"eth0","#,
            r#""protocol":"UDP","port":53,"local":{"address":"10.1.0.9","port":40000},"#,
            r#""peer":{"kind":"service","namespace":"kube-system","name":"kube-dns","entity":"ClusterDNS","#,
            r#""address":"10.96.0.10","port":53},"way":"leaving","reply":false,"verdict":"deny","cause":"isolated","#,
            r#""policies":[{"kind":"ContainerNetworkPolicy","namespace":"shop","name":"app","direction":"egress","#,
            r#""level":"container"}],"uid":1001,"gid":1001,"decision":"sw:deny/egress/c1"}"#
        )
    );
    assert_eq!(Record::from_line(&line).unwrap(), record);
    let (version, time) = (Version, flow().time);
    let (namespace, pod) = (Some("shop".to_owned()), Some("web".to_owned()));
    let lost = Record::Lost(LostRecord { version, time, namespace, pod, count: 7, place: LossPlace::Subscriber });
    assert_eq!(
        lost.to_line(),
        r#"{"record":"lost","version":1,"time":"2026-11-22T02:29:48.123456Z","namespace":"shop","pod":"web","count":7,"place":"subscriber"}"#
    );
    assert_eq!(Record::from_line(&lost.to_line()).unwrap(), lost);
}

#[test]
fn other_lines_are_refused_with_a_reason() {
    let line = Record::Flow(Box::new(flow())).to_line();
    let newer = line.replace(r#""version":1"#, r#""version":2,"more":true"#);
    assert!(matches!(Record::from_line(&newer), Err(ReadRecordError::Version { found: 2 })));
    for (bad, why) in [
        (line.replace(r#""uid""#, r#""usr""#), "unknown field `usr`"),
        (line.replace(r#""name":"kube-dns""#, r#""called":"kube-dns""#), "unknown field `called`"),
        (line.replace(r#""record":"flow""#, r#""record":"flew""#), "unknown variant `flew`"),
        (line.replace(r#""port":53,"local""#, r#""port":65536,"local""#), "65536"),
        (line.replace(r#""protocol":"UDP""#, r#""protocol":"17""#), "is no protocol"),
        (line.replace("02:29", "25:29"), "is no time"),
        (line[..line.len() - 1].to_owned(), "EOF"),
        (String::new(), "EOF"),
    ] {
        let error = Record::from_line(&bad).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_line_for_people_says_it_all() {
    let columns = |record: FlowRecord| Record::Flow(Box::new(record)).columns();
    let first = columns(flow());
    assert_eq!((first.time.as_str(), first.what.as_str()), ("02:29:48.123", "deny             "));
    assert_eq!(
        first.text,
        "app -> Service kube-system/kube-dns (10.96.0.10) 53/UDP on eth0, uid 1001: isolated by ContainerNetworkPolicy shop/app egress"
    );
    let mut audit = flow();
    audit.verdict = RecordVerdict::AuditWouldAllow;
    audit.direction = Direction::Ingress;
    audit.wire = RecordWire::Loopback;
    audit.peer = RecordPeer { container: Some("shipper".into()), ..RecordPeer::of(RecordPeerKind::Container) };
    audit.policies.clear();
    audit.rule = Some(RecordRule {
        kind: "ContainerNetworkPolicy".into(),
        namespace: "shop".into(),
        name: "app".into(),
        direction: Direction::Ingress,
        index: 2,
    });
    let second = columns(audit);
    assert_eq!(second.what.len(), first.what.len());
    assert_eq!(
        second.text,
        "shipper -> app 53/UDP, uid 1001: would be allowed by ContainerNetworkPolicy shop/app ingress[2]"
    );
    let mut forged = flow();
    forged.verdict = RecordVerdict::Forged;
    forged.cause = RecordCause::NoPolicy;
    (forged.party, forged.container) = (RecordParty::Undetermined, None);
    (forged.protocol, forged.port) = (Some(IpProtocol(1)), None);
    forged.icmp = Some(RecordIcmp { kind: 8, code: 0 });
    forged.policies.clear();
    forged.uid = None;
    forged.peer = RecordPeer { address: "192.0.2.1".parse().ok(), ..RecordPeer::of(RecordPeerKind::Address) };
    assert_eq!(columns(forged).text, "(somebody) -> 192.0.2.1 ICMP type 8 code 0 on eth0");
}

#[test]
fn what_was_done_is_told_from_what_would_have_been() {
    use RecordVerdict::*;
    let denied: Vec<bool> = [Deny, Allow, AuditWouldDeny, AuditWouldAllow, Forged, Improper]
        .iter()
        .map(|verdict| verdict.enforced() == Action::Deny)
        .collect();
    assert_eq!(denied, [true, false, false, true, true, true]);
}
