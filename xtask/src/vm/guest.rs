//! One boot: what is put into the guest, qemu around it, and what comes out.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::image::Image;
use super::kernel::Kernel;
use super::store::{Store, Tools};

/// Exit status when the guest did not end in time.
const TIMED_OUT: u8 = 124;
/// Exit status when the guest ended without a status: the kernel panicked or qemu failed.
const DIED: u8 = 125;

/// What init says on the kernel's console begins so.
const INIT: &str = "skep-vm: ";
/// Messages of a kernel, and of init, that a reader of the tests' results wants to see.
const COMPLAINTS: &[&str] =
    &["WARNING: ", "BUG: ", "Oops: ", "INFO: rcu", "INFO: task", "Kernel panic", "skep-vm: failed: "];

/// One program to run in the guest.
pub(crate) struct Step {
    /// Printed before it starts, when there is one.
    pub(crate) title: Option<String>,
    /// A file of the host, which gets the same path in the guest, or a busybox applet.
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
    pub(crate) dir: PathBuf,
    pub(crate) env: Vec<(String, String)>,
}

/// What to boot and what to run in it.
pub(crate) struct Guest {
    /// One after another; the exit status is the last one that is not zero.
    pub(crate) steps: Vec<Step>,
    /// Host files or directories and their paths in the guest.
    pub(crate) files: Vec<(PathBuf, PathBuf)>,
    pub(crate) modules: Vec<String>,
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u32,
    pub(crate) timeout: Duration,
    /// Added to the kernel's command line.
    pub(crate) cmdline: String,
    /// Show all of the kernel's console at the end.
    pub(crate) verbose: bool,
}

