use super::*;
use crate::image::{Data, Expression, Value};

fn table(rules: Vec<Expression>) -> Image {
    let mut image = Image::default();
    image.tables.insert(
        abi::NFPROTO_INET,
        TableImage {
            chains: vec![ChainImage {
                name: "out".into(),
                rules: vec![RuleImage { expressions: rules, user_data: Vec::new() }],
                ..ChainImage::default()
            }],
            ..TableImage::default()
        },
    );
    image
}

#[test]
fn what_a_newer_kernel_adds_must_be_zero() {
    let own = || Expression::new("meta").number(1, 1).number(2, 16);
    assert_eq!(compare(&table(vec![own()]), &table(vec![own()])), Standing::AsLoaded);
    let zero = own().number(9, 0);
    assert_eq!(compare(&table(vec![own()]), &table(vec![zero])), Standing::AsLoaded);
    for other in [
        own().number(9, 1),
        own().data(9, Data::Value(vec![0])),
        Expression::new("meta").number(1, 1),
        Expression::new("meta").number(1, 1).number(2, 15),
        Expression::new("rt").number(1, 1).number(2, 16),
        Expression { attributes: vec![(1, Value::Bytes(vec![0, 0, 1]))], ..own() },
    ] {
        let found = compare(&table(vec![own()]), &table(vec![other.clone()]));
        assert_ne!(found, Standing::AsLoaded, "{other:?}");
    }
}

#[test]
fn what_is_told_is_bounded() {
    let loaded = Image::default();
    let mut found = Image::default();
    found.tables.insert(
        abi::NFPROTO_INET,
        TableImage {
            chains: (0..1000).map(|number| ChainImage { name: number.to_string(), ..ChainImage::default() }).collect(),
            ..TableImage::default()
        },
    );
    let mut ours = Image::default();
    ours.tables.insert(abi::NFPROTO_INET, TableImage::default());
    let Standing::Drifted(differences) = compare(&ours, &found) else {
        panic!("a thousand foreign chains went unnoticed");
    };
    assert_eq!(differences.len(), Standing::MOST);
    let Standing::Drifted(differences) = compare(&loaded, &found) else {
        panic!("a foreign table went unnoticed");
    };
    assert_eq!(differences[0].to_string(), "table inet sidewall is not ours");
}
