//! Links: programs attached to something.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skep_sys::abi::{AttachFlags, AttachType, Errno, LinkId, LinkType, ProgId};
use skep_sys::request::{LinkInfo, LinkPlace};

use crate::event::{Point, PointKind};
use crate::map::Map;
use crate::net::Hook;
use crate::object::Object;
use crate::perf::PerfEvent;
use crate::prog::Prog;

/// A link. Whoever is attached to holds it weakly, so that it is detached when it goes.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: u32,
    pub(crate) place: Place,
    /// What programs of tracing read with `bpf_get_attach_cookie`.
    pub(crate) cookie: u64,
    /// How it was attached, in control groups.
    flags: AttachFlags,
    state: Mutex<State>,
}

/// What changes of a link.
#[derive(Clone, Debug)]
pub(crate) struct State {
    prog: Arc<Prog>,
    attached: bool,
    /// The table that it registers, of which `prog` is one.
    table: Option<Arc<Map>>,
    /// Its place in the order of its attach point.
    rank: u32,
}

/// What a link attaches to.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    RawTracepoint(String),
    Tracing {
        attach_type: AttachType,
        target_obj_id: u32,
        target_btf_id: u32,
    },
    /// An iterator, and what it goes through.
    Iter {
        of: IterOf,
    },
    Xdp {
        ifindex: u32,
    },
    /// Places of kprobes, uprobes, tracepoints and perf events.
    Points {
        points: Vec<Point>,
        multi: bool,
    },
    /// A table of programs.
    StructOps,
    /// A place of the network that programs have in an order.
    Net(Hook),
}

/// What an iterator goes through, where that is not everything.
#[derive(Clone, Debug)]
pub(crate) enum IterOf {
    All,
    Map(Arc<Map>),
    /// Control groups, in their order.
    Cgroup {
        ids: Vec<u64>,
    },
    Thread(u32),
    Process(u32),
}

impl Place {
    /// Whether it is XDP on that network device.
    pub(crate) fn is_xdp(&self, device: u32) -> bool {
        matches!(self, Place::Xdp { ifindex } if *ifindex == device)
    }

    /// Whether it is that perf event.
    pub(crate) fn is_event(&self, event: &Arc<PerfEvent>) -> bool {
        let is_it =
            |point: &Point| matches!(&point.kind, PointKind::Perf(Some(one)) if Arc::ptr_eq(one, event));
        matches!(self, Place::Points { points, .. } if points.iter().any(is_it))
    }
}

impl Link {
    pub(crate) fn new(id: u32, prog: Arc<Prog>, place: Place) -> Link {
        let state = State { prog, attached: true, table: None, rank: 0 };
        Link { id, place, cookie: 0, flags: AttachFlags::empty(), state: Mutex::new(state) }
    }

    /// A program that is attached without a link: nobody has it but its place, and it has no id.
    pub(crate) fn direct(prog: Arc<Prog>, place: Place, flags: AttachFlags) -> Link {
        Link { flags, ..Link::new(0, prog, place) }
    }

    /// Whether it stands for a program that is attached without a link.
    pub(crate) fn is_direct(&self) -> bool {
        self.id == 0
    }

    pub(crate) fn flags(&self) -> AttachFlags {
        self.flags
    }

    /// A link that registers a table; `prog` is one of its programs.
    pub(crate) fn of_table(id: u32, prog: Arc<Prog>, table: &Arc<Map>) -> Link {
        let state = State { prog, attached: true, table: Some(table.clone()), rank: 0 };
        Link { id, place: Place::StructOps, cookie: 0, flags: AttachFlags::empty(), state: Mutex::new(state) }
    }

    /// The table that it has registered.
    pub(crate) fn table(&self) -> Option<Arc<Map>> {
        let state = self.state();
        state.table.clone().filter(|_| state.attached)
    }

