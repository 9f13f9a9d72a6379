//! skep, asked to open and load.

use std::os::fd::{AsFd, AsRawFd};

use skep::spec::Pinning;
use skep::{Kernel, Loader, Spec};

use crate::page::{Page, Part, Parts};
use crate::tap;

/// An error and its causes in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.lines().next().unwrap_or_default().to_owned()
}

/// Names of the programs of a file.
pub(crate) fn programs(path: &str) -> Result<Vec<String>, String> {
    let spec = Spec::open(path).map_err(|error| chain(&error))?;
    Ok(spec.programs.into_iter().map(|program| program.name).collect())
}

/// Loads one program, or all of them, whatever the file says of loading them.
pub(crate) fn load(path: &str, only: Option<usize>) -> Result<Page, String> {
    load_spec(Spec::open(path).map_err(|error| chain(&error))?, only)
}

/// Opens bytes.
pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<Spec, String> {
    Spec::parse(name, bytes).map_err(|error| chain(&error))
}

/// Loads what was opened, as [`load`] does.
pub(crate) fn load_spec(mut spec: Spec, only: Option<usize>) -> Result<Page, String> {
    for (at, program) in spec.programs.iter_mut().enumerate() {
        program.autoload = only.is_none_or(|only| only == at);
    }
    // What is pinned is someone else's.
    let pins: Vec<bool> = spec.maps.iter().map(|map| map.pinning == Pinning::ByName).collect();
    spec.maps.iter_mut().for_each(|map| map.pinning = Pinning::None);
    let object = Loader::new(&Kernel::linux()).load(&spec).map_err(|error| chain(&error))?;
    let mut made = object.maps();
    let maps = spec.maps.iter().zip(pins).map(|(map, pinned)| {
        let made = if map.autocreate { made.next() } else { None };
        Part {
            name: map.name.clone(),
            section: String::new(),
            pin: pinned.then(|| format!("/sys/fs/bpf/{}", map.name.replace('.', "_"))),
            id: made.and_then(|(_, map)| tap::map_id(map.as_fd().as_raw_fd())),
            tag: None,
        }
    });
    let maps: Vec<Part> = maps.collect();
    let mut loaded = object.programs().peekable();
    let programs = spec.programs.iter().map(|program| {
        let fd = loaded
            .next_if(|loaded| program.autoload && loaded.name() == program.name)
            .map(|loaded| loaded.as_fd().as_raw_fd());
        Part {
            name: program.name.clone(),
            section: program.section.clone(),
            pin: None,
            id: fd.and_then(tap::program_id),
            tag: fd.and_then(tap::tag),
        }
    });
    let parts = Parts { programs: programs.collect(), maps };
    Ok(Page::new(&tap::take(), &parts))
}
