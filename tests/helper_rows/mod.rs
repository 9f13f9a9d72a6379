//! What helpers answer in the programs of `run/helper_rows.c`, against what was recorded on Linux 6.18.
//!
//! The labels of the rows are the lines of the source, so that a row is what was compiled.

use std::os::fd::AsFd;
use std::path::Path;

use skep::sys::Kernel;
use skep::sys::abi::UpdateFlags;
use skep::sys::request::TestRun;
use skep::{Error, Loader, Object, Spec};

const GOLDEN: &str = include_str!("../../testdata/golden/helpers_6.18.txt");
const SOURCE: &str = include_str!("../../testdata/run/helper_rows.c");

/// What a kernel answered to the rows.
#[derive(Default, Debug)]
pub(crate) struct Played {
    pub(crate) rows: usize,
    /// Rows that came out otherwise.
    pub(crate) differ: Vec<String>,
    /// Programs that the kernel did not load, and why.
    pub(crate) skipped: Vec<String>,
}

/// Runs every program and compares what it noted.
pub(crate) fn play(kernel: &Kernel) -> Played {
    let mut played = Played::default();
    for section in GOLDEN.split("\n== ").skip(1) {
        let (program, rows) = section.split_once('\n').expect("a name and rows");
        let rows: Vec<(&str, &str)> = rows.lines().filter_map(|row| row.rsplit_once(" -> ")).collect();
        let found = match answers(kernel, program) {
            Ok(found) => found,
            Err(error) => {
                played.skipped.push(format!("{program}: {error}"));
                continue;
            }
        };
        assert_eq!(found.len(), rows.len(), "{program}: as many lines as rows");
        played.rows += rows.len();
        for ((label, result), (tried, expected)) in found.iter().zip(rows) {
            assert_eq!(label, tried, "{program}: lines and rows are in one order");
            if result != expected {
                played.differ.push(format!("{program}: {tried}: {result}, and Linux 6.18 {expected}"));
            }
        }
    }
    played
}

fn load(kernel: &Kernel, program: &str) -> Result<Object, Error> {
    let mut spec =
        Spec::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/run/helper_rows.o")).unwrap();
    let index = spec.program_index(program).expect("a program of that name");
    spec.load_only(index);
    // What only the others use may be of kinds that the kernel does not have.
    Loader::new(kernel).prune(true).load(&spec)
}

/// The lines of a program and what they came to.
fn answers(kernel: &Kernel, program: &str) -> Result<Vec<(String, String)>, Error> {
    let object = load(kernel, program)?;
    let prog = object.program(program).unwrap();
    let mut frame = [0; 64];
    frame[..6].fill(0xff);
    frame[6..12].fill(2);
    frame[12..34]
        .copy_from_slice(&[8, 0, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
    let mut run = TestRun::default();
    match program {
        "xdp_side" => {
            let device = kernel.backend().ifindex("lo".as_ref()).unwrap();
            let devices = object.map("dm").unwrap().as_map_fd();
            devices.update(&1u32.to_ne_bytes(), &device.to_ne_bytes(), UpdateFlags::empty()).unwrap();
            run.data_in = &frame;
        }
        "tc_side" => run.data_in = &frame,
        "tail_call" => {
            object.map("programs").unwrap().update_fd(&[0; 4], prog, UpdateFlags::empty()).unwrap();
        }
        _ => {}
    }
    let ran = prog.test_run(&mut run);
    let fault = || kernel.backend().prog_fault(prog.as_fd()).unwrap_or_default();
    let retval = ran.unwrap_or_else(|error| panic!("{program}: {error}: {}", fault())).retval;
    if program == "tail_call" {
        let [runs, fell] = ["runs", "fell_through"].map(|name| object.global::<u64>(name).unwrap());
        let text = format!("{runs} runs, {fell} fell through, returns {retval}");
        return Ok(vec![("self tail call: runs, fell-through count, retval".to_owned(), text)]);
    }
    let results = object.global::<[i64; 256]>("results").unwrap();
    let (before, rest) = SOURCE.split_once(&format!("\nint {program}(")).expect("its source");
    let body = rest.split("\n}").next().unwrap_or_default();
    let lines = |text: &str| -> Vec<String> {
        let calls = text.lines().filter_map(|line| line.trim().strip_prefix("NOTE(")?.strip_suffix(");"));
        calls.map(str::to_owned).collect()
    };
    let first = lines(before).len();
    Ok(lines(body)
        .into_iter()
        .zip(&results[first..])
        .map(|(line, result)| (line, result.to_string()))
        .collect())
}
