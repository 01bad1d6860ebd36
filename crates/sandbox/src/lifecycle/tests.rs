use super::Action::{Kill, Start, Term};
use super::*;

const GRACE: Duration = Duration::from_secs(30);
const S: Duration = Duration::from_secs(1);

fn course(kinds: &[Kind], policy: RestartPolicy) -> Lifecycle {
    Lifecycle::new(kinds.iter().map(|k| (*k, false)), policy, GRACE, BackOff::default())
}

use Kind::{App, Init, Sidecar};
use RestartPolicy::{Always, Never, OnFailure};

#[test]
fn the_order_of_the_start() {
    let now = Instant::now();
    let mut pod = course(&[Init, Sidecar, Init, App, App], Never);
    assert_eq!(pod.begin(), [Start(0)]);
    assert_eq!(pod.handle(Event::Started(0), now), [], "an init container must end, not start");
    assert_eq!(pod.handle(Event::Exited(0, 0), now), [Start(1)]);
    assert_eq!(pod.phase(), Phase::Pending);
    assert_eq!(pod.handle(Event::Started(1), now), [Start(2)]);
    assert_eq!(pod.handle(Event::Exited(2, 0), now), [Start(3), Start(4)]);
    assert_eq!(pod.phase(), Phase::Running);
}

#[test]
fn a_sidecar_that_ends_before_it_has_started_holds_the_others_up() {
    let now = Instant::now();
    let mut pod = course(&[Sidecar, App], Never);
    assert_eq!(pod.begin(), [Start(0)]);
    assert_eq!(pod.handle(Event::Exited(0, 1), now), [Start(0)], "at once, whatever the pod's policy");
    assert_eq!(pod.handle(Event::Started(0), now), [Start(1)]);
    assert_eq!(pod.handle(Event::Exited(0, 1), now), [], "later it only waits for itself");
    assert_eq!(pod.tick(now + 10 * S), [Start(0)]);
    assert_eq!(pod.slots()[0].restarts, 2);
    assert_eq!(pod.handle(Event::Exited(1, 0), now + 10 * S), [Term(0)]);
    assert_eq!(pod.handle(Event::Exited(0, 143), now + 11 * S), []);
    assert!(pod.finished());
    assert_eq!(pod.phase(), Phase::Succeeded, "a sidecar's end does not count");
}

#[test]
fn back_off_doubles_up_to_its_limit_and_begins_afresh_after_a_long_run() {
    let mut now = Instant::now();
    let mut pod = course(&[App], Always);
    assert_eq!(pod.begin(), [Start(0)]);
    assert_eq!(pod.handle(Event::Exited(0, 0), now), [Start(0)]);
    for delay in [10, 20, 40, 80, 160, 300, 300] {
        assert_eq!(pod.handle(Event::Exited(0, 0), now), []);
        let until = now + delay * S;
        assert_eq!(pod.next_deadline(), Some(until));
        assert_eq!(pod.tick(until - Duration::from_millis(1)), []);
        assert_eq!(pod.tick(until), [Start(0)]);
        assert_eq!(pod.phase(), Phase::Running);
        now = until;
    }
    now += 601 * S;
    assert_eq!(pod.handle(Event::Exited(0, 0), now), [Start(0)]);
    assert_eq!(pod.handle(Event::Exited(0, 0), now), []);
    assert_eq!(pod.next_deadline(), Some(now + 10 * S));
}

#[test]
fn who_starts_again_hangs_on_policy_and_code() {
    let now = Instant::now();
    for (policy, code, again) in [
        (Always, 0, true),
        (Always, 1, true),
        (OnFailure, 0, false),
        (OnFailure, 1, true),
        (Never, 0, false),
        (Never, 1, false),
    ] {
        let mut pod = course(&[App], policy);
        pod.begin();
        assert_eq!(pod.handle(Event::Exited(0, code), now) == [Start(0)], again, "{policy:?} {code}");
        assert_eq!(pod.finished(), !again);
        if !again {
            assert_eq!(pod.phase(), if code == 0 { Phase::Succeeded } else { Phase::Failed });
        }
    }
}

