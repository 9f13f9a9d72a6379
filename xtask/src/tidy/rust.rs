//! Rules about Rust files, checked on tokens, so that comments and strings do not count.

use anyhow::Result;
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::is_test;

/// Modules of the root crate that know no kernel.
const PURE: &[&str] = &["src/spec", "src/reloc"];
/// Where unsafe code may be.
const UNSAFE: &str = "sys/";
/// Workspaces of their own: comparisons call C libraries, fuzzing counts allocations.
const FOREIGN: &[&str] = &["benches/peers/", "fuzz/"];

/// What the rules look at in a file.
#[derive(Default)]
struct Facts {
    paths: Vec<Use>,
    /// Lines with `unsafe`.
    unsafe_code: Vec<usize>,
    /// Lines with `pub use …::*`.
    globs: Vec<usize>,
}

/// A path that the file names.
#[derive(Debug)]
struct Use {
    segments: Vec<String>,
    line: usize,
    /// How many modules inside of the file it stands.
    depth: usize,
}

/// What is wrong in the file `name`: `LINE: WHAT`.
pub(super) fn check(name: &str, text: &str) -> Result<Vec<String>> {
    let tokens: TokenStream = text.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut facts = Facts::default();
    facts.scan(tokens, 0);
    let mut wrong = Vec::new();
    if PURE.iter().any(|dir| name.strip_prefix(dir).is_some_and(|rest| rest.starts_with(['/', '.'])))
        && !is_test(name)
    {
        let outside = facts.paths.iter().filter_map(|path| Some((path.line, path.outside(name)?)));
        wrong.extend(
            outside
                .map(|(line, what)| format!("{line}: {what} has no place in a module that knows no kernel")),
        );
    }
    if name.ends_with("/lib.rs") || name.ends_with("/mod.rs") {
        wrong.extend(
            facts.globs.iter().map(|line| format!("{line}: name what is re-exported instead of `*`")),
        );
    }
    let allowed = text.lines().any(|line| line.starts_with("#![allow(unsafe_code"));
    match facts.unsafe_code.first() {
        _ if FOREIGN.iter().any(|dir| name.starts_with(dir)) => {}
        Some(line) if !name.starts_with(UNSAFE) => {
            wrong.push(format!("{line}: unsafe code belongs into {UNSAFE}"))
        }
        Some(line) if !allowed => {
            wrong.push(format!("{line}: unsafe code without #![allow(unsafe_code)] at the top"))
        }
        None if allowed => wrong.push("1: allows unsafe code and has none".into()),
        _ => {}
    }
    Ok(wrong)
}

impl Facts {
    fn scan(&mut self, tokens: TokenStream, depth: usize) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Group(group) => self.scan(group.stream(), depth),
                TokenTree::Ident(ident) if ident == "unsafe" => {
                    self.unsafe_code.push(token.span().start().line)
                }
                TokenTree::Ident(ident) if ident == "mod" => {
                    if let (Some(name), Some(TokenTree::Group(body))) =
                        (tokens.get(at + 1), tokens.get(at + 2))
                    {
                        // Tests may use anything; what they do unsafely is known from the lint.
                        if name.to_string() != "tests" {
                            self.scan(body.stream(), depth + 1);
                        }
                        at += 2;
                    }
                }
                TokenTree::Ident(_) => {
                    let first = self.paths.len();
                    let public_use = token.to_string() == "use" && is_public(&tokens[..at]); // at is in bounds
                    let start = if token.to_string() == "use" { at + 1 } else { at };
                    at = self.path(&tokens, start, &[], depth).max(at + 1) - 1;
                    let glob = |path: &&Use| path.segments.last().is_some_and(|last| last == "*");
                    if let Some(glob) = self.paths[first..].iter().find(glob).filter(|_| public_use) {
                        self.globs.push(glob.line);
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Reads the path that begins at `at`, with all its branches; returns where it ends.
    fn path(&mut self, tokens: &[TokenTree], mut at: usize, prefix: &[String], depth: usize) -> usize {
        let mut segments = prefix.to_vec();
        let Some(line) = tokens.get(at).map(|token| token.span().start().line) else { return at };
        loop {
            if is_separator(tokens, at) {
                at += 2;
            }
            match tokens.get(at) {
                Some(TokenTree::Ident(ident)) => segments.push(ident.to_string()),
                Some(TokenTree::Punct(star)) if star.as_char() == '*' => segments.push("*".into()),
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    let branches: Vec<TokenTree> = group.stream().into_iter().collect();
                    let comma =
                        |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ',');
                    for branch in branches.split(comma) {
                        self.path(branch, 0, &segments, depth);
                    }
                    return at + 1;
                }
                _ => break,
            }
            at += 1;
            if !is_separator(tokens, at) {
                break;
            }
        }
        if !segments.is_empty() {
            self.paths.push(Use { segments, line, depth });
        }
        at
    }
}

