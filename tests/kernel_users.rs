//! Users without rights on the running kernel. Needs root.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod support;
mod user_conformance;

use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, set_capabilities, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};
use skep::Kernel;
use user_conformance::{Act, Host};

struct Linux(Kernel, PathBuf);

impl Host for Linux {
    fn kernel(&self) -> &Kernel {
        &self.0
    }

    fn place(&self) -> &Path {
        &self.1
    }

    fn as_user(&self, uid: u32, groups: &[u32], act: Act<'_>) {
        // Linux knows users by thread.
        on_thread(|| {
            let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
            set_thread_groups(&groups).unwrap();
            set_thread_res_gid(groups[0], groups[0], groups[0]).unwrap();
            let uid = Uid::from_raw(uid);
            set_thread_res_uid(uid, uid, uid).unwrap();
            act(&Kernel::linux());
        });
    }

    fn with_capabilities(&self, capabilities: &[u32], act: Act<'_>) {
        on_thread(|| {
            let bits = capabilities.iter().fold(0, |bits, number| bits | 1 << number);
            let set = CapabilitySet::from_bits_retain(bits);
            let empty = CapabilitySet::empty();
            set_capabilities(None, CapabilitySets { effective: set, permitted: set, inheritable: empty })
                .unwrap();
            act(&Kernel::linux());
        });
    }
}

fn on_thread(work: impl FnOnce() + Send) {
    let ended = std::thread::scope(|scope| scope.spawn(work).join());
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Runs a body where what it mounts is nobody else's, and goes with it.
fn run(name: &str, body: user_conformance::Body) {
    if !nix::unistd::geteuid().is_root() {
        return support::denied(name, "not root");
    }
    let place = std::env::temp_dir().join(format!("skep_users_{name}_{}", std::process::id()));
    let host = Linux(Kernel::linux(), place.clone());
    on_thread(|| {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNS) {
            return support::denied(name, format_args!("no mounts of its own: {errno}"));
        }
        let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        body(&host);
    });
    let _ = std::fs::remove_dir(place);
}

user_conformance::tests! { run }
