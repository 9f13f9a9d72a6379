//! From opening an object to having it loaded, in a fresh process for each load, skep and libbpf in turns.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use loaders::numbers::{Series, ratio, us};

const OBJECT: &str = "../../../testdata/tracer.o";
const ROUNDS: usize = 100;

#[derive(Default)]
struct Loader {
    wall: Series,
    outside: Series,
    outside_cpu: Series,
    inside: Series,
    calls: String,
    count: u64,
}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let rounds = args.next().map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let object =
        args.next().map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(OBJECT), PathBuf::from);
    let folder = std::env::current_exe()?.parent().context("a folder")?.to_owned();
    let (mut skep, mut libbpf) = (Loader::default(), Loader::default());
    for _ in 0..rounds {
        skep.load(&folder.join("load_skep"), &object)?;
        libbpf.load(&folder.join("load_libbpf"), &object)?;
    }
    println!("{} rounds of {}", rounds, object.display());
    println!("{:<28} {:>10} {:>10} {:>7}", "", "skep", "libbpf", "ratio");
    let row = |what: &str, of: fn(&Loader) -> u64| {
        let (a, b) = (of(&skep), of(&libbpf));
        println!("{what:<28} {:>10} {:>10} {:>7}", us(a), us(b), ratio(a, b));
    };
    row("whole, median us", |l| l.wall.median());
    row("whole, min us", |l| l.wall.min());
    row("in bpf(2), median us", |l| l.inside.median());
    row("outside, median us", |l| l.outside.median());
    row("outside, min us", |l| l.outside.min());
    row("outside, median CPU us", |l| l.outside_cpu.median());
    row("outside, min CPU us", |l| l.outside_cpu.min());
    println!("{:<28} {:>10} {:>10}", "calls of bpf(2)", skep.count, libbpf.count);
    println!("by command: skep {}; libbpf {}", skep.calls, libbpf.calls);
    Ok(())
}

impl Loader {
    fn load(&mut self, program: &Path, object: &Path) -> anyhow::Result<()> {
        let output = Command::new(program).arg(object).output().context("build all binaries first")?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        let mut words = text.split_whitespace();
        let mut number =
            || words.next().and_then(|word| word.parse::<u64>().ok()).context("four numbers of a load");
        let (wall, cpu, inside_wall, inside_cpu) = (number()?, number()?, number()?, number()?);
        self.wall.push(wall);
        self.outside.push(wall.saturating_sub(inside_wall));
        self.outside_cpu.push(cpu.saturating_sub(inside_cpu));
        self.inside.push(inside_wall);
        self.calls = words.next().unwrap_or_default().to_owned();
        let counts = self.calls.split(',').filter_map(|call| call.split_once(':')?.1.parse::<u64>().ok());
        self.count = counts.sum();
        Ok(())
    }
}
