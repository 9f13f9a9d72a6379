//! What `cargo xtask ci` prints at its end.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use super::{Outcome, Report};
use crate::results::Results;

/// The steps with their times, the kernels with their tests, and one line with the total.
pub(super) fn format(reports: &[Report]) -> String {
    let mut out = String::new();
    write(reports, &mut out).ok(); // a String takes all
    out
}

fn write(reports: &[Report], out: &mut String) -> fmt::Result {
    writeln!(out, "\n{:<9} {:<7} {:>8}  tests", "step", "outcome", "seconds")?;
    let mut total = Results::default();
    for report in reports {
        let outcome = match report.outcome {
            Outcome::Ok if report.missing.is_empty() => "ok",
            Outcome::Ok => "partly",
            Outcome::Failed(_) => "FAILED",
        };
        let seconds = report.time.as_secs_f64();
        let tests =
            if report.results == Results::default() { String::new() } else { report.results.to_string() };
        writeln!(out, "{:<9} {outcome:<7} {seconds:>8.1}  {tests}", report.name)?;
        total += &report.results;
    }
    let kernels: Vec<_> = reports.iter().flat_map(|report| &report.kernels).collect();
    if !kernels.is_empty() {
        writeln!(
            out,
            "\n{:<28} {:>6} {:>6} {:>7} {:>7}",
            "kernel tests on", "passed", "failed", "ignored", "skips"
        )?;
        for (kernel, results) in &kernels {
            let skips = results.skipped.iter().collect::<BTreeSet<_>>().len();
            let Results { passed, failed, ignored, .. } = results;
            writeln!(out, "{kernel:<28} {passed:>6} {failed:>6} {ignored:>7} {skips:>7}")?;
        }
        for (kernel, results) in kernels {
            for (name, reason) in &results.skipped {
                writeln!(out, "skipped on {kernel}: {name}: {reason}")?;
            }
        }
    }
    for report in reports {
        for what in &report.missing {
            writeln!(out, "not run in {}: {what}", report.name)?;
        }
        if report.kernels.is_empty() {
            failures(report.name, &report.results, out)?;
        }
        for (kernel, results) in &report.kernels {
            failures(&format!("{} on {kernel}", report.name), results, out)?;
        }
        if let Outcome::Failed(why) = &report.outcome {
            writeln!(out, "{} failed: {why}", report.name)?;
        }
    }
    writeln!(out, "\n{total}")
}

/// The tests that failed, with what they said: who sees only the end of the output sees why.
fn failures(place: &str, results: &Results, out: &mut String) -> fmt::Result {
    for failure in &results.failures {
        writeln!(out, "failed in {place}: {}", failure.name)?;
        for line in failure.panics.iter().flat_map(|said| said.lines()) {
            writeln!(out, "    {line}")?;
        }
    }
    Ok(())
}