impl Guest {
    /// Boots the guest, gives its output to `sink` as it comes, and returns the exit status.
    pub(super) fn run(
        &self,
        store: &Store,
        tools: &Tools,
        kernel: &Kernel,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<u8> {
        let scratch = Scratch::new(store)?;
        fs::write(scratch.file("initrd"), self.image(tools, kernel, &scratch)?)?;
        let mut child = self.qemu(tools, kernel, &scratch).spawn().context("start qemu")?;
        let in_time = stream(&mut child, Instant::now() + self.timeout, sink)?;
        if !in_time {
            child.kill()?;
        }
        let ended = child.wait()?;
        let console = String::from_utf8_lossy(&fs::read(scratch.file("console"))?).into_owned();
        let status = console.lines().rev().find_map(|line| {
            let (_, said) = line.split_once(INIT)?;
            said.strip_prefix("status ")?.trim().parse::<u8>().ok()
        });
        let lines: Vec<_> = console.lines().collect();
        let shown = match status.filter(|_| in_time) {
            _ if self.verbose => lines,
            Some(_) => {
                lines.into_iter().filter(|line| COMPLAINTS.iter().any(|text| line.contains(text))).collect()
            }
            None => lines[lines.len().saturating_sub(60)..].to_vec(), // starts within the lines
        };
        for line in shown {
            eprintln!("vm: kernel: {line}");
        }
        match status {
            Some(status) if in_time => return Ok(status),
            _ if in_time => eprintln!("vm: the guest ended without a status (qemu: {ended})"),
            _ => eprintln!("vm: stopped after {} seconds", self.timeout.as_secs()),
        }
        Ok(if in_time { DIED } else { TIMED_OUT })
    }

    fn image(&self, tools: &Tools, kernel: &Kernel, scratch: &Scratch) -> Result<Vec<u8>> {
        let mut image = Image::default();
        for dir in [
            "bin",
            "dev",
            "etc",
            "mnt",
            "proc",
            "root",
            "run",
            "sbin",
            "sys",
            "usr/bin",
            "usr/sbin",
            ".vm/modules",
        ] {
            image.directory(Path::new(dir), 0o755)?;
        }
        image.directory(Path::new("tmp"), 0o1777)?;
        image.device(Path::new("dev/console"), 0o600, 5, 1)?;
        image.device(Path::new("dev/null"), 0o666, 1, 3)?;
        image.file(
            Path::new("etc/passwd"),
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
        )?;
        image.file(Path::new("etc/group"), 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
        image.copy(&tools.path("usr/bin/busybox"), Path::new("bin/busybox"))?;
        image.file(Path::new("init"), 0o755, include_bytes!("init.sh"))?;
        image.file(Path::new(".vm/run"), 0o644, self.script().as_bytes())?;
        // Where a system keeps it, and where libraries look for it.
        image.copy(&kernel.config, Path::new(&format!("boot/config-{}", kernel.version)))?;
        for (at, module) in kernel.modules(&self.modules, tools)?.iter().enumerate() {
            image.file(
                Path::new(&format!(".vm/modules/{at:03}-{}.ko", module.name)),
                0o644,
                &module.bytes,
            )?;
        }
        let programs =
            self.steps.iter().map(|step| Path::new(&step.program)).filter(|path| path.is_absolute());
        let files = self.files.iter().map(|(from, to)| (from.as_path(), to.as_path()));
        for (from, to) in programs.map(|path| (path, path)).chain(files) {
            image.copy(&without_debug(from, scratch).unwrap_or_else(|| from.to_owned()), to)?;
            for library in shared_libraries(from)? {
                image.copy(&library, &library)?;
            }
        }
        for step in &self.steps {
            image.directory(&step.dir, 0o755)?;
        }
        image.finish()
    }

    /// The shell script that runs the steps.
    fn script(&self) -> String {
        let mut script = String::from("export HOME=/root USER=root TERM=dumb NO_COLOR=1\nstatus=0\n");
        for step in &self.steps {
            if let Some(title) = &step.title {
                let _ = writeln!(script, "echo {}", quote(title));
            }
            let _ = write!(script, "(cd {} && exec env", quote(&step.dir.to_string_lossy()));
            for (name, value) in &step.env {
                let _ = write!(script, " {}", quote(&format!("{name}={value}")));
            }
            for word in std::iter::once(&step.program).chain(&step.args) {
                let _ = write!(script, " {}", quote(word));
            }
            script.push_str(")\nlast=$?\n[ $last = 0 ] || status=$last\n");
        }
        script.push_str("exit $status\n");
        script
    }

    /// The options are for a quick and sure boot under emulation; CONTRIBUTING.md says what each avoids.
    fn qemu(&self, tools: &Tools, kernel: &Kernel, scratch: &Scratch) -> Command {
        let mut qemu = Command::new("setpriv"); // of util-linux: ends qemu with this process
        qemu.args(["--pdeathsig", "KILL", "--"]).arg(tools.loader());
        qemu.args(tools.loader_arguments("qemu-system-x86_64"));
        qemu.arg("-L").arg(tools.path("usr/share/qemu")).arg("-L").arg(tools.path("usr/share/seabios"));
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        qemu.args([
            "-machine",
            "microvm,acpi=on,pit=off,pic=off,rtc=on,isa-serial=off,auto-kernel-cmdline=off,usb=off,pcie=off",
        ]);
        qemu.args(["-accel", "tcg,thread=single"]);
        qemu.args(["-cpu", "Haswell-noTSX,-pcid,-invpcid,-tsc-deadline"]);
        qemu.arg("-smp").arg(self.cpus.to_string()).arg("-m").arg(format!("{}M", self.memory_mib));
        qemu.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(scratch.file("initrd"));
        let messages = if self.verbose { "ignore_loglevel" } else { "loglevel=5" };
        qemu.arg("-append").arg(format!(
            "console=ttyS0 {messages} panic=-1 oops=panic reboot=t rdinit=/init tsc_early_khz={} tsc=reliable \
             no_timer_check noreplace-smp random.trust_cpu=on mitigations=off 8250.nr_uarts=2 i8042.noaux i8042.nokbd \
             i8042.nopnp pci=lastbus=0 audit=0 rcupdate.rcu_expedited=1 cryptomgr.notests {}",
            tsc_khz(),
            self.cmdline
        ));
        for (index, file) in [scratch.file("console"), "/dev/stdout".into()].iter().enumerate() {
            qemu.arg("-chardev").arg(format!("file,id=port{index},path={}", file.display()));
            qemu.arg("-device").arg(format!("isa-serial,index={index},chardev=port{index}"));
        }
        qemu.stdin(Stdio::null()).stdout(Stdio::piped());
        qemu
    }
}

/// About the rate of this machine's time stamp counter, which is the guest's too. The guest would measure it against a
/// timer, which hangs on a busy host. When it is off, the guest's clock runs at another rate than ours, no more.
fn tsc_khz() -> u64 {
    let file = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
    let cpuinfo = || {
        let text = fs::read_to_string("/proc/cpuinfo").ok()?;
        let line = text.lines().find(|line| line.starts_with("cpu MHz"))?;
        let (mhz, _) = line.rsplit(' ').next()?.split_once('.')?;
        Some(mhz.parse::<u64>().ok()? * 1000)
    };
    file("/sys/devices/system/cpu/cpu0/tsc_freq_khz")
        .or_else(|| file("/sys/devices/system/cpu/cpu0/cpufreq/base_frequency"))
        .or_else(cpuinfo)
        .unwrap_or(2_000_000)
}

/// Passes the child's output on until it ends. False when the deadline came first.
fn stream(child: &mut Child, deadline: Instant, sink: &mut dyn FnMut(&[u8])) -> Result<bool> {
    let mut stdout = child.stdout.take().context("a piped stdout")?;
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(n @ 1..) = stdout.read(&mut buffer) {
            if send.send(buffer[..n].to_vec()).is_err() {
                break;
            }
        }
    });
    loop {
        match receive.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(bytes) => sink(&bytes),
            Err(RecvTimeoutError::Disconnected) => return Ok(true),
            Err(RecvTimeoutError::Timeout) => return Ok(false),
        }
    }
}

