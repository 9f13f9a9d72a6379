//! The calls of the simulated kernel.

use std::ffi::OsStr;
use std::io::{Cursor, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use skep_sys::abi::{Errno, MapType, OpenFlags, StatsType, StreamId};
use skep_sys::request::{AttachedProgs, ProgAttach, ProgDetach, ProgKey, ProgQuery};
use skep_sys::request::{
    BatchRead, BatchWrite, BtfInfo, BtfLoad, LinkCreate, LinkInfo, LinkUpdate, LogBuffer, MapCreate, MapInfo,
    MapMemory, MapUsage, OpenById, Pin, PinAttributes, PinEntry, ProcessFile, ProgDump, ProgInfo, ProgLoad,
    ReadSeek, TestRun, TestRunResult,
};
use skep_sys::request::{PerfControl, PerfEventOpen, PerfMemory};
use skep_sys::ring::RingMemory;
use skep_sys::{Backend, MapRef, ObjectKind, PerfRingMemory, Permissions, SharedMemory};

use crate::attach::{link_create, raw_tracepoint_open};
use crate::btf::{self, BtfObject};
use crate::fd::{Access, Descriptors};
use crate::features::Features;
use crate::iter::Iter;
use crate::kernel::{Core, SimKernel};
use crate::log::Log;
use crate::map;
use crate::net;
use crate::object::Object;
use crate::prog::{self, Prog};
use crate::run;
use crate::tables;
use crate::user::{Capability, READ, WRITE, needed_for_program};

impl Backend for Core {
    fn name(&self) -> &str {
        "simulated"
    }

    fn map_create(&self, request: &MapCreate<'_>) -> Result<OwnedFd, Errno> {
        map::create(self, request)
    }

    fn map_lookup(&self, map: MapRef<'_>, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), Errno> {
        let (map, access) = self.0.map(map.as_fd())?;
        if let Some(owner) = self.0.owner(&map, key)? {
            return map.lookup_owned(access, owner, value, flags);
        }
        map.lookup(access, key, value, flags)
    }

    fn map_update(&self, map: MapRef<'_>, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        let (map, access) = self.0.map(map.as_fd())?;
        if tables::is_table(&map) {
            return tables::update(&self.0, &map, access, (key, value), flags);
        }
        if let Some(owner) = self.0.owner(&map, key)? {
            return map.update_owned(access, owner, value, flags);
        }
        if map.takes_sockets()
            && let Some(cookie) = self.0.socket_number(value)
        {
            return self.0.put_socket(&map, access, key, cookie, flags);
        }
        map.update(access, key, value, flags, &|number| self.0.object_number(number))
    }

    fn map_update_fd(
        &self,
        map: MapRef<'_>,
        key: &[u8],
        value: BorrowedFd<'_>,
        flags: u64,
    ) -> Result<(), Errno> {
        let (map, access) = self.0.map(map.as_fd())?;
        if map.takes_sockets()
            && let Ok(Object::Socket(cookie)) = self.0.object(value)
        {
            return self.0.put_socket(&map, access, key, cookie, flags);
        }
        map.update_fd(access, key, value, flags, &|number| self.0.object_number(number))
    }

    fn map_delete(&self, map: MapRef<'_>, key: &[u8]) -> Result<(), Errno> {
        let (map, access) = self.0.map(map.as_fd())?;
        match self.0.owner(&map, key)? {
            Some(owner) => map.delete_owned(access, owner),
            None if tables::is_table(&map) => tables::delete(&self.0, &map, access, key),
            None => map.delete(access, key),
        }
    }

    fn map_next_key(&self, map: MapRef<'_>, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        let (map, access) = self.0.map(map.as_fd())?;
        map.next_key(access, key, next)
    }

    fn map_lookup_and_delete(
        &self,
        map: MapRef<'_>,
        key: &[u8],
        value: &mut [u8],
        flags: u64,
    ) -> Result<(), Errno> {
        let (map, access) = self.0.map(map.as_fd())?;
        let features = self.0.features();
        // The flag came with hashes.
        if flags != 0 && !features.contains(Features::HASH_TAKE) || flags & !map::LOCK != 0 {
            return Err(Errno::EINVAL);
        }
        if map.is_hash() && !features.contains(Features::HASH_TAKE)
            || map.shape.kind == MapType::STACK_TRACE && !features.contains(Features::STACK_TRACE_TAKE)
        {
            return Err(map.refusal(access, true, true));
        }
        map.lookup_and_delete(access, key, value, flags)
    }

    fn map_lookup_batch(&self, map: MapRef<'_>, batch: &mut BatchRead<'_>) -> Result<u32, (Errno, u32)> {
        let (map, access) = self.0.batch_map(map, true, false)?;
        map.read_batch(access, batch, false)
    }

    fn map_lookup_and_delete_batch(
        &self,
        map: MapRef<'_>,
        batch: &mut BatchRead<'_>,
    ) -> Result<u32, (Errno, u32)> {
        let (map, access) = self.0.batch_map(map, true, true)?;
        map.read_batch(access, batch, true)
    }

    fn map_update_batch(&self, map: MapRef<'_>, batch: &BatchWrite<'_>) -> Result<u32, (Errno, u32)> {
        let (map, access) = self.0.batch_map(map, false, true)?;
        map.update_batch(access, batch, &|number| self.0.object_number(number))
    }

    fn map_delete_batch(&self, map: MapRef<'_>, batch: &BatchWrite<'_>) -> Result<u32, (Errno, u32)> {
        let (map, access) = self.0.batch_map(map, false, true)?;
        map.delete_batch(access, batch)
    }

    fn map_mmap(&self, map: BorrowedFd<'_>, memory: MapMemory) -> Result<SharedMemory, Errno> {
        let (map, access) = self.0.map(map)?;
        map.mmap(access, memory)
    }

    fn map_ring(&self, map: BorrowedFd<'_>) -> Result<RingMemory, Errno> {
        let (map, access) = self.0.map(map)?;
        let memory = map.map_ring(access)?;
        let (kernel, map) = (Arc::downgrade(&self.0), Arc::downgrade(&map));
        let went_idle = move |fd: BorrowedFd<'_>| {
            if let (Some(kernel), Some(map)) = (kernel.upgrade(), map.upgrade()) {
                kernel.settle(&map, fd);
            }
        };
        Ok(memory.with_idle(Box::new(went_idle)))
    }

    fn map_freeze(&self, map: BorrowedFd<'_>) -> Result<(), Errno> {
        if !self.0.features().contains(Features::MAP_FREEZE) {
            return Err(Errno::EINVAL);
        }
        let (map, access) = self.0.map(map)?;
        map.freeze(access, self.0.features().contains(Features::FREEZE_NEEDS_WRITE))
    }

    fn prog_load(&self, request: &ProgLoad<'_>, log: Option<&mut LogBuffer>) -> Result<OwnedFd, Errno> {
        let needed = needed_for_program(request.prog_type);
        self.permit(request.token, [Capability::BPF].iter().chain(needed).copied())?;
        let mut log = Log::new(log)?;
        let draft = prog::load(&self.0, request, &mut log);
        log.finish()?;
        let draft = draft?.made_by(self.user().uid);
        self.0.charge(prog::memory(request.insns.len()))?;
        self.0.open(Object::Prog(self.0.add_prog(draft)?), Access::ALL)
    }

    fn prog_test_run(
        &self,
        fd: BorrowedFd<'_>,
        run: &mut TestRun<'_>,
    ) -> Result<TestRunResult, (Errno, TestRunResult)> {
        // To ask which file a descriptor is costs as much as many programs.
        let known = run.key().and_then(|key| key.get::<Weak<Prog>>()).and_then(Weak::upgrade);
        let prog = match known {
            Some(prog) => {
                drop(self.0.current()); // as where the descriptor is looked up
                prog
            }
            None => {
                let object = self.0.object(fd).map_err(|errno| (errno, TestRunResult::default()))?;
                let prog = object.prog().map_err(|errno| (errno, TestRunResult::default()))?;
                run.set_key(ProgKey::new(Arc::downgrade(prog)));
                prog.clone()
            }
        };
        run::test_run(&SimKernel(self.clone()), &prog, run)
    }

    fn prog_fault(&self, prog: BorrowedFd<'_>) -> Result<String, Errno> {
        let object = self.0.object(prog)?;
        let faults = self.0.world().faults.all();
        let mut theirs =
            faults.iter().rev().filter(|fault| object.prog().is_ok_and(|prog| prog.name() == fault.program));
        theirs.next().map(ToString::to_string).ok_or(Errno::ENOENT)
    }

    fn prog_bind_map(&self, prog: BorrowedFd<'_>, map: BorrowedFd<'_>) -> Result<(), Errno> {
        if !self.0.features().contains(Features::PROG_BIND_MAP) {
            return Err(Errno::EINVAL);
        }
        let prog = self.0.object(prog)?;
        let map = self.0.object(map)?;
        prog.prog()?.bind_map(map.map()?);
        Ok(())
    }

    fn prog_dump(&self, prog: BorrowedFd<'_>) -> Result<ProgDump, Errno> {
        let mut dump = self.0.object(prog)?.prog()?.dump();
        if self.needs(Capability::BPF).is_err() {
            // Code is shown to who could load it.
            dump = ProgDump::default();
        }
        Ok(dump)
    }

    fn prog_stream_read(
        &self,
        prog: BorrowedFd<'_>,
        stream: StreamId,
        into: &mut [u8],
    ) -> Result<usize, Errno> {
        if !self.0.features().contains(Features::PROG_STREAMS) {
            return Err(Errno::EINVAL);
        }
        let id = self.0.object(prog)?.prog()?.id;
        if !matches!(stream, StreamId::STDOUT | StreamId::STDERR) {
            return Err(Errno::ENOENT);
        }
        Ok(self.0.world().streams.take(id, stream.0, into))
    }

    fn enable_stats(&self, stats: StatsType) -> Result<OwnedFd, Errno> {
        if !self.0.features().contains(Features::STATS) {
            return Err(Errno::EINVAL);
        }
        self.needs(Capability::SYS_ADMIN)?;
        if stats != StatsType::RUN_TIME {
            return Err(Errno::EINVAL);
        }
        self.0.open(Object::Stats, Access::ALL)
    }

    fn memlock(&self, object: BorrowedFd<'_>) -> Result<u64, Errno> {
        let bytes = match self.0.object(object)? {
            Object::Map(map) => map.shape.memory(),
            Object::Prog(prog) => prog.memory(),
            _ => return Err(Errno::EINVAL),
        };
        Ok(bytes as u64)
    }

    fn btf_load(&self, request: &BtfLoad<'_>, log: Option<&mut LogBuffer>) -> Result<OwnedFd, Errno> {
        let features = self.0.features();
        if !features.contains(Features::BTF) {
            return Err(Errno::EINVAL);
        }
        self.permit(request.token, [Capability::BPF])?;
        let mut log = Log::new(log)?;
        let btf = btf::load(request.bytes, features, &mut log);
        log.finish()?;
        let btf = btf?;
        let make = |id| BtfObject { id, name: String::new(), kernel: false, btf };
        let btf = self.0.state().btfs.add(make)?;
        self.0.open(Object::Btf(btf), Access::ALL)
    }

    fn token_create(&self, bpffs: &Path) -> Result<OwnedFd, Errno> {
        if !self.0.features().contains(Features::TOKEN) {
            return Err(Errno::EINVAL);
        }
        let mut state = self.0.state();
        if !state.bpffs.is_root(&self.user(), bpffs)? {
            return Err(Errno::EINVAL);
        }
        if self.0.config().delegating.as_deref() != Some(bpffs) {
            return Err(Errno::ENOENT);
        }
        state.descriptors.open(Object::Token, Access::ALL)
    }

    fn map_info(&self, map: BorrowedFd<'_>) -> Result<MapInfo, Errno> {
        Ok(self.0.object(map)?.map()?.info())
    }

    fn map_usage(&self, map: BorrowedFd<'_>) -> Result<MapUsage, Errno> {
        Ok(self.0.object(map)?.map()?.usage())
    }

    fn prog_info(&self, prog: BorrowedFd<'_>) -> Result<ProgInfo, Errno> {
        let mut info = self.0.object(prog)?.prog()?.info();
        if self.needs(Capability::BPF).is_err() {
            (info.xlated_len, info.nr_func_info, info.nr_line_info) = (0, 0, 0);
        }
        Ok(info)
    }

    fn btf_info(&self, btf: BorrowedFd<'_>) -> Result<BtfInfo, Errno> {
        Ok(self.0.object(btf)?.btf()?.info(self.0.features()))
    }

    fn btf_bytes(&self, btf: BorrowedFd<'_>) -> Result<Bytes, Errno> {
        Ok(self.0.object(btf)?.btf()?.btf.bytes().clone())
    }

    fn link_info(&self, link: BorrowedFd<'_>) -> Result<LinkInfo, Errno> {
        Ok(self.0.object(link)?.link()?.info())
    }

    fn next_id(&self, kind: ObjectKind, id: u32) -> Result<u32, Errno> {
        self.needs(Capability::SYS_ADMIN)?;
        let state = self.0.swept();
        match kind {
            ObjectKind::Map => state.maps.next(id),
            ObjectKind::Program => state.progs.next(id),
            ObjectKind::Btf => state.btfs.next(id),
            ObjectKind::Link => state.links.next(id),
        }
    }

    fn open_by_id(&self, request: &OpenById<'_>) -> Result<OwnedFd, Errno> {
        let OpenById { kind, id, flags, token, .. } = *request;
        if token.is_some() && kind != ObjectKind::Btf {
            return Err(Errno::EINVAL);
        }
        self.permit(token, [Capability::SYS_ADMIN])?;
        let access = match kind {
            ObjectKind::Map => Access::from_flags(flags)?,
            _ if flags.is_empty() => Access::ALL,
            _ => return Err(Errno::EINVAL),
        };
        let state = self.0.swept();
        let object = match kind {
            ObjectKind::Map => Object::Map(state.maps.get(id)?),
            ObjectKind::Program => Object::Prog(state.progs.get(id)?),
            ObjectKind::Btf => Object::Btf(state.btfs.get(id)?),
            ObjectKind::Link => Object::Link(state.links.get(id)?),
        };
        drop(state);
        self.0.open(object, access)
    }

    fn pin(&self, pin: Pin<'_>) -> Result<(), Errno> {
        let object = self.0.object(pin.fd)?;
        if !matches!(object, Object::Map(_) | Object::Prog(_) | Object::Link(_)) {
            return Err(Errno::EINVAL);
        }
        self.0.state().bpffs.pin(&self.user(), pin.path, object)
    }

    fn open_pinned(&self, path: &Path, flags: OpenFlags) -> Result<OwnedFd, Errno> {
        let access = Access::from_flags(flags)?;
        let wanted = if access.read { READ } else { 0 } | if access.write { WRITE } else { 0 };
        let object = self.0.state().bpffs.get(&self.user(), path, wanted)?;
        self.0.open(object, access)
    }

    fn unpin(&self, path: &Path) -> Result<(), Errno> {
        let removed = self.0.state().bpffs.unpin(&self.user(), path)?;
        if let Some(object) = removed {
            self.0.release(object);
        }
        Ok(())
    }

    fn create_pin_dir(&self, path: &Path) -> Result<(), Errno> {
        self.0.state().bpffs.create_dir(&self.user(), path)
    }

    fn remove_pin_dir(&self, path: &Path) -> Result<(), Errno> {
        self.0.state().bpffs.remove_dir(&self.user(), path)
    }

    fn rename_pin(&self, from: &Path, to: &Path) -> Result<(), Errno> {
        let replaced = self.0.state().bpffs.rename(&self.user(), from, to)?;
        if let Some(object) = replaced {
            self.0.release(object);
        }
        Ok(())
    }

    fn symlink_pin(&self, text: &Path, path: &Path) -> Result<(), Errno> {
        self.0.state().bpffs.symlink(&self.user(), text, path)
    }

    fn read_pin_link(&self, path: &Path) -> Result<PathBuf, Errno> {
        self.0.state().bpffs.read_link(&self.user(), path)
    }

    fn pin_dir_entries(&self, path: &Path) -> Result<Vec<PinEntry>, Errno> {
        self.0.state().bpffs.entries(&self.user(), path)
    }

    fn pin_attributes(&self, path: &Path) -> Result<PinAttributes, Errno> {
        self.0.state().bpffs.attributes(&self.user(), path)
    }

    fn set_pin_mode(&self, path: &Path, mode: u32) -> Result<(), Errno> {
        let user = self.user();
        self.0.state().bpffs.change(&user, path, |of| of.change(&user, mode))
    }

    fn set_pin_owner(&self, path: &Path, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        let user = self.user();
        self.0.state().bpffs.change(&user, path, |of| of.give(&user, uid, gid))
    }

    fn lock_pin_dir(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let mut state = self.0.swept();
        let directory = state.bpffs.directory(&self.user(), path)?;
        let held = |object: &Object| matches!(object, Object::Lock(held) if *held == directory);
        if state.descriptors.objects().any(held) {
            return Err(Errno::EAGAIN);
        }
        state.descriptors.open(Object::Lock(directory), Access::ALL)
    }

    fn mount_bpffs(&self, path: &Path) -> Result<(), Errno> {
        self.0.state().bpffs.mount(&self.user(), path)
    }

    fn is_bpffs(&self, path: &Path) -> Result<bool, Errno> {
        self.0.state().bpffs.contains(&self.user(), path)
    }

    fn link_create(&self, request: &LinkCreate<'_>) -> Result<OwnedFd, Errno> {
        link_create(&self.0, request)
    }

    fn prog_attach(&self, request: &ProgAttach<'_>) -> Result<(), Errno> {
        net::prog_attach(&self.0, request)
    }

    fn prog_detach(&self, request: &ProgDetach<'_>) -> Result<(), Errno> {
        net::prog_detach(&self.0, request)
    }

    fn prog_query(&self, request: &ProgQuery<'_>) -> Result<AttachedProgs, Errno> {
        net::prog_query(&self.0, request)
    }

    fn link_update(&self, request: &LinkUpdate<'_>) -> Result<(), Errno> {
        if !self.0.features().contains(Features::LINKS) {
            return Err(Errno::EINVAL);
        }
        let link = self.0.object(request.link)?;
        let link = link.link()?;
        let new = self.0.object(request.new_prog)?;
        if let Object::Map(map) = &new {
            return tables::update_link(link, map);
        }
        let old = request.old_prog.map(|fd| self.0.object(fd)).transpose()?;
        let old = old.as_ref().map(Object::prog).transpose()?;
        link.update(new.prog()?.clone(), old)
    }

    fn link_detach(&self, link: BorrowedFd<'_>) -> Result<(), Errno> {
        if !self.0.features().contains(Features::LINKS) {
            return Err(Errno::EINVAL);
        }
        self.0.object(link)?.link()?.detach()
    }

    fn iter_create(&self, link: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let iter = Iter::new(self.object(link)?.link()?)?;
        self.open(Object::Iter(Arc::new(iter)), Access::ALL)
    }

    fn iter_read(&self, iter: BorrowedFd<'_>, to: &mut [u8]) -> Result<usize, Errno> {
        match self.object(iter)? {
            Object::Iter(iter) => iter.read(&SimKernel(self.clone()), to),
            _ => Err(Errno::EINVAL),
        }
    }

    fn raw_tracepoint_open(
        &self,
        prog: BorrowedFd<'_>,
        name: Option<&str>,
        cookie: u64,
    ) -> Result<OwnedFd, Errno> {
        raw_tracepoint_open(&self.0, prog, name, cookie)
    }

    fn perf_event_open(&self, request: &PerfEventOpen<'_>) -> Result<OwnedFd, Errno> {
        self.needs(Capability::PERFMON).map_err(|_| Errno::EACCES)?;
        self.0.perf_event_open(request)
    }

    fn perf_event_control(&self, event: BorrowedFd<'_>, control: PerfControl) -> Result<(), Errno> {
        self.0.object(event)?.perf()?.control(control, self.0.elapsed())
    }

    fn perf_event_read(&self, event: BorrowedFd<'_>, to: &mut [u8]) -> Result<usize, Errno> {
        self.0.object(event)?.perf()?.read(to, self.0.elapsed())
    }

    fn perf_event_mmap(&self, event: BorrowedFd<'_>, memory: PerfMemory) -> Result<PerfRingMemory, Errno> {
        self.0.object(event)?.perf()?.mmap(memory)
    }

    fn perf_event_seen(&self, event: BorrowedFd<'_>) -> Result<(), Errno> {
        self.0.object(event)?.perf()?;
        Descriptors::take_wakeups(event)
    }

    fn kernel_btf(&self) -> Result<Bytes, Errno> {
        self.0.vmlinux().map(|btf| btf.btf.bytes().clone()).ok_or(Errno::ENOENT)
    }

    fn possible_cpus(&self) -> Result<u32, Errno> {
        Ok(self.0.config().cpus)
    }

    fn online_cpus(&self) -> Result<Vec<u32>, Errno> {
        let state = self.0.state();
        Ok((0..self.0.config().cpus).filter(|cpu| !state.offline.contains(cpu)).collect())
    }

    fn release(&self) -> Result<String, Errno> {
        Ok(self.0.config().release.clone())
    }

    fn version_code(&self) -> Result<u32, Errno> {
        Ok(version_code(&self.0.config().release))
    }

    fn config(&self) -> Result<Box<dyn Read + Send>, Errno> {
        Ok(Box::new(Cursor::new(self.0.config().config.clone())))
    }

    fn symbols(&self) -> Result<Box<dyn Read + Send>, Errno> {
        Ok(Box::new(Cursor::new(self.0.config().symbols.clone())))
    }

    fn process_maps(&self, pid: u32) -> Result<Box<dyn Read + Send>, Errno> {
        let maps = self.0.config().processes.get(&pid).ok_or(Errno::ENOENT)?;
        Ok(Box::new(Cursor::new(maps.clone())))
    }

    fn process_file(&self, file: &ProcessFile<'_>) -> Result<Box<dyn ReadSeek>, Errno> {
        let contents = self.0.config().files.get(&(file.pid, file.path.to_owned())).ok_or(Errno::ENOENT)?;
        Ok(Box::new(Cursor::new(contents.clone())))
    }

    fn has_syscall_wrapper(&self) -> Result<bool, Errno> {
        Ok(self.0.config().syscall_wrapper)
    }

    fn ifindex(&self, name: &OsStr) -> Result<u32, Errno> {
        let name = name.to_str().ok_or(Errno::ENODEV)?;
        self.0.world().net.ifindex(name).ok_or(Errno::ENODEV)
    }

    fn permissions(&self) -> Permissions {
        let mut permissions = Permissions::default();
        permissions.effective_caps = Some(self.user().mask());
        permissions.unprivileged_bpf_disabled = self.1.is_some().then_some(2);
        permissions.user_namespace = self.0.config().delegating.is_some();
        permissions.memlock_limit = self.0.memlock().map(|limit| limit as u64);
        permissions
    }

    fn raise_memlock(&self) -> Result<bool, Errno> {
        if !self.user().has(Capability::SYS_RESOURCE) {
            return Err(Errno::EPERM);
        }
        Ok(!std::mem::replace(&mut self.0.state().memlock_raised, true))
    }
}

/// `KERNEL_VERSION` of a release: its first three numbers, the last at most 255.
fn version_code(release: &str) -> u32 {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0).min(255);
    next() << 16 | next() << 8 | next()
}
