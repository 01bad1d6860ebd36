use std::collections::BTreeMap;
use std::path::Path;

use crate::error::BadAnswer;
use crate::{Details, IdMapping};

fn read(json: &str) -> Result<Option<Details>, BadAnswer> {
    Details::read(&BTreeMap::from([("info".to_owned(), json.to_owned())]))
}

#[test]
fn containerd_tells_process_and_specification() {
    let details = read(
        r#"{"sandboxID":"s","pid":4711,"removing":false,"snapshotKey":"k","runtimeType":"io.containerd.runc.v2",
        "runtimeHandler":"runc","config":{"metadata":{"name":"app"}},
        "runtimeSpec":{"ociVersion":"1.1.0","process":{"user":{"uid":1001,"gid":1001,"additionalGids":[1001,7]},
            "args":["sleep"],"env":["PASSWORD=hunter2"],"noNewPrivileges":true,
            "capabilities":{"bounding":["CAP_CHOWN","CAP_NET_RAW"],"effective":["CAP_CHOWN"],"inheritable":null}},
          "linux":{"cgroupsPath":"/kubepods/pod1/c1","uidMappings":[{"containerID":0,"hostID":65536,"size":65536}],
            "namespaces":[{"type":"pid"},{"type":"network","path":"/proc/4000/ns/net"}]}}}"#,
    )
    .unwrap()
    .unwrap();
    assert_eq!(details.pid, Some(4711));
    assert_eq!(details.handler.as_deref(), Some("runc"));
    let specification = details.specification.as_ref().unwrap();
    assert_eq!(specification.cgroups_path.as_deref(), Some("/kubepods/pod1/c1"));
    let user = specification.user.as_ref().unwrap();
    assert_eq!((user.uid, user.gid, user.further_gids.len()), (1001, 1001, 2));
    let capabilities = specification.capabilities.as_ref().unwrap();
    assert!(capabilities.within_reach("CAP_NET_RAW") && !capabilities.within_reach("CAP_NET_ADMIN"));
    assert!(specification.no_new_privileges);
    assert_eq!(specification.namespace("network").unwrap().path.as_deref(), Some(Path::new("/proc/4000/ns/net")));
    assert_eq!(specification.namespace("pid").unwrap().path, None);
    assert_eq!(specification.namespace("user"), None);
    assert_eq!(specification.uid_mappings, [IdMapping { container: 0, host: 65536, size: 65536 }]);
    assert!(!format!("{details:?}").contains("hunter2"), "the environment has secrets in it");
}

#[test]
fn cri_o_tells_less() {
    let details = read(r#"{"sandboxID":"s","pid":12,"privileged":false,"runtimeSpec":{"linux":{"namespaces":null}}}"#);
    let details = details.unwrap().unwrap();
    assert_eq!((details.pid, details.handler, details.runtime_type), (Some(12), None, None));
    let specification = details.specification.unwrap();
    assert_eq!((specification.user, specification.capabilities, specification.cgroups_path), (None, None, None));
}

#[test]
fn what_is_absent_is_none() {
    assert_eq!(Details::read(&BTreeMap::new()), Ok(None));
    assert_eq!(read("{}"), Ok(Some(Details::default())));
    assert_eq!(read(r#"{"pid":0,"runtimeSpec":null}"#), Ok(Some(Details::default())));
}

#[test]
fn what_is_not_understood_is_an_error_without_the_value() {
    let error = read("{\n\"pid\": \"hunter2\"}").unwrap_err();
    assert!(matches!(error, BadAnswer::Details { line: 2, .. }), "{error:?}");
    assert!(!error.to_string().contains("hunter2"));
    for bad in ["", "[", "{\"pid\": -1}", "{\"runtimeSpec\":{\"process\":{\"user\":{\"uid\":4294967296}}}}"] {
        assert!(matches!(read(bad), Err(BadAnswer::Details { .. })), "{bad}");
    }
    // No form of the text may exhaust the stack.
    assert!(read(&"{\"runtimeSpec\":".repeat(100_000)).is_err());
}