#[test]
fn a_failed_init_container() {
    let now = Instant::now();
    let mut pod = course(&[Sidecar, Init, App], Never);
    pod.begin();
    pod.handle(Event::Started(0), now);
    assert_eq!(pod.handle(Event::Exited(1, 3), now), [Term(0)]);
    assert_eq!(pod.phase(), Phase::Failed);
    assert!(!pod.finished());
    pod.handle(Event::Exited(0, 0), now);
    assert!(pod.finished());

    let mut pod = course(&[Init, App], OnFailure);
    pod.begin();
    assert_eq!(pod.handle(Event::Exited(0, 3), now), [Start(0)]);
    assert_eq!(pod.phase(), Phase::Pending);
}

#[test]
fn the_end_apps_first_then_sidecars_in_reverse_within_the_grace_period() {
    let now = Instant::now();
    let mut pod = course(&[Sidecar, Sidecar, App, App], Always);
    pod.begin();
    pod.handle(Event::Started(0), now);
    pod.handle(Event::Started(1), now);
    assert_eq!(pod.handle(Event::Stop(GRACE), now), [Term(2), Term(3)]);
    assert_eq!(pod.handle(Event::Exited(2, 0), now), [], "nothing starts again");
    assert_eq!(pod.handle(Event::Exited(3, 0), now), [Term(1)]);
    assert_eq!(pod.handle(Event::Exited(1, 0), now), [Term(0)]);
    assert_eq!(pod.next_deadline(), Some(now + GRACE));
    assert_eq!(pod.tick(now + GRACE), [Kill(0)]);
    assert_eq!(pod.next_deadline(), None, "killed once");
    assert!(!pod.finished());
    pod.handle(Event::Exited(0, 137), now + GRACE);
    assert!(pod.finished());
}

#[test]
fn no_grace_kills_everything_at_once_also_what_was_asked_before() {
    let now = Instant::now();
    let mut pod = course(&[Sidecar, App], Always);
    pod.begin();
    pod.handle(Event::Started(0), now);
    assert_eq!(pod.handle(Event::Stop(GRACE), now), [Term(1)]);
    assert_eq!(pod.handle(Event::Stop(Duration::ZERO), now), [Kill(0), Kill(1)]);
    assert_eq!(pod.handle(Event::Stop(GRACE), now), [], "a later request gives no time back");
}

#[test]
fn stopping_while_waiting_to_start_again_or_before_the_apps_is_the_end() {
    let now = Instant::now();
    let mut pod = course(&[App], Always);
    pod.begin();
    pod.handle(Event::Exited(0, 1), now);
    pod.handle(Event::Exited(0, 1), now);
    assert_eq!(pod.handle(Event::Stop(GRACE), now), []);
    assert!(pod.finished());
    assert_eq!(pod.tick(now + 100 * S), [], "and stays so");

    let mut pod = course(&[Init, App], Always);
    pod.begin();
    assert_eq!(pod.handle(Event::Stop(GRACE), now), [Term(0)]);
    assert_eq!(pod.handle(Event::Exited(0, 0), now), []);
    assert!(pod.finished());
    assert_eq!(pod.phase(), Phase::Failed, "its work was not done");
}

#[test]
fn unhealthy_ends_with_the_probes_own_grace_and_starts_again() {
    let now = Instant::now();
    let mut pod = Lifecycle::new([(App, true)], Always, GRACE, BackOff::default());
    pod.begin();
    pod.handle(Event::Started(0), now);
    assert!(!pod.slots()[0].ready, "its readiness probe has not said so yet");
    pod.handle(Event::Ready(0, true), now);
    assert!(pod.slots()[0].ready);
    assert_eq!(pod.handle(Event::Unhealthy(0, 2 * S), now), [Term(0)]);
    assert!(!pod.slots()[0].ready);
    assert_eq!(pod.handle(Event::Unhealthy(0, 2 * S), now), [], "once is enough");
    assert_eq!(pod.tick(now + 2 * S), [Kill(0)]);
    assert_eq!(pod.handle(Event::Exited(0, 137), now + 2 * S), [Start(0)]);
}
