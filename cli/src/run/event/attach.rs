//! Where the programs of an object are attached, so that events come by them.

use std::os::fd::{AsFd, OwnedFd};

use skep::program::Program;
use skep::sim::{Interface, SimKernel};
use skep::sys::abi::{AttachType, Errno, ProgType};
use skep::sys::request::{LinkCreate, LinkTarget};
use skep::{Kernel, Object, Spec};

use super::parse::{Happening, Words};

/// The device of events that name none.
const DEVICE: &str = "eth0";

/// Programs that are attached as long as this lives.
#[derive(Default)]
pub(in crate::run) struct Attached {
    links: Vec<OwnedFd>,
    lines: Vec<String>,
}

impl Attached {
    /// Where each program is, for who wonders why it does not run.
    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// Attaches each program where its section or its kind says: those of packets to each device of the events, those of
    /// control groups to the root.
    pub(in crate::run) fn new(
        sim: &SimKernel,
        kernel: &Kernel,
        spec: &Spec,
        object: &Object,
        events: &[Happening],
    ) -> Attached {
        let mut devices: Vec<&str> = events
            .iter()
            .filter_map(|event| match &event.words {
                Words::Receive(device) | Words::Transmit(device) => Some(device.as_str()),
                _ => None,
            })
            .collect();
        if devices.is_empty() {
            devices.push(DEVICE);
        }
        devices.sort_unstable();
        devices.dedup();
        let mut attached = Attached::default();
        let mut indexes = Vec::new();
        for device in devices {
            let known = sim.interface(device).map(|device| device.ifindex);
            match known.map_or_else(|| sim.add_interface(Interface::new(device)), Ok) {
                Ok(index) => indexes.push((device, index)),
                Err(errno) => attached.lines.push(format!("there is no device {device}: {errno}")),
            }
        }
        for program in object.programs() {
            let section = spec.programs.iter().find(|known| known.name == program.name());
            let section = section.map_or("", |known| known.section.as_str());
            attached.add(sim, kernel, program, section, &indexes);
        }
        attached
    }

    fn add(
        &mut self,
        sim: &SimKernel,
        kernel: &Kernel,
        program: &Program,
        section: &str,
        devices: &[(&str, u32)],
    ) {
        let name = program.name();
        if let Some(point) = sim.place_of_section(section) {
            return self.note(name, section, sim.attach(program, point));
        }
        match place(program, section) {
            Place::Device(attach_type) => {
                for (device, index) in devices {
                    let made = link(kernel, program, LinkTarget::Ifindex(*index), attach_type);
                    self.note(name, &format!("{device} ({attach_type})"), made);
                }
            }
            Place::Group(attach_type) => {
                let made = sim
                    .open_cgroup("/")
                    .and_then(|group| link(kernel, program, LinkTarget::Fd(group.as_fd()), attach_type));
                self.note(name, &format!("the root of control groups ({attach_type})"), made);
            }
            Place::Netns(attach_type) => {
                let made = sim
                    .open_netns()
                    .and_then(|netns| link(kernel, program, LinkTarget::Fd(netns.as_fd()), attach_type));
                self.note(name, &format!("the network ({attach_type})"), made);
            }
            Place::None => {
                self.lines.push(format!(
                    "{name}, of section {section}, is not attached: run it with --prog {name}"
                ));
            }
        }
    }

    fn note(&mut self, program: &str, place: &str, made: Result<OwnedFd, impl std::fmt::Display>) {
        match made {
            Ok(link) => {
                self.lines.push(format!("{program} is attached to {place}"));
                self.links.push(link);
            }
            Err(errno) => self.lines.push(format!("{program} cannot be attached to {place}: {errno}")),
        }
    }
}

fn link(
    kernel: &Kernel,
    program: &Program,
    target: LinkTarget<'_>,
    attach_type: AttachType,
) -> Result<OwnedFd, Errno> {
    kernel.link_create(&LinkCreate::new(program.as_fd(), target, attach_type)).map(OwnedFd::from)
}

/// A place for a program.
enum Place {
    Device(AttachType),
    Group(AttachType),
    Netns(AttachType),
    None,
}

fn place(program: &Program, section: &str) -> Place {
    let expected = program.attach_type();
    match program.prog_type() {
        ProgType::XDP => Place::Device(AttachType::XDP),
        ProgType::SCHED_CLS if section.contains("egress") => Place::Device(AttachType::TCX_EGRESS),
        ProgType::SCHED_CLS => Place::Device(AttachType::TCX_INGRESS),
        ProgType::CGROUP_SKB if section.contains("egress") => Place::Group(AttachType::CGROUP_INET_EGRESS),
        ProgType::CGROUP_SKB => Place::Group(AttachType::CGROUP_INET_INGRESS),
        ProgType::CGROUP_DEVICE => Place::Group(AttachType::CGROUP_DEVICE),
        ProgType::CGROUP_SYSCTL => Place::Group(AttachType::CGROUP_SYSCTL),
        ProgType::SOCK_OPS => Place::Group(AttachType::CGROUP_SOCK_OPS),
        ProgType::CGROUP_SOCK | ProgType::CGROUP_SOCK_ADDR | ProgType::CGROUP_SOCKOPT => {
            Place::Group(expected)
        }
        ProgType::SK_LOOKUP => Place::Netns(AttachType::SK_LOOKUP),
        ProgType::FLOW_DISSECTOR => Place::Netns(AttachType::FLOW_DISSECTOR),
        _ => Place::None,
    }
}
