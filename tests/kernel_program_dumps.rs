//! Dumps of programs beside those of bpftool.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod support;

use std::path::Path;
use std::process::Command;

use skep::{Kernel, Loader, Program, Spec};
use support::skip;

/// What bpftool prints of a program.
fn bpftool(program: &Program) -> Option<String> {
    let id = program.info().unwrap().id.to_string();
    let output =
        Command::new("bpftool").args(["prog", "dump", "xlated", "id", &id, "linum"]).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

/// The declaration of a function, as bpftool has it, shortened to its name.
fn shortened(line: &str) -> String {
    match line.strip_suffix("):").and_then(|line| line.split_once('(')) {
        Some((before, _)) if !line.starts_with([' ', ';']) => {
            let name = before.rsplit([' ', '*']).next().unwrap_or(before);
            format!("{name}:")
        }
        _ => line.to_owned(),
    }
}

#[test]
fn a_dump_is_what_bpftool_prints() {
    let name = "a_dump_is_what_bpftool_prints";
    let kernel = Kernel::linux();
    let mut compared = 0;
    for object in ["subprogs", "callbacks", "map_values", "xdp_count", "syscall_prog", "globals", "tc"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(format!("{object}.o"));
        let loaded = match Loader::new(&kernel).load(&Spec::open(path).unwrap()) {
            Ok(loaded) => loaded,
            Err(error) => {
                skip(name, format!("{object} does not load here: {error}"));
                continue;
            }
        };
        for program in loaded.programs() {
            let ours = program.xlated().unwrap().to_string();
            let Some(theirs) = bpftool(program) else {
                return skip(name, "bpftool is not installed");
            };
            let theirs: Vec<String> = theirs.lines().map(shortened).collect();
            let ours: Vec<&str> = ours.lines().collect();
            for (number, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                // Where two symbols are at one address either may be shown.
                let alias = |line: &str| line.contains("(85) call ") && !line.contains(" pc");
                let call = |line: &str| line.rsplit('#').next().map(str::to_owned);
                // An old bpftool does not know how a kernel marks what is per CPU.
                let ours = ours.replace("&(void __percpu *)(r0)", "r0");
                let same = &ours == theirs || alias(&ours) && alias(theirs) && call(&ours) == call(theirs);
                assert!(same, "{object}, {}, line {number}:\n  {ours}\n  {theirs}", program.name());
            }
            assert_eq!(ours.len(), theirs.len(), "{object}, {}", program.name());
            compared += 1;
        }
    }
    if compared == 0 {
        skip(name, "nothing loads here");
    }
}
