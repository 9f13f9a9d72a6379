//! Test runs.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::time::Duration;

use skep_sys::abi::{Errno, ProgType, TestRunFlags};
use skep_sys::request::TestRun;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{FlowKeys, Program, XdpMd};
use crate::error::Error;

/// What a program is run on ([`Program::run`]): everything that `BPF_PROG_TEST_RUN` takes.
///
/// Which of it a program takes depends on its kind:
///
/// | kinds | packet | context | more |
/// |---|---|---|---|
/// | socket filters, tc, cgroup_skb, lightweight tunnels | in and out | [`SkBuff`](super::SkBuff), in and out | repeat; [`checksum_complete`](Self::checksum_complete) |
/// | XDP | in and out | [`XdpMd`], in and out | repeat; [`live_frames`](Self::live_frames) |
/// | flow_dissector | in; the data afterwards are [`FlowKeys`] | [`FlowKeys`], in and out | repeat |
/// | sk_lookup | | [`SkLookup`](super::SkLookup), needed, in and out | repeat |
/// | netfilter | in | [`NfHookState`](super::NfHookState), in | repeat |
/// | raw_tracepoint | | [arguments](Self::args), in | [`on_cpu`](Self::on_cpu) |
/// | syscall | | any bytes, in and out | |
/// | struct_ops (of `bpf_dummy_ops`) | | [arguments](Self::args), in | |
/// | tracing | | | runs functions that the kernel has for it |
///
/// ```
/// use skep::program::{ProgramBuilder, RunInput, SkBuff};
/// use skep::asm::Reg;
/// use skep::sys::abi::ProgType;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let kernel = skep::sim::kernel();
/// let mut builder = ProgramBuilder::new(ProgType::SCHED_CLS, "GPL");
/// builder.asm().mov64_imm(Reg::R0, 0).exit();
/// let program = builder.load(&kernel)?;
/// let input = RunInput::packet(&[0; 64]).context(&SkBuff { mark: 7, ..SkBuff::default() }).repeat(1000);
/// let output = program.run(&input)?;
/// println!("{} in {:?}, mark {}", output.retval, output.duration, output.context::<SkBuff>().ok_or("no context")?.mark);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it does nothing until a program is run on it"]
pub struct RunInput<'a> {
    data: &'a [u8],
    ctx: Vec<u8>,
    repeat: u32,
    flags: TestRunFlags,
    cpu: u32,
    batch_size: u32,
}

/// What a program did in a test run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunOutput {
    /// What it returned; with [`repeat`](RunInput::repeat), the last time.
    pub retval: u32,
    /// Mean time of a run, in whole nanoseconds. Kinds that do not take [`repeat`](RunInput::repeat) are not timed.
    pub duration: Duration,
    /// The packet afterwards, for kinds that give one.
    pub data: Vec<u8>,
    /// The context afterwards, if one was given and the kind gives it back.
    pub ctx: Vec<u8>,
}

impl RunOutput {
    /// The context afterwards, as far as `T` goes; what the kernel does not know of it is 0. None when there is none.
    pub fn context<T: FromBytes + IntoBytes>(&self) -> Option<T> {
        let mut context = T::new_zeroed();
        context.as_mut_bytes().iter_mut().zip(&self.ctx).for_each(|(to, from)| *to = *from);
        (!self.ctx.is_empty()).then_some(context)
    }

    /// What a flow dissector found.
    pub fn flow_keys(&self) -> Option<FlowKeys> {
        FlowKeys::read_from_prefix(&self.data).ok().map(|(keys, _)| keys)
    }
}

impl<'a> RunInput<'a> {
    /// Nothing: for kinds that need neither packet nor context.
    pub fn new() -> Self {
        RunInput::default()
    }

    /// A packet, from its Ethernet header on.
    pub fn packet(data: &'a [u8]) -> Self {
        RunInput { data, ..RunInput::default() }
    }

    /// The arguments of a raw tracepoint or of a function of `struct_ops`.
    pub fn args(args: &[u64]) -> Self {
        RunInput::new().context(args)
    }

    /// The context: one of the types of this module, or for kind `syscall` any plain data (Linux 5.2).
    pub fn context<T: IntoBytes + Immutable + ?Sized>(mut self, context: &T) -> Self {
        self.ctx = context.as_bytes().to_vec();
        self
    }