    pub(crate) fn set_table(&self, table: &Arc<Map>) {
        self.state().table = Some(table.clone());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a snapshot keeps.
    pub(crate) fn save(&self) -> State {
        self.state().clone()
    }

    pub(crate) fn restore(&self, saved: &State) {
        *self.state() = saved.clone();
    }

    /// The objects that it keeps alive.
    pub(crate) fn refers_to(&self) -> Vec<Object> {
        let state = self.state();
        let table = state.table.iter().cloned().map(Object::Map);
        table.chain([Object::Prog(state.prog.clone())]).collect()
    }

    /// The same with a cookie.
    pub(crate) fn with_cookie(self, cookie: u64) -> Link {
        Link { cookie, ..self }
    }

    /// The same with flags.
    pub(crate) fn with_flags(self, flags: AttachFlags) -> Link {
        Link { flags, ..self }
    }

    /// The program that it runs now.
    pub(crate) fn prog(&self) -> Arc<Prog> {
        self.state().prog.clone()
    }

    pub(crate) fn rank(&self) -> u32 {
        self.state().rank
    }

    pub(crate) fn set_rank(&self, rank: u32) {
        self.state().rank = rank;
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.state().attached
    }

    pub(crate) fn info(&self) -> LinkInfo {
        let state = self.state();
        let mut info = LinkInfo::default();
        info.id = LinkId(self.id);
        info.prog_id = ProgId(state.prog.id);
        (info.link_type, info.place) = match &self.place {
            Place::RawTracepoint(name) => {
                (LinkType::RAW_TRACEPOINT, LinkPlace::RawTracepoint { name: name.clone() })
            }
            &Place::Tracing { attach_type, target_obj_id, target_btf_id } => {
                (LinkType::TRACING, LinkPlace::Tracing { attach_type, target_obj_id, target_btf_id })
            }
            Place::Iter { .. } => (LinkType::ITER, LinkPlace::Unknown),
            Place::Points { points, multi } => (points_type(points, *multi), LinkPlace::Unknown),
            Place::StructOps => {
                info.prog_id = ProgId(0);
                (LinkType::STRUCT_OPS, LinkPlace::Unknown)
            }
            &Place::Xdp { ifindex } => {
                (LinkType::XDP, LinkPlace::Xdp { ifindex: if state.attached { ifindex } else { 0 } })
            }
            Place::Net(hook) => hook.info(state.attached),
        };
        info
    }

    /// Puts another program in the place of the present one (`BPF_LINK_UPDATE`). Those of the network can.
    pub(crate) fn update(&self, new: Arc<Prog>, old: Option<&Arc<Prog>>) -> Result<(), Errno> {
        let mut state = self.state();
        if !matches!(self.place, Place::Xdp { .. } | Place::Net(_)) {
            return Err(Errno::EINVAL);
        }
        if matches!(self.place, Place::Net(Hook::Netfilter(_))) {
            return Err(Errno::EOPNOTSUPP);
        }
        if !state.attached {
            return Err(Errno::ENOLINK);
        }
        if old.is_some_and(|old| !Arc::ptr_eq(old, &state.prog)) {
            return Err(Errno::EPERM);
        }
        if new.prog_type != state.prog.prog_type
            || new.expected_attach_type != state.prog.expected_attach_type
        {
            return Err(Errno::EINVAL);
        }
        state.prog = new;
        Ok(())
    }

    /// Detaches, and keeps the link (`BPF_LINK_DETACH`). Those of the network and of tables can.
    pub(crate) fn detach(&self) -> Result<(), Errno> {
        let mut state = self.state();
        match self.place {
            Place::Xdp { .. } | Place::Net(_) => {}
            Place::StructOps if state.attached => state.table = None,
            Place::StructOps => return Err(Errno::EINVAL),
            _ => return Err(Errno::EOPNOTSUPP),
        }
        state.attached = false;
        Ok(())
    }
}

/// The kind of a link with such places.
fn points_type(points: &[Point], multi: bool) -> LinkType {
    match points.first().map(|point| &point.kind) {
        Some(PointKind::Uprobe(_) | PointKind::Uretprobe(_) | PointKind::Usdt { .. }) if multi => {
            LinkType::UPROBE_MULTI
        }
        _ if multi => LinkType::KPROBE_MULTI,
        _ => LinkType::PERF_EVENT,
    }
}
