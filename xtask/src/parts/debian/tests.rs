use super::*;

const WANTED: &str = "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie\nComponents: main\n";

#[test]
fn the_machines_own_archive_is_taken_from_stanzas() {
    let text = "Types: deb\nURIs: http://security.example/debian-security\nSuites: bookworm-security\n\n\
                Types: deb deb-src\n# a remark\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\
                Components: main\nSigned-By: /usr/share/keyrings/debian.gpg\n";
    assert_eq!(archive(text).unwrap(), format!("{WANTED}Signed-By: /usr/share/keyrings/debian.gpg\n"));
}

#[test]
fn the_machines_own_archive_is_taken_from_lines() {
    let plain = "# deb http://old.example/debian buster main\ndeb http://mirror.example/debian bookworm main\n";
    assert_eq!(archive(plain).unwrap(), WANTED);
    let signed = "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib\n";
    assert_eq!(archive(signed).unwrap(), format!("{WANTED}Signed-By: /k.gpg\n"));
}

#[test]
fn other_archives_are_none() {
    for text in ["", "deb https://packages.example/cloud bookworm main", "Types: deb\nURIs: https://apt.example/node\n"]
    {
        assert_eq!(archive(text), None, "{text}");
    }
}
