//! Finishes what a process that ended in the middle had begun.

use std::time::Duration;

use skep_link::Link;
use skep_sys::abi::{Errno, LinkId};
use skep_sys::{Kernel, LoadedProgram, ObjectKind};

use super::attachment::{Exchange, Record};
use super::layout::{Layout, Part};
use crate::error::Error;

/// What was found when an upgrade began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Recovery {
    /// Everything in order.
    None,
    /// A set that was not committed: the one before is attached again, in all places.
    RolledBack,
    /// A set that was committed: what was left of the one before is gone.
    Completed,
}

/// Brings a directory that nobody else changes into order.
pub(super) fn recover(layout: &Layout) -> Result<Recovery, Error> {
    layout.tidy()?;
    let current = layout.current()?;
    let mut recovery = Recovery::None;
    for generation in layout.generations()? {
        match current {
            Some(current) if generation == current => {}
            Some(current) if generation < current => {
                remove(layout, generation, Some(current))?;
                recovery = Recovery::Completed;
            }
            _ => {
                roll_back(layout, current, generation)?;
                recovery = Recovery::RolledBack;
            }
        }
    }
    Ok(recovery)
}

/// Attaches what the set that counts says, in all its places, and removes the other. It can be done again wherever it
/// was interrupted.
pub(super) fn roll_back(layout: &Layout, current: Option<u64>, other: u64) -> Result<(), Error> {
    if let Some(current) = current {
        for name in layout.names(current, Part::Attach)? {
            if let Some(record) = layout.record(current, &name)? {
                restore(layout, current, other, &name, &record)?;
            }
        }
    }
    remove(layout, other, current)
}

/// Removes a generation, and detaches what it has attached that the one that counts has not.
pub(super) fn remove(layout: &Layout, generation: u64, counts: Option<u64>) -> Result<(), Error> {
    for name in layout.names(generation, Part::Links)? {
        let shared = match counts {
            Some(counts) => same_link(layout, generation, counts, &name)?,
            None => false,
        };
        if !shared {
            detach(layout, generation, &name)?;
        }
    }
    layout.remove(generation)
}

fn same_link(layout: &Layout, one: u64, other: u64, name: &str) -> Result<bool, Error> {
    let id = |generation| -> Result<Option<LinkId>, Error> {
        let Some(link) = layout.link(generation, name)? else { return Ok(None) };
        // Not knowing is no reason to detach it: it may be what the set that counts runs.
        let id = link.id().map_err(|error| {
            let path = layout.path(generation, Part::Links, name);
            layout.failed(&path, "ask which link it is", error.errno().unwrap_or(Errno::EINVAL))
        })?;
        Ok(Some(id))
    };
    let (one, other) = (id(one)?, id(other)?);
    Ok(one.is_some() && one == other)
}

fn restore(layout: &Layout, current: u64, other: u64, name: &str, record: &Record) -> Result<(), Error> {
    let program = layout.program(current, &record.program)?.with_attach_type(record.attach_type);
    if let Some(link) = layout.link(current, name)? {
        return put_back(layout, current, name, &link, &program);
    }
    // Another link took its place. Which of them goes first is said by the one that wanted to take it.
    let order = layout.record(other, name)?.map_or(record.attachment.order(), |new| new.attachment.order());
    if order == Exchange::OldFirst {
        detach(layout, other, name)?;
    }
    attach(layout, current, name, record, &program)?;
    if order == Exchange::NewFirst {
        detach(layout, other, name)?;
    }
    Ok(())
}

/// Lets a link run the program that it ran.
fn put_back(
    layout: &Layout,
    current: u64,
    name: &str,
    link: &Link,
    program: &LoadedProgram,
) -> Result<(), Error> {
    let failed =
        |errno| layout.failed(&layout.path(current, Part::Links, name), "put the program back", errno);
    let id = program.info().map_err(failed)?.id;
    let runs = link.info().map_err(|error| failed(error.errno().unwrap_or(Errno::EINVAL)))?.prog_id;
    if runs == id {
        return Ok(());
    }
    match link.update(program).map_err(|error| error.errno().unwrap_or(Errno::EINVAL)) {
        // What it was attached to is gone, and with it the place.
        Ok(()) | Err(Errno::ENOLINK) => Ok(()),
        Err(errno) => Err(failed(errno)),
    }
}

/// Attaches a program anew and pins the link.
pub(super) fn attach(
    layout: &Layout,
    generation: u64,
    name: &str,
    record: &Record,
    program: &LoadedProgram,
) -> Result<(), Error> {
    let failed = |source| Error::Attach { program: record.program.clone(), source: Box::new(source) };
    let mut tries = PATIENCE.as_millis() / PAUSE.as_millis() / 4;
    let link = loop {
        match record.attachment.attach(program) {
            // A link that a process held which was ended gives up its place a little later; before Linux 6.10 a tracepoint
            // takes the same program only then.
            Err(error) if matches!(error.errno(), Some(Errno::EBUSY | Errno::EEXIST)) && tries > 0 => {
                tries -= 1;
                std::thread::sleep(PAUSE);
            }
            answer => break answer.map_err(failed)?,
        }
    };
    link.pin(layout.path(generation, Part::Links, name)).map_err(failed)
}

/// Removes the pin of a link, and waits until the kernel has detached it: the place is free for another then.
pub(super) fn detach(layout: &Layout, generation: u64, name: &str) -> Result<(), Error> {
    let Some(link) = layout.link(generation, name)? else { return Ok(()) };
    // The pin goes first: a link that is pinned is one that is attached, wherever the process ends.
    layout.remove_file(&layout.path(generation, Part::Links, name))?;
    let id = link.id();
    // At once where the kernel can; other links detach with the last handle, a little later.
    let _ = link.detach();
    drop(link);
    if let Ok(id) = id {
        wait_until_gone(&layout.kernel, id);
    }
    Ok(())
}

/// How long the kernel is given to detach a link: it does so after a grace period.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(1);

fn wait_until_gone(kernel: &Kernel, id: LinkId) {
    let tries = PATIENCE.as_millis() / PAUSE.as_millis();
    for _ in 0..tries {
        // Asked without opening it, which would keep it. Who may not ask does not wait.
        match kernel.backend().next_id(ObjectKind::Link, id.0.saturating_sub(1)) {
            Ok(next) if next == id.0 => std::thread::sleep(PAUSE),
            _ => return,
        }
    }
}
