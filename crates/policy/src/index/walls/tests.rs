use super::*;
use crate::testing::{Case, Draw, Ground};
use crate::world::Subject;

/// The walls of a pod that policies select, with a plan for it that somebody is carrying out.
fn under_way() -> (Walls, Subject, Planned) {
    for seed in 0.. {
        let case = Case::draw(&mut Draw::new(seed), &Ground::whole());
        let mut walls = Walls::new(case.world);
        walls.apply(Change::Subject(case.subject.clone()));
        let id = walls.pending().next().unwrap();
        if let Some(mut planned) = walls.plan(id)
            && let Step::Load(fresh) = &mut planned.step
        {
            fresh.number(Generation::FIRST);
            return (walls, case.subject, planned);
        }
    }
    unreachable!("some drawn pod is selected")
}

fn is_pending(walls: &Walls) -> bool {
    walls.pending().next().is_some()
}

#[test]
fn what_changed_after_the_plan_is_still_to_be_done() {
    let (mut walls, mut subject, planned) = under_way();
    let id = planned.id;
    subject.labels.insert("changed".into(), "since".into());
    walls.apply(Change::Subject(subject));
    walls.done(planned);
    assert!(walls.standing(id).is_some() && is_pending(&walls));
    // The next plan begins at what stands.
    if let Some(next) = walls.plan(id) {
        assert!(!matches!(next.step, Step::Load(_)), "{:?}", next.step);
    }
}

#[test]
fn nothing_is_pending_where_nothing_changed() {
    let (mut walls, _, planned) = under_way();
    let id = planned.id;
    walls.done(planned);
    assert!(walls.standing(id).is_some() && !is_pending(&walls));
}

#[test]
fn a_plan_for_a_pod_that_is_no_more_says_nothing_of_the_next_one() {
    let (mut walls, subject, planned) = under_way();
    let id = planned.id;
    walls.apply(Change::SubjectGone(planned.name.clone()));
    assert!(!is_pending(&walls));
    walls.apply(Change::Subject(subject));
    // The number is used again, and the name is the same.
    assert_eq!(walls.pending().collect::<Vec<_>>(), [id]);
    walls.done(planned);
    assert!(walls.standing(id).is_none() && is_pending(&walls));
}

#[test]
fn a_plan_from_before_the_rules_were_lost_says_nothing() {
    let (mut walls, _, planned) = under_way();
    let id = planned.id;
    walls.lost(id);
    walls.done(planned);
    assert!(walls.standing(id).is_none() && is_pending(&walls));
}
