//! Rulesets that follow none that is known: flows may bear the numbers of others.

use crate::live::Echo;
use crate::pod::{Pod, listener, number, passes, peer, sender};
use crate::support::*;
use sidewall_netfilter::{Kernel, LoadOptions, Standing};
use sidewall_policy::ruleset::Generation;

const PLAIN: LoadOptions = LoadOptions { owner: false };

/// Whether a flow passes that earlier rules let pass and the last ones don't, where these have the number that `choose`
/// gives them. The earlier ones were taken away.
fn outlives(choose: impl FnOnce(&mut Kernel) -> Generation) -> bool {
    let (namespace, mut kernel) = namespace();
    kernel.load(&Pod::of([1, 2]).ruleset(1), PLAIN).unwrap();
    let [mut one, mut two] = [1, 2].map(|number| Echo::new(&namespace, peer(number)));
    for generation in 1..=3 {
        kernel.load(&Pod::of([1, 2]).ruleset(generation), PLAIN).unwrap();
        one.turn().and_then(|()| two.turn()).unwrap();
    }
    kernel.unload().unwrap();
    let fresh = choose(&mut kernel);
    let rules = Pod::of([1]).ruleset(fresh.get().into());
    kernel.load(&rules, PLAIN).unwrap();
    assert_eq!(kernel.verify(&rules).unwrap(), Standing::AsLoaded);
    one.turn().unwrap();
    two.turn().is_ok()
}

#[test]
fn a_fresh_number_is_one_that_no_flow_bears() {
    assert!(!outlives(|kernel| {
        let fresh = kernel.fresh_generation().unwrap();
        assert!(!kernel.generations_in_use().unwrap().contains_key(&fresh));
        fresh
    }));
}

#[test]
fn a_number_that_flows_bear_would_be_noticed() {
    assert!(outlives(|_| number(3)));
}

#[test]
fn where_every_number_is_borne_one_is_cleared() {
    let (namespace, mut kernel) = namespace();
    let _listener = listener(&namespace);
    let peers: Vec<u32> = (1..=u32::from(Generation::COUNT)).collect();
    for generation in &peers {
        // Of each generation one flow that is silent ever after.
        kernel.load(&Pod::of(peers.clone()).ruleset(*generation), PLAIN).unwrap();
        assert!(passes(&sender(&namespace, peer(*generation))));
    }
    assert_eq!(kernel.generations_in_use().unwrap().len(), peers.len());
    let fresh = kernel.fresh_generation().unwrap();
    assert_ne!(fresh, number(Generation::COUNT.into()), "that is the one in force");
    assert!(!kernel.generations_in_use().unwrap().contains_key(&fresh));
}

/// The number of rules in force may be borne by no flow at the moment, and be taken for a fresh one by who does not know them.
#[test]
fn what_unknown_rules_let_pass_is_judged_again_whatever_the_number() {
    let (namespace, mut kernel) = namespace();
    kernel.load(&Pod::of([1, 2]).ruleset(1), PLAIN).unwrap();
    let mut other = Kernel::open(&namespace).unwrap();
    assert_eq!(other.fresh_generation().unwrap(), Generation::FIRST);
    let [mut one, mut two] = [1, 2].map(|number| Echo::new(&namespace, peer(number)));
    one.turn().and_then(|()| two.turn()).unwrap();
    other.load(&Pod::of([1]).ruleset(1), PLAIN).unwrap();
    one.turn().unwrap();
    assert!(two.turn().is_err());
    assert_ne!(other.fresh_generation().unwrap(), Generation::FIRST, "that is the one in force");
}

#[test]
fn the_numbers_after_a_fresh_one_are_as_fresh() {
    let (namespace, mut kernel) = namespace();
    let peers = [1, 2, 3];
    kernel.load(&Pod::of(peers).ruleset(1), PLAIN).unwrap();
    let mut asleep = Echo::new(&namespace, peer(1));
    for generation in 1..=20 {
        kernel.load(&Pod::of(peers).ruleset(generation), PLAIN).unwrap();
        asleep.turn().unwrap();
    }
    let mut awake = Echo::new(&namespace, peer(2));
    kernel.unload().unwrap();
    // Flows bear 20 alone, whose turn comes.
    let fresh = kernel.fresh_generation().unwrap();
    assert_eq!(fresh, Generation::FIRST);
    let mut standing = Pod::of(peers).ruleset(1);
    kernel.load(&standing, PLAIN).unwrap();
    for round in 2..=70 {
        let given = kernel.next_generation(standing.generation).unwrap();
        assert!(!kernel.generations_in_use().unwrap().contains_key(&given), "round {round}");
        let next = Pod::of([2, 10 + round]).ruleset(round);
        assert_eq!(next.generation, given);
        kernel.change(&standing, &next, PLAIN).unwrap();
        standing = next;
        awake.turn().unwrap();
    }
    assert!(asleep.turn().is_err());
}
