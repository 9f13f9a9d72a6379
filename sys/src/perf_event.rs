use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::abi::{Errno, PerfEventFlags, PerfEventKind, PerfReadFormat, PerfSampleType, UpdateFlags};
use crate::kernel::Kernel;
use crate::map_fd::{MapError, MapFd, dup};
use crate::perf_ring::PerfRing;
use crate::request::{PerfControl, PerfEventOpen, PerfMemory};

/// An open perf event: a counter, or what programs write records to.
///
/// Made by [`Kernel::perf_event_open`]; it ends when the last descriptor is closed and no map holds it.
#[derive(Debug)]
pub struct PerfEventFd {
    fd: OwnedFd,
    kernel: Kernel,
    kind: PerfEventKind,
    sample_type: PerfSampleType,
    read_format: PerfReadFormat,
    backward: bool,
    /// Tells the events of this process apart.
    serial: u64,
}

static SERIAL: AtomicU64 = AtomicU64::new(0);

/// What a counter says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct PerfCount {
    /// What was counted.
    pub value: u64,
    /// Nanoseconds for which it was enabled, if it was opened to say so.
    pub time_enabled: Option<u64>,
    /// Nanoseconds for which it counted, if it was opened to say so: less than it was enabled when counters of the
    /// machine had to be shared.
    pub time_running: Option<u64>,
    /// The kernel's id of the event, if it was opened to say so.
    pub id: Option<u64>,
    /// Records that were lost, if it was opened to say so.
    pub lost: Option<u64>,
}

impl PerfCount {
    /// The value as it would be if it had counted all the time that it was enabled; none if it never counted.
    pub fn scaled(&self) -> Option<u64> {
        match (self.time_enabled, self.time_running) {
            (Some(_), Some(0)) => None,
            (Some(enabled), Some(running)) if running < enabled => {
                let scaled = u128::from(self.value) * u128::from(enabled) / u128::from(running);
                Some(u64::try_from(scaled).unwrap_or(u64::MAX))
            }
            _ => Some(self.value),
        }
    }
}

impl PerfEventFd {
    pub(crate) fn new(fd: OwnedFd, kernel: Kernel, request: &PerfEventOpen<'_>) -> PerfEventFd {
        PerfEventFd {
            fd,
            kernel,
            kind: request.kind,
            sample_type: request.sample_type,
            read_format: request.read_format,
            backward: request.flags.contains(PerfEventFlags::WRITE_BACKWARD),
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// The kernel that the event is of.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// What is counted.
    pub fn kind(&self) -> PerfEventKind {
        self.kind
    }

    /// What a sample holds.
    pub fn sample_type(&self) -> PerfSampleType {
        self.sample_type
    }

    /// Whether its ring is written from its end to its start.
    pub fn is_backward(&self) -> bool {
        self.backward
    }

    /// Counts from now on (`PERF_EVENT_IOC_ENABLE`).
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn enable(&self) -> Result<(), Errno> {
        self.control(PerfControl::Enable)
    }

    /// Counts no more (`PERF_EVENT_IOC_DISABLE`).
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn disable(&self) -> Result<(), Errno> {
        self.control(PerfControl::Disable)
    }

    /// Counts from 0 again (`PERF_EVENT_IOC_RESET`); the times stay.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn reset(&self) -> Result<(), Errno> {
        self.control(PerfControl::Reset)
    }

    /// Any request of [`PerfControl`].
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn control(&self, control: PerfControl) -> Result<(), Errno> {
        self.kernel.backend().perf_event_control(self.as_fd(), control)
    }

    /// Reads the counter.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use skep_sys::abi::{PerfEventKind, PerfReadFormat};
    /// use skep_sys::request::{PerfEventOpen, PerfTarget};
    ///
    /// let this_process = PerfTarget::Process { pid: 0, cpu: None };
    /// let mut request = PerfEventOpen::new(PerfEventKind::TASK_CLOCK, this_process);
    /// request.read_format = PerfReadFormat::TOTAL_TIME_ENABLED;
    /// // Not every process may.
    /// if let Ok(counter) = skep_sys::Kernel::linux().perf_event_open(&request) {
    ///     let count = counter.read()?;
    ///     println!("{} ns of CPU time in {:?} ns", count.value, count.time_enabled);
    /// }
    /// # }
    /// # Ok::<(), skep_sys::abi::Errno>(())
    /// ```
    ///
    /// # Errors
    /// What the kernel answers; [`Errno::EINVAL`] when it was opened with [`PerfReadFormat::GROUP`] or what is not known
    /// here, [`Errno::EIO`] when the kernel gives less than it was asked for, as it does when the event is in error.
    pub fn read(&self) -> Result<PerfCount, Errno> {
        const KNOWN: PerfReadFormat = PerfReadFormat::TOTAL_TIME_ENABLED
            .union(PerfReadFormat::TOTAL_TIME_RUNNING)
            .union(PerfReadFormat::ID)
            .union(PerfReadFormat::LOST);

        if !KNOWN.contains(self.read_format) {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; 5 * 8];
        let read = self.kernel.backend().perf_event_read(self.as_fd(), &mut bytes)?;
        let (words, _) = bytes.get(..read).ok_or(Errno::EIO)?.as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_ne_bytes(*word));
        let value = words.next().ok_or(Errno::EIO)?;
        let mut next = |flag| {
            let asked = self.read_format.contains(flag);
            asked.then(|| words.next().ok_or(Errno::EIO)).transpose()
        };
        Ok(PerfCount {
            value,
            time_enabled: next(PerfReadFormat::TOTAL_TIME_ENABLED)?,
            time_running: next(PerfReadFormat::TOTAL_TIME_RUNNING)?,
            id: next(PerfReadFormat::ID)?,
            lost: next(PerfReadFormat::LOST)?,
        })
    }

