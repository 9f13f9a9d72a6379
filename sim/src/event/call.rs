//! Calls of functions of the kernel: kprobes, fentry and its like.

use std::sync::Arc;

use skep_sys::abi::AttachType;

use super::Event;
use super::attach::PointKind;
use super::known::{self, Named};
use super::outcome::{EventError, Run, Runs, TraceEffect};
use super::registers::Registers;
use super::scene::{Scene, arguments, attached, is_tracing, run_link, scene, words};
use super::site::{Arguments, Session, Site};
use crate::kernel::SimKernel;
use crate::link::{Link, Place};
use crate::vm::{Vm, What};

/// A call of a function of the kernel. In this order run:
/// 1. what is attached to its start: kprobes and multi-kprobes, `fentry`, `fsession`;
/// 2. `fmod_ret` programs, until one returns something else than 0: then the function does not run;
/// 3. what is attached to its end: `fexit`, `fsession`, kretprobes.
///
/// ```
/// use skep_sim::{FunctionCall, SimKernel};
///
/// let symbols = "ffffffff812a4c10 T do_unlinkat\n"; // or the kernel's types, which have it too
/// let sim = SimKernel::builder().symbols(symbols).build()?;
/// let name = sim.memory().put(b"/tmp/file\0");
/// let call = sim.fire(FunctionCall::new("do_unlinkat").arg(-100).arg(name).returns(-2))?;
/// assert_eq!(call.returned, -2);
/// assert!(call.runs.is_empty()); // nothing is attached
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct FunctionCall {
    name: String,
    offset: Option<u64>,
    args: Vec<u64>,
    returns: i64,
    regs: Registers,
    scene: Scene,
}

/// What a call of a function did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct CallOutcome {
    /// The programs that ran, in order.
    pub runs: Runs,
    /// What the caller gets.
    pub returned: i64,
    /// Whether a program kept the function from running.
    pub skipped: bool,
}

scene!(FunctionCall);
arguments!(FunctionCall);

impl FunctionCall {
    /// A call of the function with that name, which returns 0.
    pub fn new(name: impl Into<String>) -> FunctionCall {
        FunctionCall {
            name: name.into(),
            offset: None,
            args: Vec::new(),
            returns: 0,
            regs: Registers::default(),
            scene: Scene::default(),
        }
    }

    /// What the function returns when it runs.
    pub fn returns(mut self, value: impl Into<super::Argument>) -> FunctionCall {
        self.returns = value.into().0.cast_signed();
        self
    }

    /// What the registers hold that have no arguments.
    pub fn registers(mut self, regs: Registers) -> FunctionCall {
        self.regs = regs;
        self
    }

    /// Lets kprobes inside of the function run too, at this offset from its start.
    pub fn through(mut self, offset: u64) -> FunctionCall {
        self.offset = Some(offset);
        self
    }
}

/// A call that happens.
struct Call<'k> {
    kernel: &'k SimKernel,
    event: FunctionCall,
    address: u64,
    runs: Vec<Run>,
    returned: i64,
    skipped: bool,
    /// By link, what a session said at the start.
    sessions: Vec<(u32, Session)>,
}

impl Event for FunctionCall {
    type Outcome = CallOutcome;

    fn happen(self, kernel: &SimKernel) -> Result<CallOutcome, EventError> {
        self.scene.check(kernel)?;
        let address = kernel.0.function_address(&self.name);
        let returned = self.returns;
        let mut call = Call {
            kernel,
            event: self,
            address,
            runs: Vec::new(),
            returned,
            skipped: false,
            sessions: Vec::new(),
        };
        call.kprobes(0);
        if let Some(offset) = call.event.offset.filter(|offset| *offset != 0) {
            call.kprobes(offset);
        }
        call.tracing(super::attach::FENTRY, false);
        call.fsessions(false);
        call.modify();
        call.tracing(&[AttachType::TRACE_FEXIT], true);
        call.fsessions(true);
        call.kretprobes();
        let Call { runs, returned, skipped, event, .. } = call;
        if runs.is_empty() {
            known::check(kernel, &event.scene, Named::Function(event.name))?;
        }
        Ok(CallOutcome { runs: Runs(runs), returned, skipped })
    }
}