    /// How often it is run, to measure its time. 0 is once.
    pub fn repeat(mut self, times: u32) -> Self {
        self.repeat = times;
        self
    }

    /// Runs a raw tracepoint program on this CPU (`BPF_F_TEST_RUN_ON_CPU`, Linux 5.10).
    pub fn on_cpu(mut self, cpu: u32) -> Self {
        self.flags |= TestRunFlags::RUN_ON_CPU;
        self.cpu = cpu;
        self
    }

    /// Sends the frames of an XDP program to where its return value says, [`repeat`](Self::repeat) of them and up to
    /// `batch` at once, 0 for as many as the kernel likes; there is no packet to read then
    /// (`BPF_F_TEST_XDP_LIVE_FRAMES`, Linux 5.18). The frames are real: they go to interfaces and into the stack.
    pub fn live_frames(mut self, batch: u32) -> Self {
        self.flags |= TestRunFlags::XDP_LIVE_FRAMES;
        self.batch_size = batch;
        self
    }

    /// Computes the checksum of the packet beforehand, as a network card does
    /// (`BPF_F_TEST_SKB_CHECKSUM_COMPLETE`, Linux 6.17).
    pub fn checksum_complete(mut self) -> Self {
        self.flags |= TestRunFlags::SKB_CHECKSUM_COMPLETE;
        self
    }

    /// Further flags.
    pub fn flags(mut self, flags: TestRunFlags) -> Self {
        self.flags |= flags;
        self
    }
}

/// What a kind of program takes and gives.
struct Takes {
    /// Shortest packet, none for kinds without one.
    packet: Option<usize>,
    /// How much longer than it came a packet can become, none when none is given back.
    growth: Option<usize>,
    ctx: Ctx,
    repeat: bool,
    flags: TestRunFlags,
}