    /// Maps the event's ring: `pages` pages of records, a power of two. The ring is its only reader in this process.
    ///
    /// # Errors
    /// What the kernel answers: [`Errno::EINVAL`] for another number of pages, [`Errno::EPERM`] when it is more than
    /// `kernel.perf_event_mlock_kb` allows to this user, [`Errno::EBUSY`] when the ring is mapped already.
    pub fn into_ring(self, pages: u32) -> Result<PerfRing, Errno> {
        let mut memory = PerfMemory::new(pages);
        memory.writable = !self.backward;
        let memory = self.kernel.backend().perf_event_mmap(self.as_fd(), memory)?;
        PerfRing::new(self, memory)
    }

    /// A second handle of the same event.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn try_clone(&self) -> Result<PerfEventFd, Errno> {
        Ok(PerfEventFd { fd: dup(&self.fd)?, kernel: self.kernel.clone(), ..*self })
    }
}

impl MapFd {
    /// Puts a perf event into a perf event array, in the place of one that is there.
    ///
    /// # Errors
    /// As [`update`](MapFd::update), and [`MapError::OtherKernel`].
    pub fn update_perf_event(
        &self,
        key: &[u8],
        event: &PerfEventFd,
        flags: UpdateFlags,
    ) -> Result<(), MapError> {
        let id = self.info().ok().map(|info| info.id);
        let mut slots = self.kernel().perf_slots();
        self.update_object(key, event.kernel(), event.as_fd(), flags)?;
        if let Some(id) = id {
            slots.insert((id, key.into()), event.serial());
        }
        Ok(())
    }

    /// Takes a perf event out of a perf event array, unless another one was put into its place through a handle of
    /// this kernel. Answers whether it was there.
    ///
    /// # Errors
    /// As [`delete`](MapFd::delete).
    pub fn delete_perf_event(&self, key: &[u8], event: &PerfEventFd) -> Result<bool, MapError> {
        let id = self.info().ok().map(|info| info.id);
        let mut slots = self.kernel().perf_slots();
        if let Some(id) = id {
            let slot = (id, key.into());
            if slots.get(&slot) != Some(&event.serial()) {
                return Ok(false);
            }
            slots.remove(&slot);
        }
        match self.delete(key) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(false),
            answer => answer.map(|()| true),
        }
    }
}

impl AsFd for PerfEventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<PerfEventFd> for OwnedFd {
    fn from(event: PerfEventFd) -> OwnedFd {
        event.fd
    }
}
