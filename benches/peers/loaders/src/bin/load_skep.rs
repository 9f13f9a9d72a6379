//! Loads one object with skep, says what it took, and exits.

use loaders::meter;
use skep::{Kernel, Loader, Spec};

fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_default();
    let start = meter::now();
    let bytes = std::fs::read(&path)?;
    let spec = Spec::parse("tracer", &bytes)?;
    let kernel = Kernel::linux();
    let object = Loader::new(&kernel).load(&spec)?;
    let span = start.elapsed();
    anyhow::ensure!(object.programs().count() > 0, "nothing was loaded");
    meter::report(span);
    Ok(())
}
