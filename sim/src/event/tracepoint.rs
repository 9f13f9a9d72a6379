//! Tracepoints.

use std::borrow::Cow;

use skep_sys::abi::AttachType;

use super::Event;
use super::attach::PointKind;
use super::call::points;
use super::known::{self, Named};
use super::layout::Layout;
use super::outcome::{EventError, Runs};
use super::scene::{Scene, arguments, attached, run_link, scene, words};
use super::site::{Arguments, Site};
use crate::image::FieldValue;
use crate::kernel::SimKernel;
use crate::link::Place;
use crate::vm::{Vm, What};

/// A tracepoint with its raw arguments: raw tracepoint programs run, and those of BTF tracepoints (`tp_btf`), which read
/// through arguments that are objects.
///
/// ```
/// # let btf = std::fs::read("../testdata/btf/6.18.btf")?;
/// use skep_sim::{RawTracepoint, SimKernel};
///
/// let sim = SimKernel::builder().btf(btf).build()?;
/// let task = sim.memory().object("task_struct")?;
/// task.set("comm", "bash")?;
/// let binary = sim.memory().object("linux_binprm")?;
/// binary.set("filename", "/bin/bash")?;
/// let runs = sim.fire(RawTracepoint::new("sched_process_exec").arg(&task).arg(7).arg(&binary))?;
/// assert!(runs.is_empty()); // nothing is attached
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct RawTracepoint {
    name: String,
    args: Vec<u64>,
    scene: Scene,
}

scene!(RawTracepoint);
arguments!(RawTracepoint);

impl RawTracepoint {
    /// The tracepoint with that name, without its category.
    pub fn new(name: impl Into<String>) -> RawTracepoint {
        RawTracepoint { name: name.into(), args: Vec::new(), scene: Scene::default() }
    }
}

/// Arguments that the context of a raw tracepoint program always has room for (`MAX_BPF_FUNC_ARGS`).
const ARGS_MAX: usize = 12;

impl Event for RawTracepoint {
    type Outcome = Runs;

    fn happen(self, kernel: &SimKernel) -> Result<Runs, EventError> {
        self.scene.check(kernel)?;
        let found = attached(kernel, |link| match &link.place {
            Place::RawTracepoint(name) if *name == self.name => Some(()),
            _ => None,
        });
        if found.is_empty() {
            known::check(kernel, &self.scene, Named::RawTracepoint(self.name.clone()))?;
        }
        let mut runs = Vec::new();
        for (link, ()) in found {
            let prog = link.prog();
            let mut site = Site { cookie: link.cookie, ..self.scene.site(kernel, None) };
            let mut args = self.args.clone();
            if prog.expected_attach_type == AttachType::TRACE_RAW_TP {
                // The first parameter of the tracepoint's function type is not an argument.
                let known = prog.target.as_ref().and_then(|target| kernel.0.parameters(target));
                let count = known.map_or(args.len(), |count| count.saturating_sub(1));
                args.resize(count, 0);
                site.arguments = Some(Arguments { count, returned: false });
            } else {
                args.resize(args.len().max(ARGS_MAX), 0);
            }
            let context = |vm: &mut Vm| vm.own(What::Context, words(&args), false);
            runs.push(run_link(kernel, &link, self.scene.cpu, site, context).0);
        }
        Ok(Runs(runs))
    }
}

/// A tracepoint with its fields, as programs of the tracepoint type get it.
///
/// Where the fields are is told by the kernel's BTF (`struct trace_event_raw_NAME`), by the text of its `format` file
/// ([`format`](Tracepoint::format)), or, for `syscalls`, known: `args[0]` to `args[5]`, `ret`, `__syscall_nr`.
///
/// ```
/// use skep_sim::{SimKernel, Tracepoint};
///
/// let sim = SimKernel::new();
/// let event = Tracepoint::new("syscalls", "sys_enter_openat").field("args[1]", 0x40_0000u64);
/// assert!(sim.fire(event)?.is_empty());
///
/// let event = Tracepoint::new("syscalls", "sys_enter_openat").field("flags", 2);
/// assert_eq!(
///     sim.fire(event).unwrap_err().to_string(),
///     "tracepoint syscalls/sys_enter_openat has no field `flags`; it has __syscall_nr, args"
/// );
/// # Ok::<(), skep_sim::EventError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Tracepoint {
    category: String,
    name: String,
    fields: Vec<(String, FieldValue<'static>)>,
    bytes: Option<Vec<u8>>,
    format: Option<String>,
    type_name: Option<String>,
    scene: Scene,
}