impl Call<'_> {
    fn regs(&self, offset: u64) -> Registers {
        let mut regs = self.event.regs.clone();
        regs.set_args(&self.event.args);
        regs.set_ip(self.address.wrapping_add(offset));
        // What does not fit into registers is behind the address that the function returns to.
        if let Some(more) = self.event.args.get(6..).filter(|more| !more.is_empty()) {
            let mut stack = vec![0; 8];
            stack.extend(words(more));
            regs.set_sp(self.kernel.memory().put(&stack));
        }
        regs
    }

    fn site(&self, cookie: u64, func_ip: u64) -> Site {
        Site { cookie, func_ip, ..self.event.scene.site(self.kernel, Some(self.address)) }
    }

    /// Runs what is attached to a place by points.
    fn probe(
        &mut self,
        link: &Link,
        cookie: u64,
        regs: &Registers,
        func_ip: u64,
        session: Option<Session>,
    ) -> Site {
        let mut site = self.site(cookie, func_ip);
        site.session = session;
        let bytes = regs.bytes();
        let context = |vm: &mut Vm| vm.own(What::Context, bytes, false);
        let (run, site) = run_link(self.kernel, link, self.event.scene.cpu, site, context);
        for effect in &run.effects {
            if let TraceEffect::Override { value } = effect {
                (self.skipped, self.returned) = (true, value.cast_signed());
            }
        }
        self.runs.push(run);
        site
    }

    /// The latest one comes first.
    fn kprobes(&mut self, at: u64) {
        let name = self.event.name.clone();
        let regs = self.regs(at);
        let found = points(self.kernel, |kind| match kind {
            PointKind::Kprobe { function, offset } if *function == name && *offset == at => Some(false),
            PointKind::KprobeSession { function } if *function == name && at == 0 => Some(true),
            _ => None,
        });
        for (link, (cookie, is_session)) in found.into_iter().rev() {
            let session = is_session.then_some(Session { at_return: false, cookie: 0, address: None });
            let func_ip = if at == 0 { self.address } else { 0 };
            let site = self.probe(&link, cookie, &regs, func_ip, session);
            let goes_on = self.runs.last().is_some_and(|run| run.result == Ok(0));
            if let Some(session) = site.session.filter(|_| goes_on) {
                self.sessions.push((link.id, session));
            }
        }
    }

    /// In the order in which they were attached: each is put on top of a stack when the function starts, the latest one first.
    fn kretprobes(&mut self) {
        let name = self.event.name.clone();
        let mut regs = self.regs(0);
        regs.set_returned(self.returned.cast_unsigned());
        let found = points(self.kernel, |kind| match kind {
            PointKind::Kretprobe { function } if *function == name => Some(false),
            PointKind::KprobeSession { function } if *function == name => Some(true),
            _ => None,
        });
        for (link, (cookie, is_session)) in found {
            let session = self.sessions.iter().find(|(id, _)| *id == link.id).map(|(_, session)| *session);
            if is_session && session.is_none() {
                continue;
            }
            let session = session.map(|session| Session { at_return: true, ..session });
            let _ = self.probe(&link, cookie, &regs, self.address, session);
        }
    }

    /// The programs that are attached by types, with the function's arguments and, at its end, what it returned. The latest one
    /// comes first, at both ends.
    fn tracing(&mut self, types: &[AttachType], at_end: bool) {
        let found = attached(self.kernel, |link| is_tracing(link, types, &self.event.name).then_some(()));
        for (link, ()) in found.into_iter().rev() {
            let _ = self.typed(&link, at_end.then_some(self.returned), None);
        }
    }

    /// The programs that run at both ends and share a word. At the start nothing was returned yet, which reads as 0.
    fn fsessions(&mut self, at_return: bool) {
        let types = &[AttachType::TRACE_FSESSION];
        let found = attached(self.kernel, |link| is_tracing(link, types, &self.event.name).then_some(()));
        for (link, ()) in found.into_iter().rev() {
            let before =
                self.sessions.iter().find(|(id, _)| *id == link.id).map(|(_, session)| session.cookie);
            let session = Session { at_return, cookie: before.unwrap_or(0), address: None };
            let returned = if at_return { self.returned } else { 0 };
            let (_, after) = self.typed(&link, Some(returned), Some(session));
            if let Some(session) = after.filter(|_| !at_return) {
                self.sessions.push((link.id, session));
            }
        }
    }

    /// What the program answered, and what is left of its session.
    fn typed(
        &mut self,
        link: &Arc<Link>,
        returned: Option<i64>,
        session: Option<Session>,
    ) -> (Option<u64>, Option<Session>) {
        let site = Site { session, ..self.site(link.cookie, self.address) };
        let (site, bytes) = typed_context(self.kernel, link, site, &self.event.args, returned);
        let context = |vm: &mut Vm| vm.own(What::Context, bytes, false);
        let (run, site) = run_link(self.kernel, link, self.event.scene.cpu, site, context);
        let value = run.result.as_ref().ok().copied();
        self.runs.push(run);
        (value, site.session)
    }

    fn modify(&mut self) {
        if self.skipped {
            return;
        }
        let types = &[AttachType::MODIFY_RETURN];
        let found = attached(self.kernel, |link| is_tracing(link, types, &self.event.name).then_some(()));
        let own = std::mem::take(&mut self.returned);
        for (link, ()) in found.into_iter().rev() {
            if let Some(value) = self
                .typed(&link, Some(0), None)
                .0
                .map(|value| i64::from(value as i32))
                .filter(|value| *value != 0)
            {
                (self.skipped, self.returned) = (true, value);
                return;
            }
        }
        self.returned = own;
    }
}

/// Context and site of a program that gets typed arguments.
pub(super) fn typed_context(
    kernel: &SimKernel,
    link: &Link,
    site: Site,
    args: &[u64],
    returned: Option<i64>,
) -> (Site, Vec<u8>) {
    // The function has as many as its type says, however many the event gives.
    let known = link.prog().target.as_ref().and_then(|target| kernel.0.parameters(target));
    let count = known.unwrap_or(args.len());
    let mut values = args.to_vec();
    values.resize(count, 0);
    values.extend(returned.map(i64::cast_unsigned));
    let site = Site { arguments: Some(Arguments { count, returned: returned.is_some() }), ..site };
    (site, words(&values))
}

/// Links with a point for which `at` answers something, with the point's cookie and that.
pub(super) fn points<T>(
    kernel: &SimKernel,
    at: impl Fn(&PointKind) -> Option<T>,
) -> Vec<(Arc<Link>, (u64, T))> {
    attached(kernel, |link| match &link.place {
        Place::Points { points, .. } => {
            points.iter().find_map(|point| Some((point.cookie.unwrap_or(link.cookie), at(&point.kind)?)))
        }
        _ => None,
    })
}
