//! Prints what is executed on the machine as it happens: `exec_stream.bpf.o` sends records through a ring buffer, and a tokio
//! task awaits them until ctrl-c.
//!
//! Needs root, Linux 5.8 or newer and kernel BTF. As root: `cargo run --example exec_stream`

use std::future::Future;
use std::io::Write;
use std::pin::pin;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use skep::link::Link;
use skep::map::PlainData;
use skep::poll::AsyncEvents;
use skep::ring::TypedRingBuffer;
use skep::{Kernel, Loader, Object, Spec};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Print what is executed as it happens.
#[derive(Parser)]
pub(crate) struct Args {
    /// End after this long and not only with ctrl-c
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=1e6).contains(&seconds) => Ok(seconds),
        _ => Err("give a number of seconds".into()),
    }
}

/// `struct execution` of `exec_stream.bpf.c`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, PlainData)]
#[repr(C)]
pub(crate) struct Execution {
    pub(crate) at_ns: u64,
    pub(crate) pid: i32,
    pub(crate) parent_pid: i32,
    pub(crate) uid: u32,
    pub(crate) padding: u32,
    pub(crate) comm: [u8; 16],
    pub(crate) filename: [u8; 128],
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    let (object, _link) = load(&Kernel::linux())?;
    stream(&object, until(&args), &mut std::io::stdout()).await
}

/// Loads and attaches the program; it sends records until the link is dropped.
pub(crate) fn load(kernel: &Kernel) -> Result<(Object, Link)> {
    let spec = Spec::parse("exec_stream", include_bytes!("exec_stream.bpf.o"))?;
    let object = Loader::new(kernel).load(&spec)?;
    let link = object.program("stream_exec")?.attach()?;
    Ok((object, link))
}

/// Ctrl-c, or the end of the time.
async fn until(args: &Args) {
    let time = async {
        match args.seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs_f64(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = time => {}
    }
}

/// Prints records as they come, until the future is done.
pub(crate) async fn stream(
    object: &Object,
    until: impl Future<Output = ()>,
    out: &mut impl Write,
) -> Result<()> {
    let ring: TypedRingBuffer<Execution> = object.map("executions")?.typed()?;
    let mut events = AsyncEvents::new(ring)?;
    let mut until = pin!(until);
    writeln!(out, "{:>8} {:>8} {:>6}  {:<16} FILE", "PID", "PARENT", "UID", "COMMAND")?;
    let mut seen = 0;
    let mut print = |event: &Execution| {
        let (command, file) = (text(&event.comm), text(&event.filename));
        seen += 1;
        writeln!(out, "{:>8} {:>8} {:>6}  {command:<16} {file}", event.pid, event.parent_pid, event.uid)
    };
    loop {
        tokio::select! {
            event = events.next() => print(&event?)?,
            () = &mut until => break,
        }
    }
    // What came before the end and was not awaited any more.
    for event in events.into_inner().copies() {
        print(&event?)?;
    }
    Ok(writeln!(out, "\n{seen} executions seen, {} lost", object.global::<u64>("lost")?)?)
}

/// The text before the first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// What a service tests without a kernel: a simulated one loads the object, and the test sends what the program would.
#[cfg(test)]
mod tests {
    use skep::sim::SimKernel;
    use skep::sys::abi::RingFlags;

    use super::*;

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        std::array::from_fn(|at| text.as_bytes().get(at).copied().unwrap_or(0))
    }

    #[tokio::test]
    async fn records_are_printed() {
        let types = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/btf/6.12.btf"))
            .expect("types of a kernel");
        let sim = SimKernel::builder().btf(types).build().expect("they are BTF");
        let (object, _link) = load(&Kernel::new(sim.clone())).expect("it loads");
        let send = |pid: i32, name: &str| {
            let event = Execution {
                at_ns: 1,
                pid,
                parent_pid: 1,
                uid: 1000,
                padding: 0,
                comm: bytes(name),
                filename: bytes(&format!("/bin/{name}")),
            };
            let ring = object.map("executions").expect("it is there").as_map_fd();
            sim.ring_output(ring, event.as_bytes(), RingFlags::empty()).expect("there is room");
        };
        let events = async {
            send(7, "true");
            tokio::time::sleep(Duration::from_millis(20)).await;
            send(8, "uname");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let mut out = Vec::new();
        stream(&object, events, &mut out).await.expect("it streams");
        let out = String::from_utf8(out).expect("it is text");
        let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["7", "1", "1000", "true", "/bin/true"]);
        assert_eq!(rows[2], ["8", "1", "1000", "uname", "/bin/uname"]);
        assert!(out.ends_with("\n2 executions seen, 0 lost\n"), "{out}");
    }
}
