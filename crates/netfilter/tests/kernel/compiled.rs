//! Changes between rulesets of drawn pods, as the compiler makes them.

use crate::pod::number;
use crate::support::*;
use sidewall_netfilter::{Because, LoadError, LoadOptions, Standing, Way};
use sidewall_policy::ruleset::{Change, Ruleset};
use sidewall_policy::testing::{Case, Draw, Ground};
use sidewall_policy::{World, compile, resolve};

const OWNED: LoadOptions = LoadOptions { owner: true };

#[test]
fn a_drawn_pods_rulesets_change_into_each_other() {
    let mut draw = Draw::new(20);
    let (mut amended, mut with_elements, mut loaded) = (0, 0, 0);
    for _ in 0..25 {
        let case = Case::draw(&mut draw, &Ground::default());
        let ruleset = |world: &World, round| compile(&resolve(world, &case.subject), number(round)).ruleset;
        let mut worlds = vec![case.world.clone(), case.world.clone()];
        for gone in 0..case.world.pods.len().min(3) {
            let mut world = case.world.clone();
            world.pods.remove(gone);
            worlds.extend([world, case.world.clone()]);
        }
        if !case.world.policies.is_empty() {
            let mut world = case.world.clone();
            world.policies.remove(0);
            worlds.push(world);
        }
        let (_namespace, mut kernel) = namespace();
        let mut standing: Ruleset = ruleset(&worlds[0], 1);
        kernel.load(&standing, OWNED).unwrap();
        for (round, world) in (2..).zip(&worlds[1..]) {
            let next = ruleset(world, round);
            let same_number = ruleset(world, round - 1);
            if same_number == standing {
                assert!(matches!(kernel.change(&standing, &same_number, OWNED).unwrap().way, Way::Nothing));
            } else if let Change::Shape = same_number.change_from(&standing) {
                let error = kernel.change(&standing, &same_number, OWNED).unwrap_err();
                assert!(matches!(error, LoadError::SameGeneration { .. }), "{error:?}");
            }
            match kernel.change(&standing, &next, OWNED).unwrap().way {
                Way::Amended { added, deleted, .. } => {
                    amended += 1;
                    with_elements += u32::from(added + deleted > 0);
                }
                Way::Loaded(Because::Shape | Because::RulesAndElements) => loaded += 1,
                other => panic!("{other:?}"),
            }
            assert_eq!(kernel.verify(&next).unwrap(), Standing::AsLoaded);
            standing = next;
        }
    }
    println!("{amended} amended, {with_elements} of them elements too, {loaded} loaded");
    // A ruleset that differs by its number alone is never loaded anew.
    assert!(amended >= 25 && with_elements > 0);
}

/// An administrator who looks with `nft` sees everything: older versions break off at numbers whose size they do not know.
#[test]
fn an_administrator_can_list_a_drawn_pods_rules() {
    let mut draw = Draw::new(21);
    for _ in 0..10 {
        let case = Case::draw(&mut draw, &Ground::default());
        let ruleset = compile(&resolve(&case.world, &case.subject), number(1)).ruleset;
        let (namespace, mut kernel) = namespace();
        kernel.load(&ruleset, LoadOptions::default()).unwrap();
        let text = nft(&namespace, &["list", "ruleset"]);
        let sets = ruleset.tables.iter().flat_map(|table| &table.sets);
        for set in sets {
            assert!(text.contains(&format!(".{} {{", set.name)), "{} is not in\n{text}", set.name);
        }
    }
}