/// The files that a dynamically linked program loads; none for a script or a static program.
fn shared_libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    if program.is_dir() || !fs::read(program)?.starts_with(b"\x7fELF") {
        return Ok(BTreeSet::new());
    }
    let output = Command::new("ldd").arg(program).output().context("run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(missing) = text.lines().find(|line| line.contains("not found")) {
        anyhow::bail!("{} needs a library that is not here: {}", program.display(), missing.trim());
    }
    Ok(text
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(|word| word.trim_end_matches(':').into())
        .collect())
}

/// One word of a shell command.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A copy of a program that lacks what only debuggers read, where binutils are here to make it: two thirds of a test. All
/// tests with everything in them do not fit into the guest's memory. `None` also for what is no program or library.
fn without_debug(program: &Path, scratch: &Scratch) -> Option<PathBuf> {
    let mut header = [0; 17];
    File::open(program).ok()?.read_exact(&mut header).ok()?;
    // Objects are ELF files too, and stay as they are.
    if !header.starts_with(b"\x7fELF") || !matches!(header[16], 2 | 3) {
        return None;
    }
    let copy = scratch.file("program");
    let mut strip = Command::new("strip");
    strip.arg("--strip-debug").arg("-o").arg(&copy).arg(program).stderr(Stdio::null());
    strip.status().ok()?.success().then_some(copy)
}

/// A directory for one boot's files, removed with its contents.
struct Scratch(PathBuf);

impl Scratch {
    fn new(store: &Store) -> Result<Self> {
        let all = store.root().join("run");
        fs::create_dir_all(&all)?;
        // A boot that was killed could not clean up.
        for entry in fs::read_dir(&all)?.flatten() {
            if !Path::new("/proc").join(entry.file_name()).exists() {
                fs::remove_dir_all(entry.path()).ok();
            }
        }
        let dir = all.join(std::process::id().to_string());
        ensure!(!dir.exists(), "{} is in use", dir.display());
        fs::create_dir(&dir)?;
        File::create(dir.join("console"))?;
        Ok(Self(dir))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() -> Result<()> {
        let words = ["plain", "two words", "it's", "$HOME `x` \"y\" \\", ""];
        let script = format!("printf '%s\\n' {}", words.map(quote).join(" "));
        let output = Command::new("sh").arg("-c").arg(script).output()?;
        assert_eq!(String::from_utf8_lossy(&output.stdout), words.map(|word| format!("{word}\n")).concat());
        Ok(())
    }
}