#[derive(PartialEq, Eq)]
enum Ctx {
    None,
    /// Read only.
    In(&'static str),
    /// Read, and written somewhere else.
    InOut(&'static str),
    /// The same, and it cannot be left out.
    Needed(&'static str),
    /// Read, and written in the same place.
    InPlace(&'static str),
}

/// Length of an Ethernet header.
const ETHERNET: usize = 14;
/// Length of an IPv4 header.
const IPV4: usize = 20;
/// Length of an IPv6 header.
const IPV6: usize = 40;
/// Packets grow to the size of a loopback interface's at most, and a little for headers.
const GROWTH: usize = (64 << 10) + 512;
/// Room for contexts that are longer than those that are known here.
const CTX: usize = 256;

/// None for kinds that no kernel runs by themselves.
fn takes(prog_type: ProgType) -> Option<Takes> {
    let nothing =
        Takes { packet: None, growth: None, ctx: Ctx::None, repeat: false, flags: TestRunFlags::empty() };
    Some(match prog_type {
        ProgType::SOCKET_FILTER
        | ProgType::SCHED_CLS
        | ProgType::SCHED_ACT
        | ProgType::CGROUP_SKB
        | ProgType::LWT_IN
        | ProgType::LWT_OUT
        | ProgType::LWT_XMIT
        | ProgType::LWT_SEG6LOCAL => Takes {
            packet: Some(ETHERNET),
            growth: Some(GROWTH),
            ctx: Ctx::InOut("SkBuff"),
            repeat: true,
            flags: TestRunFlags::SKB_CHECKSUM_COMPLETE,
        },
        ProgType::XDP => Takes {
            packet: Some(ETHERNET),
            growth: Some(GROWTH),
            ctx: Ctx::InOut("XdpMd"),
            repeat: true,
            flags: TestRunFlags::XDP_LIVE_FRAMES,
        },
        ProgType::FLOW_DISSECTOR => Takes {
            packet: Some(ETHERNET),
            growth: Some(size_of::<FlowKeys>()),
            ctx: Ctx::InOut("FlowKeys"),
            repeat: true,
            ..nothing
        },
        ProgType::SK_LOOKUP => Takes { ctx: Ctx::Needed("SkLookup"), repeat: true, ..nothing },
        ProgType::NETFILTER => {
            Takes { packet: Some(ETHERNET + IPV4), ctx: Ctx::In("NfHookState"), repeat: true, ..nothing }
        }
        ProgType::RAW_TRACEPOINT | ProgType::RAW_TRACEPOINT_WRITABLE => {
            Takes { ctx: Ctx::In("arguments"), flags: TestRunFlags::RUN_ON_CPU, ..nothing }
        }
        ProgType::SYSCALL => Takes { ctx: Ctx::InPlace("bytes"), ..nothing },
        ProgType::STRUCT_OPS => Takes { ctx: Ctx::In("arguments"), ..nothing },
        ProgType::TRACING => nothing,
        _ => return None,
    })
}

impl Program {
    /// Runs it in the kernel (`BPF_PROG_TEST_RUN`, Linux 4.12).
    ///
    /// The program really runs: what it does to maps, and frames that it is told to send, are no test. Buffers for what
    /// it gives are made in the size that its kind can need; where a kernel still has more to give it is run once more.
    ///
    /// # Errors
    ///
    /// When the kernel cannot run this kind of program or not on this input. The error says what of the input does not
    /// go with the kind.
    pub fn run(&self, input: &RunInput<'_>) -> Result<RunOutput, Error> {
        let kind = self.prog_type();
        let known = takes(kind);
        let live = input.flags.contains(TestRunFlags::XDP_LIVE_FRAMES);
        let mut ctx = input.ctx.clone();
        if kind == ProgType::XDP {
            fill_data_end(&mut ctx, input.data.len());
        }
        let gives = known.as_ref().filter(|_| !live);
        let room =
            gives.and_then(|takes| takes.growth).map_or(0, |growth| input.data.len().saturating_add(growth));
        let in_place = matches!(known, Some(Takes { ctx: Ctx::InPlace(_), .. }));
        let ctx_back = gives.is_some_and(|takes| matches!(takes.ctx, Ctx::InOut(_) | Ctx::Needed(_)));
        let mut data_out = Room::take(room);
        let mut ctx_out = vec![0; if ctx_back && !ctx.is_empty() { ctx.len().max(CTX) } else { 0 }];
        let mut again = false;
        loop {
            let mut run = TestRun::default();
            run.data_in = input.data;
            run.data_out = data_out.bytes();
            run.ctx_out = &mut ctx_out;
            if in_place {
                run.ctx = &mut ctx;
            } else {
                run.ctx_in = &ctx;
            }
            (run.repeat, run.flags, run.cpu, run.batch_size) =
                (input.repeat, input.flags, input.cpu, input.batch_size);
            match self.loaded().test_run(&mut run) {
                Ok(result) => {
                    ctx_out.truncate(result.ctx_size_out as usize);
                    return Ok(RunOutput {
                        retval: result.retval,
                        duration: Duration::from_nanos(result.duration_ns.into()),
                        data: data_out.give_back(result.data_size_out as usize),
                        ctx: if in_place { ctx } else { ctx_out },
                    });
                }
                Err((Errno::ENOSPC, result)) if !again => {
                    again = true;
                    if room > 0 {
                        data_out = Room::take(room.max(result.data_size_out as usize));
                    }
                    if !ctx_out.is_empty() {
                        ctx_out.resize(ctx_out.len().max(result.ctx_size_out as usize), 0);
                    }
                }
                Err((errno, _)) => {
                    let mut step = format!("run it{}", explain(kind, known.as_ref(), input, errno));
                    if errno == Errno::EFAULT
                        && let Ok(fault) = self.kernel().backend().prog_fault(self.loaded().as_fd())
                    {
                        step = format!("run it: {fault}");
                    }
                    return Err(self.failed(step, errno));
                }
            }
        }
    }
}

/// Room for the packet that a kernel gives back. Only zeros are in it at first.
///
/// A packet may grow to many times its size, and to make so much room anew takes longer than most programs run. So a
/// thread keeps it, with zeros where something was written.
struct Room {
    bytes: Vec<u8>,
    len: usize,
}

thread_local! {
    static KEPT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Room {
    /// More than this is not kept.
    const KEPT_MAX: usize = 4 * GROWTH;

    fn take(len: usize) -> Room {
        let mut bytes = if len > 0 { KEPT.take() } else { Vec::new() };
        if bytes.len() < len {
            bytes = vec![0; len];
        }
        Room { bytes, len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or_default()
    }

    /// The packet that a kernel has written. What is written otherwise, when it fails, is not kept.
    fn give_back(mut self, size: usize) -> Vec<u8> {
        let size = size.min(self.len);
        let Some(written) = self.bytes.get_mut(..size) else { return Vec::new() };
        let packet = written.to_vec();
        written.fill(0);
        if self.len > 0 && self.bytes.len() <= Room::KEPT_MAX {
            KEPT.set(self.bytes);
        }
        packet
    }
}

/// 0 for the end of an XDP packet means the end of the data.
fn fill_data_end(ctx: &mut [u8], len: usize) {
    if let Ok((context, _)) = XdpMd::read_from_prefix(ctx)
        && context.data_end == 0
        && let Ok(len) = u32::try_from(len)
    {
        let filled = XdpMd { data_end: len, ..context };
        // It was read from there.
        let _ = filled.write_to_prefix(ctx);
    }
}

/// Says that a packet ends in the header of what its Ethernet header announces.
fn cut_header(packet: &[u8]) -> Option<String> {
    let (name, header) = match packet.get(12..ETHERNET)? {
        [0x08, 0x00] => ("IPv4", IPV4),
        [0x86, 0xdd] => ("IPv6", IPV6),
        _ => return None,
    };
    let (least, len) = (ETHERNET + header, packet.len());
    (len < least)
        .then(|| format!("by its type the packet is {name}, which takes {least} bytes, and it has {len}"))
}

/// Above this size no kernel takes a packet: twice the largest of IP.
const PACKET_LARGE: usize = 1 << 17;

/// What of the input does not go with the kind, with a separator.
fn explain(kind: ProgType, takes: Option<&Takes>, input: &RunInput<'_>, errno: Errno) -> String {
    if errno == Errno::EFAULT && kind == ProgType::TRACING {
        return " (kernels run no such tracing program by itself: attach it and make the event happen)"
            .to_owned();
    }
    if errno == Errno::EINTR {
        // Kernels look for signals between one run and the next.
        return format!(
            " (a signal came meanwhile: it may have run fewer times than {})",
            input.repeat.max(1)
        );
    }
    if errno == Errno::ENOMEM && input.data.len() > PACKET_LARGE {
        return format!(" (a kernel has no room for a packet of {} bytes)", input.data.len());
    }
    if !matches!(errno, Errno::EINVAL | Errno::ENOTSUPP | Errno::EOPNOTSUPP | Errno::ENXIO | Errno::E2BIG) {
        return if errno == Errno::ENOSYS {
            " (a simulated kernel runs no programs of this kind by themselves)".to_owned()
        } else {
            String::new()
        };
    }
    let Some(takes) = takes else {
        return format!(
            " (no kernel runs {kind} programs by themselves: attach it and make the event happen)"
        );
    };
    if matches!(errno, Errno::ENOTSUPP | Errno::EOPNOTSUPP) {
        return format!(" (this kernel does not run this {kind} program by itself)");
    }
    if errno == Errno::ENXIO {
        return format!(" (CPU {} is not there or not online)", input.cpu);
    }
    let mut wrong = Vec::new();
    match takes.packet {
        None if !input.data.is_empty() => wrong.push("it takes no packet".to_owned()),
        Some(least) if input.data.len() < least => {
            wrong.push(format!("it takes a packet of at least {least} bytes, and has {}", input.data.len()));
        }
        Some(_) if kind != ProgType::XDP => wrong.extend(cut_header(input.data)),
        _ => {}
    }
    match takes.ctx {
        Ctx::None if !input.ctx.is_empty() => wrong.push("it takes no context".to_owned()),
        Ctx::Needed(name) if input.ctx.is_empty() => {
            wrong.push(format!("it needs a context, of type {name}"))
        }
        Ctx::In("arguments") => wrong.push(format!(
            "it may read more arguments than the {} that there are",
            input.ctx.len() / size_of::<u64>()
        )),
        Ctx::In(name) | Ctx::InOut(name) | Ctx::Needed(name) if !input.ctx.is_empty() => wrong.push(format!(
            "of the context, {name}, a run takes only some fields, within limits: see the fields of the type"
        )),
        _ => {}
    }
    if input.repeat > 0 && !takes.repeat {
        wrong.push("it cannot be repeated".to_owned());
    }
    let flags = input.flags.difference(takes.flags);
    if !flags.is_empty() {
        let names: Vec<&str> = flags.iter_names().map(|(name, _)| name).collect();
        wrong.push(format!("it takes no {}", names.join(" and no ")));
    } else if !input.flags.is_empty() {
        wrong.push("the kernel may be too old for a flag".to_owned());
    }
    if wrong.is_empty() { String::new() } else { format!(" ({kind}: {})", wrong.join("; ")) }
}
