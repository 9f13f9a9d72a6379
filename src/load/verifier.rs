//! Why the kernel did not take a program: the verifier's log, read for the person who has to mend the program.

use std::fmt;

use skep_asm::disassemble;
use skep_btf::Btf;
use skep_btf::relo::Applied;
use skep_sys::abi::{Errno, ProgType};

use crate::error::called;
use crate::reloc::{Poison, ProgramPlan, SourceLine};

/// A program that the kernel did not take.
///
/// `Display` prints what matters in a few lines: the verifier's last words, the instruction that they are about with
/// its C source line, and a missing kernel field, function or map by its name. The whole log is in
/// [`log`](Self::log).
#[derive(Debug)]
#[non_exhaustive]
pub struct ProgramError {
    /// Name of the program.
    pub program: String,
    /// Kind of the program.
    pub prog_type: ProgType,
    /// What the kernel answered.
    errno: Errno,
    /// The instruction that the verifier stopped at.
    pub instruction: Option<FailedInstruction>,
    /// The last lines of the log that say what is wrong.
    pub reason: Vec<String>,
    /// What the poisoned instruction at the end of the log stands for.
    pub missing: Option<String>,
    /// What may help.
    pub hint: String,
    /// The whole log, as far as it was kept.
    log: String,
    /// Whether the log is longer than what was kept.
    pub truncated: bool,
}

/// The instruction that the verifier stopped at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedInstruction {
    /// Index in the program as it was given to the kernel.
    pub index: u32,
    /// Its text.
    pub text: String,
    /// Function that it is in.
    pub function: String,
    /// Where it comes from, when the object has line records.
    pub source: Option<SourceLine>,
}

impl ProgramError {
    pub(super) fn new(
        plan: &ProgramPlan,
        btf: Option<&Btf>,
        errno: Errno,
        log: String,
        truncated: bool,
        hint: String,
    ) -> ProgramError {
        let reading = read_log(&log);
        let instruction = reading.instruction.and_then(|index| failed_instruction(plan, btf, index));
        let missing = reading.instruction.and_then(|index| missing(plan, index, &reading.reason));
        let advice = reading.advice.map(|advice| format!(" (the kernel suggests: {advice})"));
        let hint = if hint.is_empty() { advice.unwrap_or_default() } else { hint };
        ProgramError {
            program: plan.name.clone(),
            prog_type: plan.prog_type,
            errno,
            instruction,
            reason: reading.reason,
            missing,
            hint,
            log,
            truncated,
        }
    }

    /// What the kernel answered.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// The whole log; empty when the kernel wrote none.
    pub fn log(&self) -> &str {
        &self.log
    }
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "program {} ({}): the kernel did not take it", called(&self.program), self.prog_type)?;
        match &self.missing {
            Some(missing) => write!(f, ": {missing}")?,
            None if !self.reason.is_empty() => write!(f, ": {}", self.reason.join("; "))?,
            None => {}
        }
        write!(f, " ({}){}", self.errno.name().unwrap_or("unknown error"), self.hint)?;
        if let Some(instruction) = &self.instruction {
            write!(f, "\n  at instruction {}", instruction.index)?;
            if !instruction.function.is_empty() {
                write!(f, ", {}", instruction.function)?;
            }
            write!(f, ": {}", instruction.text)?;
            if let Some(source) = &instruction.source {
                write!(f, "\n  {}:{}:{}: {}", source.file, source.line, source.column, source.text.trim())?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ProgramError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        None
    }
}

/// What a log says at its end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reading {
    instruction: Option<u32>,
    reason: Vec<String>,
    /// What the kernel says to do.
    advice: Option<String>,
}

/// How many lines from the end are looked at for the instruction that failed.
const LOOK_BACK: usize = 4000;
/// How many lines of reason are kept.
const REASON_MAX: usize = 4;
/// How the report begins that Linux 7.3 puts behind what is known from older kernels.
const REPORT: &str = "Verification failed: ";

/// Finds the last instruction that the verifier looked at, and what it said of it.
fn read_log(log: &str) -> Reading {
    match log.rfind(REPORT) {
        Some(at) if at == 0 || log.get(..at).is_some_and(|before| before.ends_with('\n')) => {
            let (before, report) = log.split_at(at);
            read_report(read_words(before), report)
        }
        _ => read_words(log),
    }
}

