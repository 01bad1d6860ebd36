use super::*;
use std::io::Read;

fn image() -> Image {
    let file = |text: &str| File::Content(text.as_bytes().to_vec(), 0o644);
    Image {
        reference: "registry.example:5000/x/y:1".to_owned(),
        files: BTreeMap::from([
            ("etc/deep/er/file".to_owned(), file("words\n")),
            ("bin/x".to_owned(), File::Link("y".to_owned())),
            ("tmp".to_owned(), File::Folder(0o1777)),
        ]),
        entrypoint: vec!["/bin/x".to_owned()],
        user: "65532:65532".to_owned(),
        path: "/bin".to_owned(),
        annotations: BTreeMap::from([("org.opencontainers.image.version".to_owned(), "1".to_owned())]),
        architecture: Architecture::Arm64,
    }
}

fn written(image: &Image) -> (Vec<u8>, Digest) {
    let mut bytes = Vec::new();
    let digest = image.write(&mut bytes).unwrap();
    (bytes, digest)
}

fn entries(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(tar);
    let read = |entry: io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().display().to_string(), content)
    };
    archive.entries().unwrap().map(read).collect()
}

fn blob(all: &BTreeMap<String, Vec<u8>>, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().unwrap();
    let blob = all[&digest.replacen("sha256:", "blobs/sha256/", 1)].clone();
    assert_eq!(
        (Digest::of(&blob).to_string(), blob.len() as u64),
        (digest.to_owned(), descriptor["size"].as_u64().unwrap())
    );
    blob
}

#[test]
fn an_archive_is_the_same_each_time_and_all_of_it_is_found_from_its_index() {
    let (bytes, digest) = written(&image());
    assert_eq!((bytes.clone(), digest.clone()), written(&image()));
    let all = entries(&bytes);
    assert_eq!(all.len(), 5, "{:?}", all.keys());
    let index: Value = serde_json::from_slice(&all["index.json"]).unwrap();
    let described = &index["manifests"][0];
    assert_eq!(described["digest"], digest.to_string());
    assert_eq!(described["platform"]["architecture"], "arm64");
    assert_eq!(described["annotations"]["org.opencontainers.image.ref.name"], "1");
    let manifest: Value = serde_json::from_slice(&blob(&all, described)).unwrap();
    let configuration: Value = serde_json::from_slice(&blob(&all, &manifest["config"])).unwrap();
    assert_eq!(configuration["config"]["User"], "65532:65532");
    assert_eq!(configuration["config"]["Env"], json!(["PATH=/bin"]));
    assert_eq!(configuration["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
    let layer = entries(&blob(&all, &manifest["layers"][0]));
    assert_eq!(layer["etc/deep/er/file"], b"words\n");
}

#[test]
fn a_layer_has_each_folder_before_what_is_in_it_and_says_nothing_of_this_machine() {
    let layer = layer::of(&image().files).unwrap();
    let mut archive = tar::Archive::new(layer.as_slice());
    let mut paths = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
        assert_eq!(header.username().unwrap().unwrap_or_default(), "");
        paths.push((
            entry.path().unwrap().display().to_string().trim_end_matches('/').to_owned(),
            header.mode().unwrap(),
        ));
    }
    let expected = [
        ("bin", 0o755),
        ("etc", 0o755),
        ("etc/deep", 0o755),
        ("etc/deep/er", 0o755),
        ("tmp", 0o1777),
        ("bin/x", 0o777),
        ("etc/deep/er/file", 0o644),
    ];
    assert_eq!(paths, expected.map(|(path, mode)| (path.to_owned(), mode)));
}

#[test]
fn a_tag_is_no_port() {
    for (reference, tag) in [("a/b:1.2", "1.2"), ("host:5000/a/b", "latest"), ("host:5000/b:x", "x"), ("b", "latest")] {
        assert_eq!(Image { reference: reference.to_owned(), ..Image::default() }.tag(), tag);
    }
}

#[test]
fn a_digest_is_written_as_registries_write_it() {
    // RFC 6234, the digest of nothing.
    let nothing = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(Digest::of(b"").to_string(), nothing);
}
