//! Calls of tables of programs (`struct_ops`).

use std::sync::Arc;

use skep_sys::abi::{Errno, LinkId};

use super::Event;
use super::outcome::{EventError, Run};
use super::scene::{Scene, arguments, run_prog, scene, words};
use super::site::{Arguments, Site};
use crate::kernel::SimKernel;
use crate::map::{Map, Table};
use crate::vm::{Vm, What};

/// A call of a function that a registered table of programs (`struct_ops`) stands for, as the kernel makes it: of the
/// congestion control with some name, say.
///
/// ```
/// # let btf = std::fs::read("../testdata/btf/6.18.btf")?;
/// use skep_sim::{SimKernel, TableCall};
///
/// let sim = SimKernel::builder().btf(btf).build()?;
/// let sock = sim.memory().object("sock")?;
/// let error = sim.fire(TableCall::new("tcp_congestion_ops", "mine", "ssthresh").arg(&sock)).unwrap_err();
/// assert_eq!(error.to_string(), "no table tcp_congestion_ops `mine` is registered: ENOENT: no such entry");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct TableCall {
    structure: String,
    name: String,
    member: String,
    args: Vec<u64>,
    scene: Scene,
}

scene!(TableCall);
arguments!(TableCall);

impl TableCall {
    /// A call of a member of the table that is registered under a name; an empty name for structures that have none.
    pub fn new(
        structure: impl Into<String>,
        name: impl Into<String>,
        member: impl Into<String>,
    ) -> TableCall {
        TableCall {
            structure: structure.into(),
            name: name.into(),
            member: member.into(),
            args: Vec::new(),
            scene: Scene::default(),
        }
    }
}

impl Event for TableCall {
    type Outcome = Run;

    fn happen(self, kernel: &SimKernel) -> Result<Run, EventError> {
        self.scene.check(kernel)?;
        let wanted = (self.structure.clone(), self.name.clone());
        let is_it = |map: &Arc<Map>| map.with_table(|table| table.registered_as() == wanted) == Some(true);
        let links: Vec<_> = kernel.0.swept().links.iter().collect();
        let by_link = links.iter().find_map(|link| {
            let map = link.table().filter(|map| link.is_attached() && is_it(map))?;
            Some((map, LinkId(link.id)))
        });
        let plain = || kernel.0.world().tables.clone().into_iter().find(is_it).map(|map| (map, LinkId(0)));
        let (map, link_id) = by_link.or_else(plain).ok_or_else(|| {
            let tables = links.iter().filter_map(|link| link.table()).chain(kernel.0.world().tables.clone());
            let known = tables.filter_map(|map| map.with_table(|table| table.registered_as()));
            let known: Vec<_> = known.map(|(structure, name)| format!("{structure} `{name}`")).collect();
            let others =
                if known.is_empty() { String::new() } else { format!(", only {}", known.join(", ")) };
            let what = format!("no table {} `{}` is registered{others}", self.structure, self.name);
            EventError::new(Errno::ENOENT, what)
        })?;
        let prog = map.with_table(|table: &mut Table| table.function(&self.member)).flatten();
        let prog = prog.ok_or_else(|| {
            let what =
                format!("table {} `{}` has no program for `{}`", self.structure, self.name, self.member);
            EventError::new(Errno::ENOENT, what)
        })?;
        let site = Site {
            arguments: Some(Arguments { count: self.args.len(), returned: false }),
            ..self.scene.site(kernel, None)
        };
        let bytes = words(&self.args);
        let context = |vm: &mut Vm| vm.own(What::Context, bytes, false);
        Ok(run_prog(kernel, &prog, link_id, self.scene.cpu, site, context).0)
    }
}