/// Adds what a report says to what stands before it, which it may repeat in other words or be in place of.
fn read_report(mut reading: Reading, report: &str) -> Reading {
    let mut lines = report.lines().take(LOOK_BACK).map(str::trim_end);
    let title = lines.next().and_then(|line| line.strip_prefix(REPORT)).unwrap_or_default();
    let mut section = "";
    let (mut reason, mut advice) = (Vec::new(), Vec::new());
    for line in lines {
        let text = line.trim_start();
        if text.len() == line.len() {
            section = text;
        } else if section == "Reason:" && reason.len() < REASON_MAX {
            reason.push(text);
        } else if section == "Suggestion:" && advice.len() < REASON_MAX {
            advice.push(text);
        } else if section == "At:" && reading.instruction.is_none() {
            reading.instruction = text.strip_prefix("insn ").and_then(|index| index.parse().ok());
        }
    }
    if reading.reason.is_empty() && !title.is_empty() {
        reading.reason.push(title.to_owned());
    }
    // What is a sentence there is a part of one here.
    let joined = |words: Vec<&str>| Some(words.join(" ").trim_end_matches('.').to_owned());
    reading.reason.extend(joined(reason).filter(|text| !text.is_empty()));
    reading.advice = joined(advice).filter(|text| !text.is_empty());
    reading
}

/// Reads a log without a report.
fn read_words(log: &str) -> Reading {
    let mut reason = Vec::new();
    let mut instruction = None;
    for line in log.lines().rev().take(LOOK_BACK) {
        let line = line.trim_end();
        if line.is_empty() || is_statistics(line) {
            continue;
        }
        if let Some(index) = instruction_of(line) {
            instruction = Some(index);
            break;
        }
        // `; source @ file:line` and register dumps stand between an instruction and what is wrong with it.
        let noise = line.starts_with(';') || is_state(line) || line.starts_with("from ");
        if !noise && reason.len() < REASON_MAX {
            reason.push(line.trim_start().to_owned());
        }
    }
    reason.reverse();
    Reading { instruction, reason, advice: None }
}

/// The summary that ends every log.
fn is_statistics(line: &str) -> bool {
    ["processed ", "verification time ", "stack depth ", "max_states_per_insn ", "insns "]
        .iter()
        .any(|start| line.starts_with(start))
}

