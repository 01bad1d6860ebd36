use super::*;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::sleep;

const LIST: &str = r#"{"cniVersion":"1.0.0","name":"cbr0","plugins":[{"type":"flannel"}]}"#;
const OTHER: &str = r#"{"cniVersion":"1.0.0","name":"other","plugins":[{"type":"ptp"}]}"#;
/// Far less than [`RECHECK`]: what is done by then was noticed.
const SOON: Duration = Duration::from_secs(4);

struct Scene {
    directory: TempDir,
    options: Options,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("sidewall-cni"), "program").unwrap();
        fs::create_dir(at("bin")).unwrap();
        let options = Options {
            configuration_directory: at("etc/cni/net.d"),
            program_directory: at("bin"),
            program: at("sidewall-cni"),
            entry: Default::default(),
        };
        Self { directory, options }
    }

    /// With a list in the directory.
    fn with_list() -> Self {
        let scene = Self::new();
        fs::create_dir_all(&scene.options.configuration_directory).unwrap();
        fs::write(scene.file(), LIST).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.options.configuration_directory.join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("10-flannel.conflist")
    }

    fn run(&self) -> Running {
        let installer = Installer::new(self.options.clone());
        let status = installer.status();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(installer.run(async {
            let _ = stopped.await;
        }));
        Running { status, stop, task }
    }
}

struct Running {
    status: watch::Receiver<InstallerStatus>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl Running {
    /// Waits until the state is one that is wanted.
    async fn until(&mut self, wanted: impl Fn(&InstallerState) -> bool) -> InstallerState {
        let found = tokio::time::timeout(SOON, self.status.wait_for(|status| wanted(&status.state))).await;
        found.expect("the state is not what it should be").unwrap().state.clone()
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(SOON, self.task).await.expect("it does not stop").unwrap().unwrap();
    }
}

fn is_chained(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.contains("sidewall-cni"))
}

async fn until(what: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < SOON, "it does not happen");
        sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}

