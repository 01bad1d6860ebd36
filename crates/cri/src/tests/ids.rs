use crate::{BadId, ContainerId, ID_MAX};

#[test]
fn an_id_is_safe_in_a_path_and_in_a_log() {
    for good in ["3f8c", "a.b-c_d", &"f".repeat(ID_MAX)] {
        assert_eq!(good.parse::<ContainerId>().unwrap().as_str(), good);
    }
    let parse = |id: &str| id.parse::<ContainerId>().unwrap_err();
    assert_eq!(parse(""), BadId::Empty);
    assert_eq!(parse(&"f".repeat(ID_MAX + 1)), BadId::Long(ID_MAX + 1));
    assert_eq!(parse(".."), BadId::Character(0));
    assert_eq!(parse("ab/../c"), BadId::Character(2));
    assert_eq!(parse("ab\nc"), BadId::Character(2));
    assert_eq!(parse("abé"), BadId::Character(2));
}