scene!(Tracepoint);

impl Tracepoint {
    /// The tracepoint with that category and name: `sched`, `sched_switch`. Its fields are zero.
    pub fn new(category: impl Into<String>, name: impl Into<String>) -> Tracepoint {
        Tracepoint {
            category: category.into(),
            name: name.into(),
            fields: Vec::new(),
            bytes: None,
            format: None,
            type_name: None,
            scene: Scene::default(),
        }
    }

    /// Sets a field, as [`KernelObject::set`](crate::KernelObject::set) does. A text for a dynamic one (`__data_loc`) is put
    /// behind the fields.
    pub fn field<'v>(mut self, name: impl Into<String>, value: impl Into<FieldValue<'v>>) -> Tracepoint {
        self.fields.push((name.into(), value.into().into_owned()));
        self
    }

    /// The whole record, with its 8 bytes of what all have in common, instead of fields.
    pub fn bytes(mut self, bytes: impl Into<Vec<u8>>) -> Tracepoint {
        self.bytes = Some(bytes.into());
        self
    }

    /// The text of the tracepoint's `format` file in tracefs, which tells where its fields are.
    pub fn format(mut self, text: impl Into<String>) -> Tracepoint {
        self.format = Some(text.into());
        self
    }

    /// The struct of the kernel's BTF that tells where its fields are. Several tracepoints share one:
    /// `sched_wakeup_new` has `trace_event_raw_sched_wakeup_template`.
    pub fn type_name(mut self, name: impl Into<String>) -> Tracepoint {
        self.type_name = Some(name.into());
        self
    }

    fn record(&self, kernel: &SimKernel) -> Result<Cow<'_, [u8]>, EventError> {
        if let Some(bytes) = &self.bytes {
            return Ok(bytes.into());
        }
        let layout = Layout::find(
            kernel,
            &self.category,
            &self.name,
            self.format.as_deref(),
            self.type_name.as_deref(),
        );
        let Some(layout) = layout? else {
            return if self.fields.is_empty() {
                // Nobody knows how long it is; programs that read it want the fields to be set.
                Ok(vec![0; 256].into())
            } else {
                Err(EventError::NoLayout {
                    name: format!("{}/{}", self.category, self.name),
                    event: self.name.clone(),
                })
            };
        };
        Ok(layout.record(&self.fields)?.into())
    }
}

impl Event for Tracepoint {
    type Outcome = Runs;

    fn happen(self, kernel: &SimKernel) -> Result<Runs, EventError> {
        self.scene.check(kernel)?;
        let found = points(kernel, |kind| match kind {
            PointKind::Tracepoint { category, name } => {
                (*category == self.category && *name == self.name).then_some(())
            }
            _ => None,
        });
        let is_described = self.bytes.is_some() || self.format.is_some() || self.type_name.is_some();
        if found.is_empty() && !is_described {
            known::check(kernel, &self.scene, Named::tracepoint(&self.category, &self.name))?;
        }
        let record = self.record(kernel)?;
        let mut runs = Vec::new();
        for (link, (cookie, ())) in found {
            let site = Site { cookie, ..self.scene.site(kernel, None) };
            let bytes = record.to_vec();
            let context = |vm: &mut Vm| vm.own(What::Context, bytes, false);
            runs.push(run_link(kernel, &link, self.scene.cpu, site, context).0);
        }
        Ok(Runs(runs))
    }
}
