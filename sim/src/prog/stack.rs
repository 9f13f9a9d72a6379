//! How deep functions call each other, and how much stack they take together.

use skep_asm::{Insn, opcode as op};
use skep_sys::abi::{Errno, ProgType};

use super::flow::Walk;
use super::verify::{Reject, Subject, reject};

/// Most functions that call each other (`MAX_CALL_FRAMES`).
const FRAMES_MAX: usize = 8;
/// Most bytes of their stacks (`MAX_BPF_STACK`).
const STACK_MAX: u32 = 512;
/// What machine code rounds a function's stack to.
const STACK_UNIT: u32 = 16;
/// Callers of a function with a tail call may take less than this.
const TAIL_CALL_STACK_MAX: u32 = 256;
const TAIL_CALL: i32 = 12;

/// A function as far as its calls go.
#[derive(Default)]
struct Function {
    stack: u32,
    /// Where it calls which others, in order.
    calls: Vec<(usize, usize)>,
    has_tail_call: bool,
}

/// Checks the depth of calls as the kernel comes to it while it walks, and then that of stacks.
pub(super) fn check(subject: &Subject<'_>, starts: &[usize], walk: &Walk) -> Result<(), Reject> {
    let insns = subject.request.insns;
    let functions = functions(insns, starts, walk);
    let live = |slot: usize| walk.live.binary_search(&slot).is_ok();
    let is_call = |slot: usize| insns.get(slot).is_some_and(Insn::is_pseudo_call);
    let mut calls = Search::new(&functions);
    if let Some(slot) = calls.deepest(0, 0, &|slot| live(slot) && is_call(slot)) {
        let text = format!("the call stack of {} frames is too deep", FRAMES_MAX + 1);
        return Err(reject(Errno::E2BIG, text).at(slot));
    }
    Stacks { functions: &functions, private: has_private_stack(subject.request.prog_type), seen: Vec::new() }
        .check(0, 0, 0)
}

/// Kinds whose functions machine code can give a stack of their own (`bpf_enable_priv_stack`).
fn has_private_stack(prog_type: ProgType) -> bool {
    matches!(
        prog_type,
        ProgType::KPROBE
            | ProgType::TRACEPOINT
            | ProgType::PERF_EVENT
            | ProgType::RAW_TRACEPOINT
            | ProgType::TRACING
            | ProgType::LSM
            | ProgType::STRUCT_OPS
    )
}

fn functions(insns: &[Insn], starts: &[usize], walk: &Walk) -> Vec<Function> {
    let mut functions: Vec<Function> = starts.iter().map(|_| Function::default()).collect();
    let of = |slot: usize| starts.partition_point(|start| *start <= slot).saturating_sub(1);
    for (slot, insn) in insns.iter().enumerate() {
        let Some(function) = functions.get_mut(of(slot)) else { continue };
        function.has_tail_call |= is_tail_call(insn);
        let target = insn.func_target(slot).and_then(|target| usize::try_from(target).ok());
        if let Some(callee) = target.and_then(|target| starts.binary_search(&target).ok()) {
            function.calls.push((slot, callee));
        }
    }
    for access in &walk.accesses {
        if let Some(function) = functions.get_mut(of(access.slot)) {
            function.stack = function.stack.max(access.depth());
        }
    }
    functions
}

pub(super) fn is_tail_call(insn: &Insn) -> bool {
    insn.opcode == op::CALL && insn.src_raw() == 0 && insn.imm == TAIL_CALL
}

/// A search that comes to each function at each depth once.
struct Search<'a> {
    functions: &'a [Function],
    seen: Vec<(usize, usize)>,
}

impl<'a> Search<'a> {
    fn new(functions: &'a [Function]) -> Self {
        Search { functions, seen: Vec::new() }
    }

    /// The call that is one too deep, the first that the kernel comes to.
    fn deepest(&mut self, function: usize, depth: usize, counts: &dyn Fn(usize) -> bool) -> Option<usize> {
        if self.seen.contains(&(function, depth)) {
            return None;
        }
        self.seen.push((function, depth));
        let functions = self.functions;
        for &(slot, callee) in functions.get(function)?.calls.iter().filter(|(slot, _)| counts(*slot)) {
            if depth + 1 >= FRAMES_MAX {
                return Some(slot);
            }
            let found = self.deepest(callee, depth + 1, counts);
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

struct Stacks<'a> {
    functions: &'a [Function],
    private: bool,
    seen: Vec<(usize, usize, u32)>,
}

impl Stacks<'_> {
    /// As `check_max_stack_depth_subprog`. `above` is what its callers take.
    fn check(&mut self, number: usize, frame: usize, above: u32) -> Result<(), Reject> {
        if self.seen.contains(&(number, frame, above)) {
            return Ok(());
        }
        self.seen.push((number, frame, above));
        let functions = self.functions;
        let Some(function) = functions.get(number) else { return Ok(()) };
        if number != 0 && function.has_tail_call && above >= TAIL_CALL_STACK_MAX {
            let text = format!(
                "tail_calls are not allowed when call stack of previous frames is {above} bytes. Too large"
            );
            return Err(reject(Errno::EACCES, text));
        }
        let own = function.stack.next_multiple_of(STACK_UNIT);
        let stack = if self.private && !function.has_tail_call { own } else { above + own }; // small numbers
        if stack > STACK_MAX {
            let text = format!("combined stack size of {} calls is {stack}. Too large", frame + 1);
            return Err(reject(Errno::EACCES, text));
        }
        for &(_, callee) in &function.calls {
            if frame + 1 >= FRAMES_MAX {
                let text = format!("the call stack of {} frames is too deep !", frame + 1);
                return Err(reject(Errno::E2BIG, text));
            }
            self.check(callee, frame + 1, stack)?;
        }
        Ok(())
    }
}