/// As installers do it: a new file beside, renamed.
fn replace(path: &Path, text: &str) {
    let beside = path.with_file_name(".new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_later_is_waited_for_and_told() {
    let scene = Scene::new();
    let mut running = scene.run();
    let state = running.until(|state| matches!(state, InstallerState::NotInstalled { .. })).await;
    let text = state.to_string();
    assert!(text.contains(scene.options.configuration_directory.to_str().unwrap()), "{text}");
    assert!(text.contains("has not been installed yet"), "{text}");
    // The program is there already.
    let mode = fs::metadata(scene.options.target()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);

    fs::create_dir_all(&scene.options.configuration_directory).unwrap();
    sleep(Duration::from_millis(50)).await;
    fs::write(scene.file(), LIST).unwrap();
    let InstallerState::Installed(installed) = running.until(InstallerState::is_installed).await else { panic!() };
    let network = Network { file: scene.file(), name: "cbr0".into(), behind: Vec::new() };
    assert_eq!(installed, Installed { networks: vec![network], notes: Vec::new() });
    assert!(is_chained(&scene.file()));
    running.stop().await;
    assert!(is_chained(&scene.file()), "without the agent pods wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rival_rewrites_is_put_right_at_once() {
    let scene = Scene::with_list();
    let mut running = scene.run();
    running.until(InstallerState::is_installed).await;
    let file = scene.file();
    let ways: [&dyn Fn(); 4] = [
        &|| replace(&file, LIST),
        &|| fs::write(&file, LIST).unwrap(),
        &|| {
            fs::remove_file(&file).unwrap();
            fs::write(&file, LIST).unwrap();
        },
        &|| {
            // In two halves.
            let mut open = fs::File::create(&file).unwrap();
            open.write_all(&LIST.as_bytes()[..20]).unwrap();
            thread::sleep(Duration::from_millis(20));
            open.write_all(&LIST.as_bytes()[20..]).unwrap();
        },
    ];
    for (number, way) in ways.into_iter().enumerate() {
        way();
        println!("way {number}: {:?}", until(|| is_chained(&file)).await);
        let changes = 2 + number as u64;
        let _ = tokio::time::timeout(SOON, running.status.wait_for(|status| status.changes >= changes)).await.unwrap();
    }
    assert_eq!(running.status.borrow().changes, 5, "each once");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fight_is_told_and_does_not_become_a_storm() {
    let scene = Scene::with_list();
    let mut running = scene.run();
    running.until(InstallerState::is_installed).await;
    let (stop, file, start) = (AtomicBool::new(false), scene.file(), Instant::now());
    let (rewritten, state) = thread::scope(|scope| {
        let rival = scope.spawn(|| {
            let mut rewritten = 0;
            while !stop.load(Ordering::Relaxed) {
                if is_chained(&file) {
                    replace(&file, LIST);
                    rewritten += 1;
                }
                thread::sleep(Duration::from_millis(1));
            }
            rewritten
        });
        let state = tokio::task::block_in_place(|| {
            let state = tokio::runtime::Handle::current()
                .block_on(running.until(|state| matches!(state, InstallerState::Contested(_))));
            thread::sleep(Duration::from_millis(2500));
            state
        });
        stop.store(true, Ordering::Relaxed);
        (rival.join().unwrap(), state)
    });
    let text = state.to_string();
    assert!(text.contains(file.to_str().unwrap()) && text.contains("find who writes that file"), "{text}");
    // Five at once, then one each second.
    let most = 5 + start.elapsed().as_secs() + 1;
    assert!((6..=most).contains(&rewritten), "{rewritten} times in {:?}", start.elapsed());
    // The fight is over, and who is right has the last word.
    until(|| is_chained(&file)).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_replaced_and_a_link_are_followed() {
    let scene = Scene::with_list();
    let mut running = scene.run();
    running.until(InstallerState::is_installed).await;
    // The directory, then one above it, by another.
    let directory = &scene.options.configuration_directory;
    for (replaced, to) in [(directory.clone(), "old"), (directory.parent().unwrap().to_owned(), "older")] {
        fs::rename(&replaced, scene.directory.path().join(to)).unwrap();
        fs::create_dir_all(directory).unwrap();
        sleep(Duration::from_millis(30)).await;
        fs::write(scene.file(), LIST).unwrap();
        until(|| is_chained(&scene.file())).await;
    }
    // A file that is a link to a link.
    let elsewhere = scene.directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("real.conflist"), LIST).unwrap();
    symlink("real.conflist", elsewhere.join("link")).unwrap();
    fs::remove_file(scene.file()).unwrap();
    symlink(elsewhere.join("link"), scene.file()).unwrap();
    until(|| is_chained(&elsewhere.join("real.conflist"))).await;
    replace(&elsewhere.join("real.conflist"), LIST);
    until(|| is_chained(&elsewhere.join("real.conflist"))).await;
    assert!(fs::symlink_metadata(scene.file()).unwrap().is_symlink());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_file_does_not_send_us_into_another() {
    let scene = Scene::with_list();
    fs::write(scene.path("20-other.conflist"), OTHER).unwrap();
    let mut running = scene.run();
    running.until(InstallerState::is_installed).await;
    replace(&scene.file(), &LIST[..20]);
    sleep(Duration::from_millis(15)).await;
    replace(&scene.file(), LIST);
    until(|| is_chained(&scene.file())).await;
    assert!(!is_chained(&scene.path("20-other.conflist")));
    // One that stays so is none: a runtime that can do without takes the next.
    replace(&scene.file(), &LIST[..20]);
    until(|| is_chained(&scene.path("20-other.conflist"))).await;
    let wanted =
        |state: &InstallerState| matches!(state, InstallerState::Installed(it) if it.networks[0].name == "other");
    let text = running.until(wanted).await.to_string();
    assert!(text.contains("10-flannel.conflist is left as it is: "), "{text}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_chain_names_a_program_that_is_not_there() {
    let scene = Scene::with_list();
    fs::remove_file(&scene.options.program).unwrap();
    let mut running = scene.run();
    let state = running.until(|state| matches!(state, InstallerState::NotInstalled { .. })).await;
    let text = state.to_string();
    assert!(text.contains("sidewall-cni") && text.contains("cni.program "), "{text}");
    assert!(!is_chained(&scene.file()));
    running.stop().await;

    fs::write(&scene.options.program, "program").unwrap();
    let mut running = scene.run();
    running.until(InstallerState::is_installed).await;
    // It comes back, and one that somebody has changed is put right.
    let target = scene.options.target();
    fs::remove_file(&target).unwrap();
    until(|| target.exists()).await;
    replace(&target, "another");
    until(|| fs::read_to_string(&target).is_ok_and(|text| text == "program")).await;
    running.stop().await;
    // An older one is better than none.
    fs::remove_file(&scene.options.program).unwrap();
    replace(&scene.file(), LIST);
    let mut running = scene.run();
    let text = running.until(InstallerState::is_installed).await.to_string();
    assert!(text.contains("another one than this agent's"), "{text}");
    assert!(is_chained(&scene.file()));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_installed_is_taken_away_and_the_program_stays() {
    let scene = Scene::with_list();
    let single = r#"{"cniVersion":"0.4.0","name":"podnet","type":"bridge"}"#;
    fs::write(scene.path("05-bridge.conf"), single).unwrap();
    fs::write(scene.path("99-broken.conf"), "{").unwrap();
    let mut running = scene.run();
    running.until(InstallerState::is_installed).await;
    let beside = scene.path("05-bridge.00-sidewall.conflist");
    assert!(is_chained(&beside));
    running.stop().await;
    assert_eq!(uninstall(&scene.options).unwrap(), [beside]);
    let left: Vec<_> = fs::read_dir(&scene.options.configuration_directory).unwrap().flatten().collect();
    assert_eq!(left.len(), 3);
    assert!(left.iter().all(|entry| !is_chained(&entry.path())));
    assert!(scene.options.target().exists());
    assert_eq!(uninstall(&scene.options).unwrap(), Vec::<PathBuf>::new());
    fs::write(scene.path("99-broken.conf"), r#"{"type":"sidewall-cni""#).unwrap();
    let error = uninstall(&scene.options).unwrap_err().to_string();
    assert!(error.contains("99-broken.conf") && error.contains("by hand"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstalling_beside_a_writer_leaves_nothing() {
    let scene = Scene::with_list();
    let mut running = scene.run();
    running.until(InstallerState::is_installed).await;
    running.stop().await;
    let (stop, file) = (AtomicBool::new(false), scene.file());
    thread::scope(|scope| {
        scope.spawn(|| {
            // Its file each time with another comment, our entry kept.
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let text = fs::read_to_string(&file).unwrap();
                replace(&file, &format!("{}{}", text.trim_end(), " ".repeat(number % 7)));
                thread::sleep(Duration::from_micros(300));
            }
        });
        let taken = uninstall(&scene.options);
        stop.store(true, Ordering::Relaxed);
        // Either it is told that somebody was always faster, or nothing is left at that moment.
        match taken {
            Ok(changed) => assert_eq!(changed, *std::slice::from_ref(&file)),
            Err(error) => assert!(matches!(error, InstallerError::Restless { .. }), "{error}"),
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_do_costs_nothing() {
    let scene = Scene::with_list();
    let mut running = scene.run();
    running.until(InstallerState::is_installed).await;
    let before = fs::metadata(scene.file()).unwrap().modified().unwrap();
    for number in 0..50 {
        fs::write(scene.path("README"), number.to_string()).unwrap();
        fs::write(scene.directory.path().join("etc/hosts"), "x").unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_millis(50)).await;
    assert_eq!(running.status.borrow_and_update().changes, 1);
    assert_eq!(fs::metadata(scene.file()).unwrap().modified().unwrap(), before);
    running.stop().await;
}
