//! Whether anything knows the name of the place that an event is at. A name with a letter too many would be a place where no
//! program ever runs, and a test that fires it would see nothing and be content.

use std::collections::BTreeSet;

use skep_btf::Kind;

use super::attach::{Code, PointKind};
use super::outcome::EventError;
use super::scene::Scene;
use super::syscalls;
use crate::image::path::distance;
use crate::kernel::SimKernel;
use crate::link::{Link, Place};

/// How many names an error lists.
const LISTED: usize = 5;

/// A place with a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Named {
    /// Without category.
    RawTracepoint(String),
    /// With the category, as in `sched/sched_switch`.
    Tracepoint(String),
    Function(String),
    /// Without `bpf_lsm_`.
    Lsm(String),
    /// `PATH:FUNCTION`.
    User(String),
    /// `PATH:PROVIDER:NAME`.
    Usdt(String),
}

/// What the functions of LSM hooks are called before their names.
const LSM: &str = "bpf_lsm_";

impl Named {
    pub(super) fn tracepoint(category: &str, name: &str) -> Named {
        Named::Tracepoint(format!("{category}/{name}"))
    }

    pub(super) fn user(path: &str, function: &str) -> Named {
        Named::User(format!("{path}:{function}"))
    }

    pub(super) fn usdt(path: &str, provider: &str, name: &str) -> Named {
        Named::Usdt(format!("{path}:{provider}:{name}"))
    }

    fn of_code(code: &Code) -> Named {
        Named::user(&code.path, &code.function)
    }

