use std::cmp::Reverse;
use std::collections::BinaryHeap;
#[cfg(target_os = "linux")]
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use skep_sys::{Poller, Ready};

use super::cpu::PerfCpu;
use super::error::PerfError;
use super::options::PerfBufferOptions;
use super::record::{PerfRecord, RawPerfRecord};
use crate::map::{Map, PerfEventArray};

/// What programs write with `bpf_perf_event_output` to a map of type `BPF_MAP_TYPE_PERF_EVENT_ARRAY`: a ring for each
/// CPU, and one descriptor to wait for all of them (Linux 4.4).
///
/// Programs name the CPU that they run on (`BPF_F_CURRENT_CPU`); each ring is at the number of its CPU.
///
/// Nothing is allocated to read a record. Samples are lent where they lie in the ring, and copied when they go over its
/// end.
///
/// # In an event loop
/// The buffer's descriptor ([`AsFd`], an epoll instance) is readable when a ring is to be read. Then call
/// [`consume`](PerfBuffer::consume), which looks at all rings: asking epoll again would say nothing, since Linux tells
/// of a wakeup once. For the same reason call it once after the descriptor was added to the loop: what was written before
/// may not show.
///
/// # CPUs that come and go
/// CPUs that are offline when the buffer is opened have no ring. When one goes offline its ring falls silent, and stays so
/// when the CPU is back. [`refresh`](PerfBuffer::refresh) closes such rings and opens new ones.
///
/// # Two buffers on one map
/// The one that was opened last is what programs write to. Dropping the first one does not take it away from them.
#[derive(Debug)]
pub struct PerfBuffer {
    map: PerfEventArray,
    options: PerfBufferOptions,
    /// Ascending, except for retired ones.
    cpus: Vec<PerfCpu>,
    poller: Poller,
    ready: Vec<Ready>,
    left_out: Vec<u32>,
    /// Lost records of rings that are closed.
    lost: u64,
    turn: Option<Turn>,
    /// What was found wrong and not told yet.
    pub(super) deferred: Option<PerfError>,
    /// Of a turn by time: time and place in `cpus` of the record that is next of each ring.
    by_time: BinaryHeap<Reverse<(u64, usize)>>,
}

/// Where reading one by one is.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Place in `cpus` of the ring that is read.
    at: usize,
    /// Whether its next record was given out.
    given: bool,
}

/// What [`PerfBuffer::refresh`] changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct CpuChanges {
    /// CPUs whose rings were opened, also anew.
    pub opened: Vec<u32>,
    /// CPUs whose rings were closed.
    pub closed: Vec<u32>,
}

impl CpuChanges {
    /// Whether everything is as it was.
    pub fn is_empty(&self) -> bool {
        self.opened.is_empty() && self.closed.is_empty()
    }
}

impl PerfBuffer {
    /// Opens the rings of all CPUs that are online, and puts them into the map.
    ///
    /// CPUs whose number is not below the map's number of elements are left out (see
    /// [`left_out`](PerfBuffer::left_out)): programs cannot name them either.
    ///
    /// # Errors
    /// [`PerfError::Map`] when the map is of another kind, [`PerfError::Watermark`], [`PerfError::Cpus`],
    /// [`PerfError::NoCpus`], [`PerfError::Open`] without the right, [`PerfError::Mmap`] for more memory than the
    /// process may lock.
    pub fn new(map: &Map, options: PerfBufferOptions) -> Result<PerfBuffer, PerfError> {
        let map: PerfEventArray = map.typed()?;
        options.check(map.as_map().kernel().page_size())?;
        let poller = Poller::new().map_err(PerfError::Wait)?;
        let mut buffer = PerfBuffer {
            map,
            options,
            cpus: Vec::new(),
            poller,
            ready: Vec::new(),
            left_out: Vec::new(),
            lost: 0,
            turn: None,
            deferred: None,
            by_time: BinaryHeap::new(),
        };
        buffer.refresh()?;
        if buffer.cpus.is_empty() {
            return Err(PerfError::NoCpus { entries: buffer.map.len() });
        }
        Ok(buffer)
    }

    /// The map.
    pub fn map(&self) -> &Map {
        self.map.as_map()
    }

    /// The rings, by ascending CPU.
    pub fn cpus(&self) -> &[PerfCpu] {
        &self.cpus
    }