/// The index in a line such as `12: (85) call bpf_map_lookup_elem#1`.
fn instruction_of(line: &str) -> Option<u32> {
    let (index, rest) = line.split_once(": (")?;
    let (opcode, _) = rest.split_once(')')?;
    (opcode.len() == 2 && opcode.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then(|| index.trim().parse().ok())?
}

/// A dump of registers, such as `12: R0=inv0 R1=ctx(…)`, ` R0_w=0` or `frame1: R6=1`. What is said of a register has no `=`
/// right behind its name: `R1 type=scalar expected=map_ptr`.
fn is_state(line: &str) -> bool {
    let mut text = line.trim_start();
    while let Some((place, rest)) = text.split_once(": ") {
        let number = place.strip_prefix("frame").unwrap_or(place);
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            break;
        }
        text = rest.trim_start();
    }
    let Some((name, _)) = text.split_once('=') else { return false };
    let (name, marks) = name.split_once('_').unwrap_or((name, ""));
    let number = name.strip_prefix('R').or_else(|| name.strip_prefix("fp-")).unwrap_or_default();
    !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && marks.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn failed_instruction(plan: &ProgramPlan, btf: Option<&Btf>, index: u32) -> Option<FailedInstruction> {
    let text = disassemble(plan.insns.get(index as usize..)?).next()?.to_string();
    let function =
        plan.function_at(index).map_or_else(|| plan.name.clone(), |function| function.name.clone());
    Some(FailedInstruction {
        index,
        text,
        function,
        source: btf.and_then(|btf| plan.source_line(btf, index)),
    })
}

/// What a poisoned instruction stands for.
fn missing(plan: &ProgramPlan, index: u32, reason: &[String]) -> Option<String> {
    if !reason.iter().any(|line| line.contains("invalid func unknown#")) {
        return None;
    }
    if let Some(missing) = plan.missing.iter().find(|missing| missing.insn == index) {
        return Some(Poison::Missing(missing).to_string());
    }
    let placed =
        plan.decisions.iter().find(|placed| matches!(index.checked_sub(placed.insn), Some(0 | 1)))?;
    matches!(placed.applied, Applied::Poisoned | Applied::PoisonedBySize)
        .then(|| Poison::Core(placed).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(log: &str) -> (Option<u32>, Vec<String>) {
        let reading = read_log(log);
        (reading.instruction, reading.reason)
    }

    #[test]
    fn the_last_words_of_a_log_are_found() {
        let log = "0: R1=ctx() R10=fp0\n; int x = *p; @ a.c:3\n0: (79) r1 = *(u64 *)(r1 +0)\n\
            func 'f' arg0 has btf_id 1 type STRUCT 'x'\n1: R1_w=scalar()\n1: (61) r0 = *(u32 *)(r1 +0)\n\
            R1 invalid mem access 'scalar'\nprocessed 2 insns (limit 1000000) max_states_per_insn 0\n";
        assert_eq!(reading(log), (Some(1), vec!["R1 invalid mem access 'scalar'".into()]));
        assert_eq!(reading(""), (None, vec![]));
        assert_eq!(
            reading("jump out of range from insn 1 to 9\n"),
            (None, vec!["jump out of range from insn 1 to 9".into()])
        );
        let poison = "5: (85) call unknown#195896080\ninvalid func unknown#195896080\nprocessed 3 insns\n";
        assert_eq!(reading(poison), (Some(5), vec!["invalid func unknown#195896080".into()]));
    }

    #[test]
    fn what_is_said_of_a_register_is_no_dump_of_it() {
        for words in
            ["R1 type=scalar expected=map_ptr", "R2 unbounded memory access, use 'var &= const'", "R0 = 1"]
        {
            let log = format!("5: (18) r1 = 0x0 ; R1=0\n6: (85) call bpf_map_lookup_elem#1\n{words}\n");
            assert_eq!(reading(&log), (Some(6), vec![words.to_owned()]));
        }
        let dumps = [
            "R0=1 R10=fp0",
            " R0_rw=inv(id=0)",
            "6: R1_w=ctx()",
            "frame1: R6=1",
            "6: frame12: R0_wD=0 fp-8=m",
            "fp-16_w=0",
        ];
        for dump in dumps {
            let log = format!("6: (85) call bpf_map_lookup_elem#1\n{dump}\nwhat is wrong\n");
            assert_eq!(reading(&log), (Some(6), vec!["what is wrong".to_owned()]));
        }
    }

    /// Linux 7.3 says it once more, at length, and with what to do.
    #[test]
    fn reports_add_to_the_words() {
        let report = "Verification failed: Register Type Safety: Unreadable register\n\nReason:\n  R0 was never \
            written on this way,\n  so it cannot be read.\n\nAt:\n  insn 7\n        | ^-- error: R0 is not readable\n  \
            Instruction context:\n  >>> 7 | (95) exit\n\nCausal path:\n  no events on this path\n\nSuggestion:\n  \
            Write R0 before this.\n\nprocessed 8 insns (limit 1000000) max_states_per_insn 0\n";
        let reason = "R0 was never written on this way, so it cannot be read".to_owned();
        let advice = Some("Write R0 before this".to_owned());
        let words = "0: R1=ctx() R10=fp0\n6: (b7) r1 = 0\n7: (95) exit\nR0 !read_ok\n\n";
        let both = read_log(&format!("{words}{report}"));
        let expected = vec!["R0 !read_ok".to_owned(), reason.clone()];
        assert_eq!(both, Reading { instruction: Some(7), reason: expected, advice: advice.clone() });
        let alone = read_log(report);
        let title = "Register Type Safety: Unreadable register".to_owned();
        assert_eq!(alone, Reading { instruction: Some(7), reason: vec![title, reason], advice });

        // Parts that are not there, or are cut off, are left out.
        let poison = "5: (85) call unknown#195896080\ninvalid func unknown#195896080\nVerification failed: Call\nReason:\n";
        assert_eq!(reading(poison), (Some(5), vec!["invalid func unknown#195896080".into()]));
        // A line of source is no report.
        let source = "; printf(\"Verification failed: x\") @ a.c:1\n0: (95) exit\nR0 !read_ok\n";
        assert_eq!(reading(source), (Some(0), vec!["R0 !read_ok".into()]));
    }

    #[test]
    fn odd_logs_do_no_harm() {
        for log in [
            ": (",
            "1: ()",
            "99999999999: (85) call",
            "1: (zz) x",
            "R",
            "frame",
            "\u{fffd}: (85) x\n;\n;\n",
            REPORT,
            "Verification failed: \nAt:\n  insn 99999999999\n  insn\nSuggestion:\n  .\n",
        ] {
            let _ = read_log(log);
        }
    }
}
