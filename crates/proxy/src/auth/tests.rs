use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use super::*;

/// htpasswd -nbB -C 5 u admin
const SLOW: &str = "u:$2y$05$gaghfYAf/DrQU93nYP6L1.2IAVtZ9MfXKgiz6AB4rsJ6Q3bv1K9MS\n";

struct Fixture {
    auth: BasicAuth,
    key: CredentialKey,
    cache: RefCell<CredentialCache>,
    verifier: Verifier,
}

impl Fixture {
    fn new(lifetime: Duration, waiting: usize) -> Self {
        Self::of(SLOW, lifetime, waiting)
    }

    fn of(users: &str, lifetime: Duration, waiting: usize) -> Self {
        let file = UsersFile::parse(users.as_bytes()).expect("the file reads");
        Self {
            auth: BasicAuth {
                challenge: Challenge::new("Protected").expect("a realm"),
                users: Arc::new(ArcSwap::from_pointee(file)),
            },
            key: CredentialKey::random().expect("random bytes"),
            cache: RefCell::new(CredentialCache::new(16, lifetime)),
            verifier: Verifier::start(NonZeroUsize::MIN, waiting).expect("a thread"),
        }
    }

    async fn ask(&self, plain: &str) -> Result<HeaderValue, Denied> {
        let header = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(plain))).expect("a value");
        self.auth.authenticate(Some(&header), &self.key, &self.cache, &self.verifier, Instant::now()).await
    }
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(future)
}

#[test]
fn right_passwords_pass_and_wrong_ones_do_not_with_a_warm_cache_either() {
    let fixture = Fixture::new(Duration::from_secs(60), 8);
    run(async {
        for _ in 0..2 {
            assert_eq!(fixture.ask("u:admin").await.expect("the password is right"), "u");
            assert_eq!(fixture.ask("u:wrong").await, Err(Denied::Wrong));
            assert_eq!(fixture.ask("nobody:admin").await, Err(Denied::Wrong));
        }
    });
}

#[test]
fn a_new_file_forgets_what_the_old_one_let_in() {
    let fixture = Fixture::new(Duration::from_secs(60), 8);
    run(async {
        assert!(fixture.ask("u:admin").await.is_ok());
        fixture.auth.users.store(Arc::new(UsersFile::parse(b"").expect("an empty file")));
        assert_eq!(fixture.ask("u:admin").await, Err(Denied::Wrong));
    });
}

#[test]
fn a_credential_is_forgotten_after_its_lifetime() {
    let mut cache = CredentialCache::new(4, Duration::from_secs(10));
    let key = CredentialKey::random().expect("random bytes");
    let (id, now) = (key.credential(1, b"x"), Instant::now());
    cache.insert(id, HeaderValue::from_static("u"), now);
    assert!(cache.get(&id, now + Duration::from_secs(9)).is_some());
    assert!(cache.get(&key.credential(2, b"x"), now).is_none(), "another file");
    assert!(cache.get(&key.credential(1, b"y"), now).is_none(), "another password");
    assert!(cache.get(&id, now + Duration::from_secs(10)).is_none());
}

#[test]
fn new_limits_of_the_cache_hold_for_what_it_knows() {
    let mut cache = CredentialCache::new(1, Duration::ZERO);
    cache.resize(64, Duration::from_secs(60));
    let key = CredentialKey::random().expect("random bytes");
    let (id, now) = (key.credential(1, b"x"), Instant::now());
    cache.insert(id, HeaderValue::from_static("u"), now);
    cache.resize(32, Duration::from_secs(60));
    assert!(cache.get(&id, now + Duration::from_secs(59)).is_some(), "it is not forgotten");
    cache.resize(32, Duration::from_secs(10));
    assert!(cache.get(&id, now + Duration::from_secs(10)).is_none(), "not for as long as it was told then");
    cache.resize(2, Duration::from_secs(10));
    let many: Vec<_> = (0..20).map(|generation| key.credential(generation, b"x")).collect();
    many.iter().for_each(|id| cache.insert(*id, HeaderValue::from_static("u"), now));
    assert!(many.iter().filter(|id| cache.get(id, now).is_some()).count() <= 2);
}

#[test]
fn the_cache_is_bounded() {
    let mut cache = CredentialCache::new(16, Duration::from_secs(10));
    let key = CredentialKey::random().expect("random bytes");
    let now = Instant::now();
    for generation in 0..1000 {
        cache.insert(key.credential(generation, b"x"), HeaderValue::from_static("u"), now);
    }
    let kept = (0..1000).filter(|generation| cache.get(&key.credential(*generation, b"x"), now).is_some()).count();
    assert!(kept <= 16, "{kept} entries");
}

#[test]
fn too_many_waiting_are_told_so_and_the_same_credential_is_hashed_once() {
    // So slow that none is done while five requests are polled, on a busy machine either: htpasswd -nbB -C 11 u admin
    let slower = "u:$2y$11$22CsHDopawhzTZrGMPkJoeg7i0pA0wRhmfOkdNt9b5OlQcFRjbtPe\n";
    let fixture = Fixture::of(slower, Duration::from_secs(60), 4);
    run(async {
        // Polled in this order before any hash is done: four wait, the fifth is refused.
        let (a, b, c, d, e) = tokio::join!(
            fixture.ask("u:admin"),
            fixture.ask("u:admin"),
            fixture.ask("u:wrong"),
            fixture.ask("v:admin"),
            fixture.ask("u:admin"),
        );
        assert!(a.is_ok() && b.is_ok());
        assert_eq!((c, d), (Err(Denied::Wrong), Err(Denied::Wrong)));
        assert_eq!(e, Err(Denied::Busy));
        assert_eq!(fixture.verifier.hashed(), 3, "two requests shared a hash");
        assert!(fixture.ask("u:admin").await.is_ok(), "room again afterwards");
    });
}

#[test]
fn requests_that_went_away_leave_room() {
    let fixture = Fixture::new(Duration::from_secs(60), 3);
    run(async {
        for index in 0..20 {
            let abandoned = fixture.ask("u:admin");
            let refused = tokio::time::timeout(Duration::ZERO, abandoned).await;
            assert!(!matches!(refused, Ok(Err(Denied::Wrong))), "{index}");
            while fixture.ask("u:nope").await == Err(Denied::Busy) {
                tokio::task::yield_now().await;
            }
        }
    });
}

#[test]
fn keys_differ_and_nothing_secret_is_printed() {
    let (one, two) = (CredentialKey::random().expect("random"), CredentialKey::random().expect("random"));
    assert_ne!(one.credential(1, b"x"), two.credential(1, b"x"));
    assert_eq!(format!("{one:?} {:?}", one.credential(1, b"x")), "CredentialKey(redacted) CredentialId(redacted)");
}