impl Use {
    /// What it names outside of the pure modules, in a file of theirs.
    fn outside(&self, name: &str) -> Option<String> {
        let supers = self.segments.iter().take_while(|segment| *segment == "super").count();
        let mut rest: Vec<&str> = self.segments.iter().map(String::as_str).collect();
        if supers > 0 {
            if supers < module_depth(name) + self.depth {
                return None;
            }
            rest.drain(..supers);
            rest.insert(0, "crate");
        }
        match rest.as_slice() {
            ["crate", module @ ("load" | "map" | "program" | "sim" | "link"), ..] => {
                Some(format!("crate::{module}"))
            }
            ["crate", "sys", "abi", ..] | ["skep_sys", "abi", ..] => None,
            ["crate", "sys", ..] | ["skep_sys", ..] => Some("skep_sys outside of skep_sys::abi".into()),
            [name @ ("skep_sim" | "skep_link"), ..] => Some((*name).into()),
            _ => None,
        }
    }
}

/// How many modules the file is below its crate's root: `src/spec/elf.rs` is two.
fn module_depth(name: &str) -> usize {
    let inside = name.strip_prefix("src/").unwrap_or(name);
    inside.split('/').filter(|part| *part != "mod.rs").count()
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == ':');
    colon(tokens.get(at)) && colon(tokens.get(at + 1))
}

/// Whether the last tokens are `pub` or `pub(…)`.
fn is_public(before: &[TokenTree]) -> bool {
    let is_pub = |token: &TokenTree| matches!(token, TokenTree::Ident(ident) if ident == "pub");
    match before {
        [.., visibility, TokenTree::Group(_)] if is_pub(visibility) => true,
        [.., last] => is_pub(last),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(name: &str, text: &str) -> Vec<String> {
        check(name, text).unwrap_or_else(|error| vec![error.to_string()])
    }

    #[test]
    fn pure_modules_know_no_kernel() {
        for bad in [
            "use crate::load::Load;",
            "use crate::{spec, map};",
            "use crate::{spec::{A, B}, program::Program};",
            "use super::super::map::X;",
            "mod inner { use super::super::super::load; }",
            "fn f() { crate::load::go() }",
            "fn f() { println!(\"{}\", crate::map::X) }",
            "use skep_sys::Kernel;",
            "use skep_sys::{abi, Kernel};",
            "use crate::sys::Kernel;",
            "use skep_link::Link;",
        ] {
            assert_eq!(wrong("src/spec/elf.rs", bad).len(), 1, "{bad}");
        }
        for good in [
            "use crate::spec::X; use super::map::X; use super::{load, map};",
            "mod inner { use super::super::map; }",
            "use skep_sys::abi::{MapType, ProgType}; use skep_sys::abi;",
            "// use crate::load\nconst S: &str = \"crate::load\";",
            "#[cfg(test)] mod tests { use crate::load::X; }",
            "fn f(load: u8) -> u8 { load }",
        ] {
            assert_eq!(wrong("src/spec/elf.rs", good), [""; 0], "{good}");
        }
        assert_eq!(wrong("src/spec/mod.rs", "use super::map;").len(), 1);
        assert_eq!(wrong("src/reloc.rs", "use super::map;").len(), 1);
        assert!(wrong("src/load/mod.rs", "use crate::map::X;").is_empty());
        assert!(wrong("src/spec/tests.rs", "use crate::load::X;").is_empty());
    }

    #[test]
    fn unsafe_code_has_its_place() {
        let code = "fn f() { unsafe { g() } }";
        assert_eq!(wrong("src/a.rs", code).len(), 1);
        assert_eq!(wrong("sys/src/a.rs", code).len(), 1);
        assert!(wrong("sys/src/a.rs", &format!("#![allow(unsafe_code)]\n{code}")).is_empty());
        assert_eq!(wrong("sys/src/a.rs", "#![allow(unsafe_code)]\n").len(), 1);
        assert!(
            wrong("src/a.rs", "// unsafe\n#![forbid(unsafe_code)]\nconst S: &str = \"unsafe\";").is_empty()
        );
    }

    #[test]
    fn reexports_are_named() {
        assert_eq!(wrong("src/lib.rs", "pub use a::b::*;"), ["1: name what is re-exported instead of `*`"]);
        assert_eq!(wrong("asm/src/op/mod.rs", "\npub(crate) use a::{b, c::*};").len(), 1);
        assert!(wrong("src/lib.rs", "pub use a::{b, c}; use d::*; fn f() -> u8 { 2 * 3 }").is_empty());
        assert!(wrong("src/a.rs", "pub use a::*;").is_empty());
    }
}
