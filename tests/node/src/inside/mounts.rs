//! The file systems of a cell: the host's, with what a node writes laid over in memory.
//!
//! The programs and the work tree stay where they are. `/run` is empty; `/etc`, `/opt`, `/var/lib` and `/var/log` show the
//! host's files, and whatever is written there is gone with the cell.

use std::fs;
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

use super::{Said, because};

/// Where the memory behind the overlays is. Outside the bed nobody looks there.
const STORE: &str = "/run/bed";
/// Where services' output goes.
pub const LOGS: &str = "/run/bed/log";
/// Folders of the host that are laid over.
const OVER: [&str; 4] = ["/etc", "/opt", "/var/lib", "/var/log"];
/// Folders that need a file system of their own: an overlay's upper layer cannot be an overlay, and kubelet measures its own.
const OWN: [&str; 2] = ["/var/lib/containerd", "/var/lib/kubelet"];

/// What kubelet sets in the kernel unless it is so already. These hold for the whole machine, which is not ours to change,
/// so kubelet is shown files that say what it wants to read.
const TUNED: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Mounts all of it.
///
/// # Errors
/// Naming the mount that failed.
pub fn make(containers: bool) -> Said<()> {
    fresh("proc", "/proc")?;
    fresh("sysfs", "/sys")?;
    fresh("cgroup2", "/sys/fs/cgroup")?;
    tmpfs("/run")?;
    fs::create_dir_all(LOGS).map_err(because(LOGS))?;
    for over in OVER {
        overlay(over)?;
    }
    if containers {
        for own in OWN {
            fs::create_dir_all(own).map_err(because(own))?;
            tmpfs(own)?;
        }
        for (name, value) in TUNED {
            let (shown, real) = (Path::new(STORE).join("tuned").join(name), Path::new("/proc/sys").join(name));
            fs::create_dir_all(shown.parent().unwrap_or(Path::new(STORE))).map_err(because(shown.display()))?;
            fs::write(&shown, format!("{value}\n")).map_err(because(shown.display()))?;
            mount_bind(&shown, &real).map_err(because(real.display()))?;
        }
        // As on a node: what containers mount may spread inside the cell. Outside it nothing is seen of it.
        mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC).map_err(because("/"))?;
    }
    Ok(())
}

fn fresh(kind: &'static str, at: &'static str) -> Said<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(kind, at, kind, flags, None).map_err(because(format!("cannot mount {kind} on {at}")))
}

fn tmpfs(at: &'static str) -> Said<()> {
    let flags = MountFlags::NOSUID;
    mount("tmpfs", at, "tmpfs", flags, c"mode=755").map_err(because(format!("cannot mount tmpfs on {at}")))
}

fn overlay(at: &'static str) -> Said<()> {
    let store = Path::new(STORE).join(at.trim_start_matches('/').replace('/', "-"));
    let (upper, work) = (store.join("upper"), store.join("work"));
    for folder in [&upper, &work] {
        fs::create_dir_all(folder).map_err(because(folder.display()))?;
    }
    // What a person may read below is what he may read above: the folder's own permissions come from the upper one.
    let mode = rustix::fs::statat(CWD, at, rustix::fs::AtFlags::empty()).map_err(because(at))?.st_mode;
    fs::set_permissions(&upper, std::os::unix::fs::PermissionsExt::from_mode(mode & 0o7777)).map_err(because(at))?;
    let options = format!("lowerdir={at},upperdir={},workdir={}", upper.display(), work.display());
    let options = std::ffi::CString::new(options).map_err(because(at))?;
    mount("overlay", at, "overlay", MountFlags::empty(), options.as_c_str())
        .map_err(because(format!("cannot lay memory over {at}")))
}
