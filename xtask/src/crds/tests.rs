use super::*;

const TWO: &str = "apiVersion: v1\nkind: C\nmetadata:\n  labels:\n    name: no\n  name: a.example.org\nspec: {}\n\
    ---\napiVersion: v1\nmetadata:\n  name: b.example.org\nspec:\n  name: other\n";

#[test]
fn a_stream_becomes_one_file_for_each_resource() {
    let files = split(TWO).unwrap();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["example.org_a.yaml", "example.org_b.yaml"]);
    assert_eq!(files["example.org_b.yaml"], "apiVersion: v1\nmetadata:\n  name: b.example.org\nspec:\n  name: other\n");
}

#[test]
fn a_marker_at_the_start_or_the_end_makes_no_document() {
    assert_eq!(split(&format!("---\n{TWO}---\n")).unwrap(), split(TWO).unwrap());
}

#[test]
fn a_stream_that_is_no_list_of_resources_is_refused() {
    for (stream, why) in [
        ("", "no document"),
        ("kind: C\n", "without metadata.name"),
        ("metadata:\n  labels: {}\nspec:\n  name: x\n", "without metadata.name"),
        ("metadata:\n  name: ../x\n", "without metadata.name"),
        ("metadata:\n  name: a.b/../c\n", "without metadata.name"),
        ("metadata:\n  name: a.b\n---\nmetadata:\n  name: a.b\n", "same name"),
    ] {
        let error = split(stream).unwrap_err().to_string();
        assert!(error.contains(why), "{stream:?}: {error}");
    }
}
