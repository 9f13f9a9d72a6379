//! Places by the names of sections.

use super::attach::AttachPoint;
use crate::kernel::SimKernel;

impl SimKernel {
    /// The place that the name of a section says, as loaders attach a program without being told: `kprobe/do_unlinkat`,
    /// `tracepoint/sched/sched_switch`, `uprobe//bin/bash:readline`, `perf_event`. `None` for a section that says none.
    ///
    /// A `*` at the end of the name of functions stands for all that [the kernel's symbols](crate::Builder::symbols) have.
    ///
    /// ```
    /// # let sim = skep_sim::SimKernel::new();
    /// assert!(sim.place_of_section("tracepoint/syscalls/sys_enter_openat").is_some());
    /// assert!(sim.place_of_section("kprobe").is_none());
    /// ```
    pub fn place_of_section(&self, section: &str) -> Option<AttachPoint> {
        let (kind, place) = section.split_once('/').unwrap_or((section, ""));
        let kind = kind.trim_end_matches(".s");
        Some(match kind {
            "tp_btf" | "fentry" | "fexit" | "fmod_ret" | "lsm" | "iter" => AttachPoint::loaded(),
            "perf_event" => AttachPoint::perf_event(),
            _ if place.is_empty() => return None,
            "raw_tp" | "raw_tracepoint" | "raw_tp.w" | "raw_tracepoint.w" => {
                AttachPoint::raw_tracepoint(place)
            }
            "tp" | "tracepoint" => {
                let (category, name) = place.split_once('/')?;
                AttachPoint::tracepoint(category, name)
            }
            "kprobe" => match place.split_once('+') {
                Some((function, offset)) => AttachPoint::kprobe_at(function, number(offset)?),
                None => AttachPoint::kprobe(place),
            },
            "kretprobe" => AttachPoint::kretprobe(place),
            "ksyscall" => AttachPoint::kprobe(self.syscall_function(place)),
            "kretsyscall" => AttachPoint::kretprobe(self.syscall_function(place)),
            "kprobe.multi" => AttachPoint::kprobes(self.functions(place)),
            "kretprobe.multi" => AttachPoint::kretprobes(self.functions(place)),
            "kprobe.session" => AttachPoint::kprobe_sessions(self.functions(place)),
            "uprobe" | "uretprobe" => {
                let (path, function) = place.rsplit_once(':')?;
                match function.split_once('+') {
                    _ if kind == "uretprobe" => AttachPoint::uretprobe(path, function),
                    Some((function, offset)) => AttachPoint::uprobe_at(path, function, number(offset)?),
                    None => AttachPoint::uprobe(path, function),
                }
            }
            "uprobe.multi" | "uretprobe.multi" | "uprobe.session" => {
                let (path, function) = place.rsplit_once(':')?;
                match kind {
                    "uprobe.multi" => AttachPoint::uprobes(path, [function]),
                    "uretprobe.multi" => AttachPoint::uretprobes(path, [function]),
                    _ => AttachPoint::uprobe_sessions(path, [function]),
                }
            }
            "usdt" => {
                let mut parts = place.rsplitn(3, ':');
                let (name, provider, path) = (parts.next()?, parts.next()?, parts.next()?);
                AttachPoint::usdt(path, provider, name)
            }
            _ => return None,
        })
    }

    fn syscall_function(&self, name: &str) -> String {
        let prefix = if self.0.config().syscall_wrapper { "__x64_sys_" } else { "sys_" };
        format!("{prefix}{name}")
    }

    /// The functions that a pattern names.
    fn functions(&self, pattern: &str) -> Vec<String> {
        let Some(prefix) = pattern.strip_suffix('*') else { return vec![pattern.to_owned()] };
        let symbols = String::from_utf8_lossy(&self.0.config().symbols);
        let names = symbols.lines().filter_map(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let kind = fields.next()?;
            fields.next().filter(|name| matches!(kind, "t" | "T" | "w" | "W") && name.starts_with(prefix))
        });
        names.map(str::to_owned).collect()
    }
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
