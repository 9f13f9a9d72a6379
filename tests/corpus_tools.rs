//! Tools that others built, as packages ship them, on the simulated kernel: each is opened, fitted, loaded, attached where it says, and
//! sees what it was made for.
//!
//! The objects are those of the corpus: `cargo xtask corpus fetch`, then `cargo xtask corpus tools`. Without them, or
//! without the types of a whole kernel, nothing is tested here.

#![allow(missing_docs, clippy::print_stdout)]

#[path = "corpus_tools/network.rs"]
mod network;
#[path = "corpus_tools/tracing.rs"]
mod tracing;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use skep::perf::{PerfBuffer, PerfBufferOptions, PerfRecord};
use skep::sim::SimKernel;
use skep::spec::Pinning;
use skep::{Kernel, Loader, Object, Spec};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A tool on a simulated kernel with the types of a whole one.
struct Tool {
    sim: SimKernel,
    kernel: Kernel,
    spec: Spec,
}

/// The object of a package whose path there begins so: names of embedded ones end with where they lie. `None` says what is missing.
fn tool(test: &str, package: &str, path: &str) -> Option<Tool> {
    let found = types().ok_or("no kernel's types in /sys/kernel/btf/vmlinux").and_then(|types| {
        let (folder, start) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = corpus().ok_or("no home directory")?.join("objects").join(package).join(folder);
        let files = std::fs::read_dir(folder)
            .map_err(|_| "the object is not here: run `cargo xtask corpus fetch`")?;
        let mut files: Vec<PathBuf> = files.filter_map(|file| Some(file.ok()?.path())).collect();
        files.sort();
        let is_it =
            |file: &PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start));
        let file =
            files.into_iter().find(is_it).ok_or("the object is not here: run `cargo xtask corpus fetch`")?;
        Ok((types, file))
    });
    let (types, file) = match found {
        Ok(found) => found,
        Err(why) => {
            assert!(
                std::env::var_os("SKEP_REQUIRE_CORPUS").is_none_or(|required| required != "1"),
                "skip: {test}: {why}"
            );
            println!("skip: {test}: {why}");
            return None;
        }
    };
    let builder = SimKernel::builder().btf(types).interface("eth0", 2).interface("eth1", 3);
    let sim = builder.build().expect("types of a kernel are read");
    let mut spec = Spec::open(&file).expect("libbpf opens it too");
    spec.maps.iter_mut().for_each(|map| map.pinning = Pinning::None);
    Some(Tool { kernel: Kernel::new(sim.clone()), sim, spec })
}

fn types() -> Option<Vec<u8>> {
    std::fs::read("/sys/kernel/btf/vmlinux").ok()
}

fn corpus() -> Option<PathBuf> {
    let given = std::env::var_os("SKEP_CORPUS_DIR").map(PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache")));
    given.or_else(|| Some(cache?.join("skep-corpus")))
}

impl Tool {
    fn load(&self) -> Result<Object> {
        Ok(Loader::new(&self.kernel).load(&self.spec)?)
    }

    /// Loads some of the programs only, as tools do that have several for one place.
    fn load_some(&mut self, names: &[&str]) -> Result<Object> {
        for program in &mut self.spec.programs {
            program.autoload = names.contains(&&*program.name);
        }
        self.load()
    }

    /// Attaches all programs of an object where their sections say.
    fn attach(&self, object: &Object) -> Result<Vec<OwnedFd>> {
        let mut links = Vec::new();
        for program in object.programs() {
            let declared = self.spec.programs.iter().find(|declared| declared.name == program.name());
            let section = declared.map(|declared| declared.section.as_str()).unwrap_or_default();
            let place =
                self.sim.place_of_section(section).ok_or_else(|| format!("no place for {section}"))?;
            links.push(self.sim.attach(program, place)?);
        }
        Ok(links)
    }
}

/// What came through a perf buffer.
fn samples(buffer: &mut PerfBuffer) -> Result<Vec<Vec<u8>>> {
    let mut samples = Vec::new();
    buffer.consume(|record| {
        if let PerfRecord::Sample(sample) = record {
            samples.push(sample.data.to_vec());
        }
    })?;
    Ok(samples)
}

fn perf_buffer(object: &Object, map: &str) -> Result<PerfBuffer> {
    Ok(PerfBuffer::new(object.map(map)?, PerfBufferOptions::new())?)
}

/// Whether a record has these bytes somewhere.
fn holds(record: &[u8], bytes: &[u8]) -> bool {
    record.windows(bytes.len()).any(|window| window == bytes)
}

/// The number of 32 bits at a place of a record.
fn word(record: &[u8], at: usize) -> u32 {
    record.get(at..at + 4).map_or(0, |bytes| u32::from_ne_bytes(bytes.try_into().expect("four bytes")))
}
