//! What happens between `fork` and `exec`. Everything here runs in a copy of a multi-threaded process in which only
//! this thread exists: no allocation, no lock, no libc wrapper that synchronises threads (glibc's `setresuid` does),
//! only system calls on data that was prepared before.

use std::io;
use std::os::fd::RawFd;

use super::Step;

/// The prepared data.
pub(super) struct Plan {
    /// Where to write the number of the step that failed.
    pub tell: RawFd,
    /// The target's `cgroup.procs`, open for writing.
    pub cgroup: Option<RawFd>,
    /// The network namespace.
    pub ns: Option<RawFd>,
    /// User and group.
    pub ids: Option<(u32, u32)>,
    /// Supplementary groups; set whenever `ids` or `keep` is.
    pub groups: Vec<u32>,
    /// The capabilities to keep, as bits by number; `None` leaves all as they are.
    pub keep: Option<u64>,
    /// Whether to set no_new_privs.
    pub no_new_privs: bool,
    /// The parent's process id, if the process is to die with it.
    pub parent: Option<i32>,
}

type Outcome = Result<(), io::Error>;

impl Plan {
    /// The order matters:
    ///
    /// 1. The cgroup first, so that whatever follows is accounted to it; it needs the descriptor only.
    /// 2. The namespace while CAP_SYS_ADMIN is still there.
    /// 3. Session and signals need nothing.
    /// 4. The bounding set before the user id: dropping from it takes CAP_SETPCAP, which goes with root.
    /// 5. Groups, group, user: each needs a capability that the next may take away. `KEEPCAPS` lets the permitted set
    ///    survive the change of user when something is to be kept.
    /// 6. The capability sets; the ambient set last, since it may hold only what is permitted and inheritable.
    /// 7. no_new_privs, after which `exec` of a set-user-id program gains nothing.
    /// 8. The parent-death signal after the change of user, which would clear it; then a look whether the parent
    ///    died before.
    /// 9. Descriptors last, and only marked close-on-exec, because the pipes that report errors are among them.
    pub(super) fn apply(&self) -> Outcome {
        let step = |step: Step, outcome: Outcome| outcome.inspect_err(|_| self.report(step));
        step(Step::Cgroup, self.join_cgroup())?;
        step(Step::NetNs, self.enter_ns())?;
        // SAFETY: a system call without pointers.
        step(Step::Session, check(unsafe { libc::setsid() }.into()))?;
        step(Step::Signals, reset_signals())?;
        step(Step::BoundingSet, self.drop_bounding_set())?;
        step(Step::Groups, self.set_groups())?;
        if let Some((uid, gid)) = self.ids {
            step(Step::Gid, check(syscall3(libc::SYS_setresgid, gid, gid, gid)))?;
            step(Step::Uid, self.set_uid(uid))?;
        }
        step(Step::Capabilities, self.set_capabilities())?;
        if self.no_new_privs {
            step(Step::NoNewPrivs, prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0))?;
        }
        step(Step::ParentDeath, self.die_with_parent())?;
        step(Step::Descriptors, close_on_exec())
    }

    fn report(&self, step: Step) {
        let byte = [step as u8];
        // SAFETY: one byte from a live array; the pipe is open, and it is empty, so the write can't block.
        unsafe { libc::write(self.tell, byte.as_ptr().cast(), 1) };
    }

    fn join_cgroup(&self) -> Outcome {
        let Some(fd) = self.cgroup else { return Ok(()) };
        // "0" means the writer itself.
        // SAFETY: one byte from a static string to an open descriptor.
        check(unsafe { libc::write(fd, b"0".as_ptr().cast(), 1) } as i64)
    }

    fn enter_ns(&self) -> Outcome {
        let Some(fd) = self.ns else { return Ok(()) };
        // SAFETY: a system call without pointers; the descriptor is open.
        check(unsafe { libc::setns(fd, libc::CLONE_NEWNET) }.into())
    }

    fn drop_bounding_set(&self) -> Outcome {
        let Some(keep) = self.keep else { return Ok(()) };
        for number in 0..64 {
            if keep & (1 << number) != 0 {
                continue;
            }
            match prctl(libc::PR_CAPBSET_DROP, number, 0) {
                // The first number that this kernel doesn't know.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => break,
                other => other?,
            }
        }
        Ok(())
    }

    fn set_groups(&self) -> Outcome {
        if self.ids.is_none() && self.keep.is_none() {
            return Ok(());
        }
        // SAFETY: the pointer and length are those of a live vector, which the kernel only reads.
        check(unsafe { libc::syscall(libc::SYS_setgroups, self.groups.len(), self.groups.as_ptr()) })
    }

    fn set_uid(&self, uid: u32) -> Outcome {
        if self.keep != Some(0) {
            prctl(libc::PR_SET_KEEPCAPS, 1, 0)?;
        }
        check(syscall3(libc::SYS_setresuid, uid, uid, uid))
    }

    fn set_capabilities(&self) -> Outcome {
        let Some(keep) = self.keep else { return Ok(()) };
        // capset(2): version 3, two words of 32 bits for each of effective, permitted, inheritable.
        let header: [u32; 2] = [0x2008_0522, 0];
        let (low, high) = (keep as u32, (keep >> 32) as u32);
        let data: [u32; 6] = [low, low, low, high, high, high];
        // SAFETY: both arrays live and have the layout that version 3 of the call defines; the kernel only reads.
        check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) })?;
        prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)?;
        for number in (0..64).filter(|n| keep & (1 << n) != 0) {
            prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, number)?;
        }
        Ok(())
    }

    fn die_with_parent(&self) -> Outcome {
        let Some(parent) = self.parent else {
            return Ok(());
        };
        prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0)?;
        // SAFETY: a system call without pointers, which can't fail.
        if unsafe { libc::getppid() } != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    }
}

fn reset_signals() -> Outcome {
    // Zeros are SIG_DFL without flags in every architecture's `struct sigaction`, none of which is longer. By system
    // call, because glibc refuses to touch the two signals it uses itself, and they can be inherited as ignored too.
    let default = [0u64; 8];
    for signal in (1..=64).filter(|s| !matches!(*s, libc::SIGKILL | libc::SIGSTOP)) {
        // SAFETY: the kernel reads at most 64 bytes from `default`; the old action is not asked for.
        check(unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<u64>(), 8usize)
        })?;
    }
    let none = [0u64; 1];
    // SAFETY: the kernel reads a set of 8 bytes, which is what `none` is; the old set is not asked for.
    check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            none.as_ptr(),
            std::ptr::null_mut::<u64>(),
            size_of_val(&none),
        )
    })
}

fn close_on_exec() -> Outcome {
    // SAFETY: a system call without pointers; it closes nothing before exec.
    let result = check(unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) });
    match result {
        // Before Linux 5.11: by hand, up to the limit.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => {
            // SAFETY: a system call without pointers.
            let limit = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) }.clamp(256, 1 << 20);
            for fd in 3..limit as i32 {
                // SAFETY: a system call without pointers; on a number that isn't open it fails, which is fine.
                unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
            }
            Ok(())
        }
        other => other,
    }
}

fn prctl(option: i32, first: u64, second: u64) -> Outcome {
    // SAFETY: none of the options used here takes a pointer.
    check(unsafe { libc::prctl(option, first, second, 0u64, 0u64) }.into())
}

fn syscall3(number: libc::c_long, a: u32, b: u32, c: u32) -> i64 {
    // SAFETY: used for setresuid and setresgid only, which take three integers.
    unsafe { libc::syscall(number, a, b, c) }
}

fn check(result: i64) -> Outcome {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
