//! Breakpoints at places that no program has.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::debug::{Debugger, Place};
use crate::event::near;
use crate::name::is_called;
use crate::prog::Prog;
use crate::vm::SourceLine;

impl Debugger {
    /// The breakpoints at places that none of the programs has that are loaded now, in words, with the lines and names that are
    /// near. Nothing ever stops there, and [`resume`](crate::Session::resume) goes on to the end.
    ///
    /// ```
    /// # let sim = skep_sim::SimKernel::new();
    /// let mut debugger = skep_sim::Debugger::new(&sim);
    /// debugger.break_at("filter.c", 12);
    /// assert_eq!(debugger.misplaced(), ["breakpoint 0, filter.c:12: no program with lines of C is loaded"]);
    /// ```
    pub fn misplaced(&self) -> Vec<String> {
        let progs: Vec<Arc<Prog>> = self.sim().0.state().progs.iter().collect();
        let places = self.places().enumerate();
        places
            .filter_map(|(number, place)| Some(format!("breakpoint {number}, {}", wrong(place, &progs)?)))
            .collect()
    }
}

/// Why nothing stops at a place.
fn wrong(place: &Place, progs: &[Arc<Prog>]) -> Option<String> {
    match place {
        Place::Line(file, line) => wrong_line(file, *line, progs).map(|why| format!("{file}:{line}: {why}")),
        Place::Function(name) => {
            let known: BTreeSet<String> =
                progs.iter().flat_map(|prog| prog.functions()).map(|(_, name)| name).collect();
            (!known.contains(name)).then(|| {
                format!("function `{name}`: no program that is loaded has it{}", similar(name, known))
            })
        }
        Place::Instruction(name, slot) => {
            let mut named = progs.iter().filter(|prog| is_called(prog.name(), name)).peekable();
            if named.peek().is_none() {
                let known = progs.iter().map(|prog| prog.name().to_owned()).collect();
                return Some(format!(
                    "program `{name}`: none of that name is loaded{}",
                    similar(name, known)
                ));
            }
            let longest = named.map(|prog| prog.insns().len()).max().unwrap_or_default();
            (*slot >= longest)
                .then(|| format!("program `{name}`: it has no instruction {slot}, only {longest}"))
        }
    }
}

fn wrong_line(file: &str, line: u32, progs: &[Arc<Prog>]) -> Option<String> {
    let all: BTreeSet<(String, u32)> = progs
        .iter()
        .flat_map(|prog| (0..prog.insns().len()).filter_map(|slot| prog.source_line(slot)))
        .map(|source| (source.file, source.line))
        .collect();
    let there: BTreeSet<u32> =
        all.iter().filter(|(path, _)| SourceLine::path_ends_in(path, file)).map(|(_, line)| *line).collect();
    if there.contains(&line) {
        return None;
    }
    if there.is_empty() {
        let files: BTreeSet<&str> = all.iter().map(|(file, _)| file.as_str()).collect();
        let files: Vec<&str> = files.into_iter().collect();
        return Some(match files.as_slice() {
            [] => "no program with lines of C is loaded".to_owned(),
            files => {
                format!("no program that is loaded comes from this file, only from {}", files.join(", "))
            }
        });
    }
    let near = [there.range(..line).next_back(), there.range(line..).next()];
    let near: Vec<String> = near.into_iter().flatten().map(u32::to_string).collect();
    Some(format!("no instruction comes from this line; the nearest that has some: {}", near.join(" and ")))
}

fn similar(name: &str, known: BTreeSet<String>) -> String {
    match near(name, known).as_slice() {
        [] => String::new(),
        names => format!("; similar: {}", names.join(", ")),
    }
}