    /// The places of a link that have names.
    pub(crate) fn of(link: &Link) -> Vec<Named> {
        match &link.place {
            Place::RawTracepoint(name) => vec![Named::RawTracepoint(name.clone())],
            Place::Tracing { .. } => {
                let prog = link.prog();
                let target = prog.target.as_ref().filter(|target| target.prog.is_none());
                target.map(|target| Named::target(&target.name)).into_iter().collect()
            }
            Place::Points { points, .. } => {
                points.iter().filter_map(|point| Named::of_point(&point.kind)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What a program names when it is loaded.
    fn target(name: &str) -> Named {
        let function = || Named::Function(name.to_owned());
        name.strip_prefix(LSM).map_or_else(function, |hook| Named::Lsm(hook.to_owned()))
    }

    fn of_point(kind: &PointKind) -> Option<Named> {
        Some(match kind {
            PointKind::Kprobe { function, .. }
            | PointKind::Kretprobe { function }
            | PointKind::KprobeSession { function } => Named::Function(function.clone()),
            PointKind::Tracepoint { category, name } => Named::tracepoint(category, name),
            PointKind::Uprobe(code) | PointKind::Uretprobe(code) | PointKind::UprobeSession(code) => {
                Named::of_code(code)
            }
            PointKind::Usdt { path, provider, name } => Named::usdt(path, provider, name),
            PointKind::Perf(_) => return None,
        })
    }

    fn name(&self) -> &str {
        match self {
            Named::RawTracepoint(name)
            | Named::Tracepoint(name)
            | Named::Function(name)
            | Named::Lsm(name)
            | Named::User(name)
            | Named::Usdt(name) => name,
        }
    }

    fn is_like(&self, other: &Named) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    fn what(&self) -> &'static str {
        match self {
            Named::RawTracepoint(_) => "raw tracepoint",
            Named::Tracepoint(_) => "tracepoint",
            Named::Function(_) => "function of the kernel",
            Named::Lsm(_) => "LSM hook",
            Named::User(_) => "function of a file",
            Named::Usdt(_) => "USDT tracepoint",
        }
    }

    /// How else a kernel learns of one.
    fn cure(&self) -> &'static str {
        match self {
            Named::RawTracepoint(_) => "name it with `Builder::tracepoint`",
            Named::Tracepoint(_) => "give its `format` or its `type_name`",
            Named::Function(_) | Named::Lsm(_) => "name it with `Builder::symbols`",
            Named::User(_) | Named::Usdt(_) => "attach a program to it",
        }
    }
}

/// Says that an event is at a place where no program is attached. That is right when the place is known: by the kernel's types or
/// symbols, or since a program was attached there before.
pub(super) fn check(kernel: &SimKernel, scene: &Scene, place: Named) -> Result<(), EventError> {
    if scene.is_part || kernel.0.world().places.contains(&place) {
        return Ok(());
    }
    if is_known(kernel, &place) {
        kernel.0.world().places.insert(place);
        return Ok(());
    }
    Err(unknown(kernel, &place))
}

fn has_function(kernel: &SimKernel, name: &str) -> bool {
    let typed = kernel.0.kernel_btfs().any(|btf| btf.btf.find_own(name.as_bytes(), Kind::FUNC).is_some());
    typed || kernel.0.symbol_address(name).is_some()
}

fn is_known(kernel: &SimKernel, place: &Named) -> bool {
    match place {
        Named::RawTracepoint(name) => kernel.0.has_tracepoint(name),
        Named::Tracepoint(full) => {
            let (category, name) = full.split_once('/').unwrap_or(("", full));
            // Names of tracepoints are unique: one of this name is in the other category.
            let elsewhere = |known: &Named| matches!(known, Named::Tracepoint(other) if other.rsplit('/').next() == Some(name));
            if kernel.0.world().places.iter().any(elsewhere) {
                return false;
            }
            match category {
                "syscalls" => {
                    let call = name.strip_prefix("sys_enter_").or_else(|| name.strip_prefix("sys_exit_"));
                    call.is_some_and(|call| syscalls::number(call).is_some())
                }
                "raw_syscalls" => matches!(name, "sys_enter" | "sys_exit"),
                _ => {
                    let record = format!("trace_event_raw_{name}");
                    kernel.0.has_tracepoint(name) || kernel.0.type_named(&record).is_ok()
                }
            }
        }
        Named::Function(name) => {
            let wrapped = ["__x64_sys_", "sys_"].iter().find_map(|prefix| name.strip_prefix(prefix));
            wrapped.is_some_and(|call| syscalls::number(call).is_some()) || has_function(kernel, name)
        }
        Named::Lsm(name) => has_function(kernel, &format!("{LSM}{name}")),
        Named::User(_) | Named::Usdt(_) => false,
    }
}

/// All names of that kind that the kernel's types have.
fn typed_names(kernel: &SimKernel, place: &Named) -> Vec<String> {
    let (kind, prefix) = match place {
        Named::RawTracepoint(_) => (Kind::TYPEDEF, "btf_trace_"),
        Named::Tracepoint(_) => (Kind::STRUCT, "trace_event_raw_"),
        Named::Function(_) => (Kind::FUNC, ""),
        Named::Lsm(_) => (Kind::FUNC, LSM),
        Named::User(_) | Named::Usdt(_) => return Vec::new(),
    };
    let types = kernel.0.kernel_btfs().flat_map(|btf| btf.btf.types().filter(|ty| ty.kind() == kind));
    let mut names: Vec<String> =
        types.filter_map(|ty| ty.name().strip_prefix(prefix).map(str::to_owned)).collect();
    match place {
        Named::RawTracepoint(_) => names.extend(kernel.0.config().tracepoints.iter().cloned()),
        // The types do not tell the category.
        Named::Tracepoint(full) => {
            let category = full.split_once('/').map_or("", |(category, _)| category);
            if category == "syscalls" {
                let calls = syscalls::names();
                names = calls
                    .flat_map(|call| [format!("sys_enter_{call}"), format!("sys_exit_{call}")])
                    .collect();
            }
            names.extend(kernel.0.config().tracepoints.iter().cloned());
            names.iter_mut().for_each(|name| *name = format!("{category}/{name}"));
        }
        _ => {}
    }
    names
}

fn unknown(kernel: &SimKernel, place: &Named) -> EventError {
    let attached: BTreeSet<String> = {
        let world = kernel.0.world();
        world.places.iter().filter(|other| other.is_like(place)).map(|one| one.name().to_owned()).collect()
    };
    let name = place.name();
    EventError::Unknown {
        what: place.what(),
        name: name.to_owned(),
        near: near(name, typed_names(kernel, place).into_iter().chain(attached.iter().cloned())),
        attached: attached.into_iter().take(LISTED).collect(),
        cure: place.cure(),
    }
}

/// Those of the names that are similar, the nearest first.
pub(crate) fn near(name: &str, all: impl IntoIterator<Item = String>) -> Vec<String> {
    let most = (name.len() / 4).clamp(1, 4);
    // The end of what has several parts says most.
    let last = |name: &str| name.rsplit(['/', ':']).next().unwrap_or_default().to_owned();
    let similar = |other: String| {
        if other == name {
            return None;
        }
        let far = match other.len().abs_diff(name.len()) {
            difference if difference <= most => distance(name, &other),
            _ => usize::MAX,
        };
        (far <= most || last(&other) == last(name)).then_some((far, other))
    };
    let near: BTreeSet<(usize, String)> = all.into_iter().filter_map(similar).collect();
    near.into_iter().map(|(_, name)| name).take(LISTED).collect()
}
