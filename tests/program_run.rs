//! Buffers of test runs, on a backend that has more to give than anyone expects.

#![allow(missing_docs)]

use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Mutex;

use skep::asm::Reg;
use skep::program::{ProgramBuilder, RunInput, SkBuff};
use skep::sys::abi::{Errno, ProgType};
use skep::sys::request::{LogBuffer, ProgLoad, TestRun, TestRunResult};
use skep::sys::{Backend, Kernel};

/// Answers packets of a length, and notes the rooms that it was given.
#[derive(Debug, Default)]
struct Runs {
    gives: u32,
    /// What it answers instead of running.
    fails: Option<Errno>,
    rooms: Mutex<Vec<(usize, usize)>>,
}

impl Backend for Runs {
    fn name(&self) -> &str {
        "runs"
    }

    fn prog_load(&self, _: &ProgLoad<'_>, _: Option<&mut LogBuffer>) -> Result<OwnedFd, Errno> {
        Ok(File::open("/dev/null").unwrap().into())
    }

    fn prog_test_run(
        &self,
        _: BorrowedFd<'_>,
        run: &mut TestRun<'_>,
    ) -> Result<TestRunResult, (Errno, TestRunResult)> {
        self.rooms.lock().unwrap().push((run.data_out.len(), run.ctx_out.len()));
        let mut result = TestRunResult::default();
        (result.data_size_out, result.ctx_size_out) = (self.gives, 192);
        run.data_out.fill(7);
        if let Some(errno) = self.fails {
            return Err((errno, result));
        }
        let fits = run.data_out.len() >= self.gives as usize;
        if fits { Ok(result) } else { Err((Errno::ENOSPC, result)) }
    }
}

fn rooms(
    prog_type: ProgType,
    gives: u32,
    input: &RunInput<'_>,
) -> (Result<usize, Errno>, Vec<(usize, usize)>) {
    let runs = std::sync::Arc::new(Runs { gives, ..Runs::default() });
    let mut builder = ProgramBuilder::new(prog_type, "GPL");
    builder.asm().mov64_imm(Reg::R0, 0).exit();
    let program = builder.load(&Kernel::from_arc(runs.clone())).unwrap();
    let result = program.run(input).map(|output| output.data.len()).map_err(|error| error.errno().unwrap());
    let rooms = runs.rooms.lock().unwrap().clone();
    (result, rooms)
}

#[test]
fn rooms_are_large_enough_at_once() {
    let packet = [0; 100];
    let (result, made) = rooms(ProgType::SCHED_CLS, 65_550, &RunInput::packet(&packet));
    assert_eq!((result, made.len(), made[0].1), (Ok(65_550), 1, 0));
    let input = RunInput::packet(&packet).context(&SkBuff::default());
    let (result, made) = rooms(ProgType::SCHED_CLS, 100, &input);
    assert_eq!((result, made.len(), made[0].1), (Ok(100), 1, 256));
    // Kinds that give no packet are given no room for one.
    let (_, made) = rooms(ProgType::RAW_TRACEPOINT, 0, &RunInput::args(&[1]));
    assert_eq!(made, [(0, 0)]);
    let (_, made) = rooms(ProgType::XDP, 0, &RunInput::packet(&packet).live_frames(4));
    assert_eq!(made, [(0, 0)]);
}

#[test]
fn a_room_that_is_too_small_grows_once() {
    let (result, made) = rooms(ProgType::XDP, 300_000, &RunInput::packet(&[0; 100]));
    assert_eq!((result, made.len(), made[1].0), (Ok(300_000), 2, 300_000));
    // A backend that is never content does not keep the caller.
    let (result, made) = rooms(ProgType::RAW_TRACEPOINT, 10, &RunInput::args(&[1]));
    assert_eq!((result, made.len()), (Err(Errno::ENOSPC), 2));
}

/// Who repeats a run can be interrupted between one and the next. Nobody runs a program again who was not asked to.
#[test]
fn a_signal_ends_a_run_and_is_named() {
    let runs = std::sync::Arc::new(Runs { fails: Some(Errno::EINTR), ..Runs::default() });
    let mut builder = ProgramBuilder::new(ProgType::XDP, "GPL");
    builder.name("repeated").asm().mov64_imm(Reg::R0, 0).exit();
    let program = builder.load(&Kernel::from_arc(runs.clone())).unwrap();
    let error = program.run(&RunInput::packet(&[0; 64]).repeat(1000)).unwrap_err();
    assert_eq!((error.errno(), runs.rooms.lock().unwrap().len()), (Some(Errno::EINTR), 1));
    assert!(
        error.to_string().contains("a signal came meanwhile") && error.to_string().contains("1000"),
        "{error}"
    );
}