    /// The rings, to be read each on its own, such as by threads.
    ///
    /// ```
    /// # use skep::map::Map;
    /// # use skep::perf::{PerfBuffer, PerfBufferOptions};
    /// # use skep::sys::{abi::MapType, request::MapCreate};
    /// # let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::PERF_EVENT_ARRAY, 4, 4, 2))?;
    /// let mut buffer = PerfBuffer::new(&map, PerfBufferOptions::new())?;
    /// std::thread::scope(|scope| {
    ///     for ring in buffer.cpus_mut() {
    ///         scope.spawn(|| ring.consume(|record| println!("{record:?}")));
    ///     }
    /// });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cpus_mut(&mut self) -> &mut [PerfCpu] {
        // What fails now fails again when the ring is read.
        let _ = self.end_turn();
        &mut self.cpus
    }

    /// CPUs that are online and have no ring, since the map has no element of their number.
    pub fn left_out(&self) -> &[u32] {
        &self.left_out
    }

    /// Records that are known to be lost, of all CPUs.
    pub fn lost(&self) -> u64 {
        self.cpus.iter().map(PerfCpu::lost).fold(self.lost, u64::saturating_add)
    }

    /// Bytes that wait to be read, of all CPUs.
    pub fn available(&self) -> u64 {
        self.cpus.iter().map(PerfCpu::available).fold(0, u64::saturating_add)
    }

    /// Gives what is in the rings to `each`, without waiting. Answers how many records there were.
    ///
    /// # Errors
    /// [`PerfError::Ring`] and [`PerfError::Record`], the first of them, after everything else was given.
    pub fn consume(&mut self, mut each: impl FnMut(PerfRecord<'_>)) -> Result<usize, PerfError> {
        if self.options.ordered || self.turn.is_some() {
            return self.consume_turn(each);
        }
        self.consume_rings(|cpu| cpu.consume(&mut each))
    }

    /// As [`consume`](PerfBuffer::consume), ring by ring, with the records as they lie there. Those that say what was lost
    /// are counted too.
    ///
    /// # Errors
    /// [`PerfError::Ring`], the first one, after everything else was given.
    pub fn consume_raw(&mut self, mut each: impl FnMut(RawPerfRecord<'_>)) -> Result<usize, PerfError> {
        self.end_turn()?;
        self.consume_rings(|cpu| cpu.consume_raw(&mut each))
    }

    fn consume_rings(
        &mut self,
        mut consume: impl FnMut(&mut PerfCpu) -> Result<usize, PerfError>,
    ) -> Result<usize, PerfError> {
        let (mut count, mut first_error) = (0, None);
        for cpu in &mut self.cpus {
            match consume(cpu) {
                Ok(consumed) => count += consumed,
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        self.drop_retired();
        first_error.map_or(Ok(count), Err)
    }

    fn consume_turn(&mut self, mut each: impl FnMut(PerfRecord<'_>)) -> Result<usize, PerfError> {
        let (mut count, mut first_error) = (0, None);
        loop {
            match self.next_record() {
                Ok(Some(record)) => {
                    each(record);
                    count += 1;
                }
                Ok(None) => return first_error.map_or(Ok(count), Err),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
    }

    /// The next record that was there when reading began, or none; then reading begins anew. A record counts as read
    /// when the next one is asked for.
    ///
    /// ```
    /// # use skep::map::Map;
    /// # use skep::perf::{PerfBuffer, PerfBufferOptions};
    /// # use skep::sys::{abi::MapType, request::MapCreate};
    /// # let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::PERF_EVENT_ARRAY, 4, 4, 2))?;
    /// let mut buffer = PerfBuffer::new(&map, PerfBufferOptions::new().ordered())?;
    /// while let Some(record) = buffer.next_record()? {
    ///     println!("{record:?}");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`PerfError::Ring`] and [`PerfError::Record`]: what is damaged was skipped, and the next call goes on.
    pub fn next_record(&mut self) -> Result<Option<PerfRecord<'_>>, PerfError> {
        let Some(at) = self.find_next()? else {
            self.end_turn()?;
            self.drop_retired();
            return Ok(None);
        };
        self.turn = Some(Turn { at, given: true });
        match self.cpus.get_mut(at) {
            Some(cpu) => cpu.record(),
            None => Ok(None),
        }
    }

    /// Whether there is a record that was not given out, also one that came after reading began. Nothing is given out.
    /// Programs write nothing to an [overwritable](PerfBufferOptions::overwritable) buffer from then on until its records were
    /// taken.
    ///
    /// # Errors
    /// As [`next_record`](PerfBuffer::next_record).
    pub fn has_record(&mut self) -> Result<bool, PerfError> {
        // What is there when this turn ends is of the next one.
        for _ in 0..2 {
            if let Some(at) = self.find_next()? {
                self.turn = Some(Turn { at, given: false });
                self.push_time(at)?;
                return Ok(true);
            }
            self.end_turn()?;
            self.drop_retired();
            if self.available() == 0 {
                break;
            }
        }
        Ok(false)
    }

    /// The ring whose record is next, after the one that was given out last was passed.
    fn find_next(&mut self) -> Result<Option<usize>, PerfError> {
        if let Some(error) = self.deferred.take() {
            return Err(error);
        }
        self.pass_given()?;
        let mut turn = match self.turn {
            Some(turn) => turn,
            None => self.begin_turn()?,
        };
        if self.options.ordered {
            return Ok(self.by_time.pop().map(|Reverse((_, at))| at));
        }
        while let Some(cpu) = self.cpus.get_mut(turn.at) {
            if cpu.next_time()?.is_some() {
                return Ok(Some(turn.at));
            }
            turn.at += 1;
            self.turn = Some(turn);
        }
        Ok(None)
    }

    /// Goes on behind the record that was given out last.
    pub(super) fn pass_given(&mut self) -> Result<(), PerfError> {
        if let Some(Turn { at, given: true }) = self.turn
            && let Some(cpu) = self.cpus.get_mut(at)
        {
            self.turn = Some(Turn { at, given: false });
            cpu.advance()?;
            self.push_time(at)?;
        }
        Ok(())
    }

    /// Looks how far each ring is written.
    fn begin_turn(&mut self) -> Result<Turn, PerfError> {
        let turn = Turn { at: 0, given: false };
        self.turn = Some(turn);
        self.by_time.clear();
        let mut first_error = None;
        for at in 0..self.cpus.len() {
            let begun = self.cpus.get_mut(at).map_or(Ok(false), PerfCpu::begin);
            if let Err(error) = begun.and_then(|_| self.push_time(at)) {
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(turn), Err)
    }

    /// Sorts in the record that is next of a ring.
    fn push_time(&mut self, at: usize) -> Result<(), PerfError> {
        if self.options.ordered
            && let Some(cpu) = self.cpus.get_mut(at)
            && let Some(time) = cpu.next_time()?
        {
            self.by_time.push(Reverse((time, at)));
        }
        Ok(())
    }

    /// Tells the kernel what was read.
    fn end_turn(&mut self) -> Result<(), PerfError> {
        let Some(turn) = self.turn.take() else { return Ok(()) };
        let mut first_error = None;
        let mut keep = |result: Result<(), PerfError>| {
            if let Err(error) = result {
                first_error.get_or_insert(error);
            }
        };
        if turn.given
            && let Some(cpu) = self.cpus.get_mut(turn.at)
        {
            keep(cpu.advance());
        }
        for cpu in &mut self.cpus {
            keep(cpu.finish());
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Gives what is in the rings to `each`; when there is nothing, waits until there is, or `timeout` is over; for none
    /// as long as it takes. Answers how many records there were: 0 when the time was over. Signals do not end it.
    ///
    /// # Errors
    /// As [`consume`](PerfBuffer::consume), and [`PerfError::Wait`].
    pub fn poll(
        &mut self,
        timeout: Option<Duration>,
        mut each: impl FnMut(PerfRecord<'_>),
    ) -> Result<usize, PerfError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let count = self.consume(&mut each)?;
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            // What wakes may be of what was read before.
            if count > 0 || !self.wait(left)? {
                return Ok(count);
            }
        }
    }

    /// Waits until a ring is to be read, or `timeout` is over; for none as long as it takes. Answers whether one is.
    ///
    /// # Errors
    /// [`PerfError::Wait`].
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, PerfError> {
        self.ready.clear();
        let count = self.poller.wait(&mut self.ready, timeout).map_err(PerfError::Wait)?;
        // A ring that can say nothing any more would be ready for ever.
        for gone in self.ready.iter().filter(|ready| ready.hangup) {
            if let Some(cpu) =
                self.cpus.iter_mut().find(|cpu| !cpu.retired && u64::from(cpu.cpu()) == gone.token)
            {
                let _ = self.poller.remove(cpu.ring().as_fd());
                cpu.retired = true;
            }
        }
        Ok(count > 0)
    }

    /// Lets programs write no more (Linux 4.7). What they write meanwhile is lost, and counted as lost.
    ///
    /// # Errors
    /// [`PerfError::Control`].
    pub fn pause(&mut self) -> Result<(), PerfError> {
        self.cpus.iter_mut().try_for_each(PerfCpu::pause)
    }

    /// Lets programs write again.
    ///
    /// # Errors
    /// [`PerfError::Control`].
    pub fn resume(&mut self) -> Result<(), PerfError> {
        self.cpus.iter_mut().try_for_each(PerfCpu::resume)
    }

    /// Opens rings for CPUs that came online, and closes those of CPUs that went, also when they are back since. What is
    /// left in a ring that is closed is given by the next reading.
    ///
    /// ```
    /// # use skep::{Kernel, map::Map, sim::SimKernel};
    /// # use skep::perf::{PerfBuffer, PerfBufferOptions};
    /// # use skep::sys::{abi::MapType, request::MapCreate};
    /// let sim = SimKernel::new();
    /// let kernel = Kernel::new(sim.clone());
    /// let map = Map::create(&kernel, &MapCreate::new(MapType::PERF_EVENT_ARRAY, 4, 4, 2))?;
    /// let mut buffer = PerfBuffer::new(&map, PerfBufferOptions::new())?;
    /// sim.set_online(1, false);
    /// sim.set_online(1, true);
    /// let changes = buffer.refresh()?;
    /// assert_eq!((changes.closed, changes.opened), (vec![1], vec![1]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`PerfError::Cpus`]; [`PerfError::Open`], [`PerfError::Mmap`] and [`PerfError::Map`] when a ring cannot be opened:
    /// those that could are.
    pub fn refresh(&mut self) -> Result<CpuChanges, PerfError> {
        self.end_turn()?;
        let kernel = self.map.as_map().kernel().clone();
        let online = kernel.online_cpus().map_err(PerfError::Cpus)?;
        let mut changes = CpuChanges::default();
        for cpu in &mut self.cpus {
            let number = cpu.cpu();
            if !cpu.retired && (!online.contains(&number) || !cpu.is_alive()) {
                cpu.retired = true;
                let _ = self.poller.remove(cpu.ring().as_fd());
                // It may be another's by now, or gone with the CPU; nothing is written to it either way.
                let _ = self.map.remove_event(number, cpu.ring().event());
                changes.closed.push(number);
            }
        }
        let (wanted, left_out) =
            online.into_iter().filter(|&cpu| self.options.wants(cpu)).partition(|&cpu| cpu < self.map.len());
        self.left_out = left_out;
        let wanted: Vec<u32> = wanted;
        for number in wanted {
            if self.cpus.iter().any(|cpu| cpu.cpu() == number && !cpu.retired) {
                continue;
            }
            match self.open(number) {
                Ok(()) => changes.opened.push(number),
                // It went meanwhile.
                Err(error) if error.errno() == Some(skep_sys::abi::Errno::ENODEV) => {}
                Err(error) => return Err(error),
            }
        }
        self.cpus.sort_by_key(|cpu| (cpu.cpu(), !cpu.retired));
        self.by_time.reserve(self.cpus.len());
        Ok(changes)
    }

    /// Opens the ring of a CPU.
    fn open(&mut self, number: u32) -> Result<(), PerfError> {
        let cpu = PerfCpu::open(self.map.as_map().kernel(), number, &self.options)?;
        self.poller.add(cpu.as_fd(), u64::from(number)).map_err(PerfError::Wait)?;
        self.map.set(number, cpu.ring().event())?;
        self.cpus.push(cpu);
        Ok(())
    }

    /// Closes the rings of CPUs that are gone, which were read to their end.
    fn drop_retired(&mut self) {
        let lost: u64 = self.cpus.iter().filter(|cpu| cpu.retired).map(PerfCpu::lost).sum();
        self.lost = self.lost.saturating_add(lost);
        self.cpus.retain(|cpu| !cpu.retired);
    }
}

impl Drop for PerfBuffer {
    fn drop(&mut self) {
        // A map that others hold would keep the events.
        for cpu in self.cpus.iter().filter(|cpu| !cpu.retired) {
            let _ = self.map.remove_event(cpu.cpu(), cpu.ring().event());
        }
    }
}

#[cfg(target_os = "linux")]
impl AsFd for PerfBuffer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

const _: fn() = || {
    fn send<T: Send + Sync>() {}
    send::<PerfBuffer>();
};
