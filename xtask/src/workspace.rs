//! What the commands ask about the workspace: its root, its files, its kernel tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A built test binary that needs a real kernel.
pub(crate) struct KernelTest {
    /// The name of its target.
    pub(crate) name: String,
    pub(crate) executable: PathBuf,
    /// Where cargo would run it.
    pub(crate) package_dir: PathBuf,
}

impl KernelTest {
    /// The line that cargo prints before it runs a test binary.
    pub(crate) fn title(&self) -> String {
        format!("     Running tests/{}.rs ({})", self.name, self.executable.display())
    }
}

/// The directory of the workspace that this program was built in.
pub(crate) fn root() -> Result<PathBuf> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the manifest directory has a parent")?;
    Ok(root.to_owned())
}

/// The cargo that called us, or the one on the path.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.stdin(Stdio::null());
    command
}

/// Builds the test targets whose names begin with `kernel`.
pub(crate) fn build_kernel_tests() -> Result<Vec<KernelTest>> {
    let output = cargo()
        .args(["test", "--workspace", "--no-run", "--test", "kernel*", "--message-format"])
        .arg("json-render-diagnostics")
        .current_dir(root()?)
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo")?;
    ensure!(output.status.success(), "the kernel tests do not build");
    let mut tests = Vec::new();
    for line in output.stdout.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
        let message: Value = serde_json::from_slice(line).context("read a message of cargo")?;
        tests.extend(kernel_test(&message));
    }
    tests.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tests)
}

/// The kernel test that a message of cargo announces, if it does.
fn kernel_test(message: &Value) -> Option<KernelTest> {
    let name = message["target"]["name"].as_str()?;
    let is_test = message["target"]["kind"].as_array()?.iter().any(|kind| kind == "test");
    let executable = message["executable"].as_str()?;
    let package_dir = Path::new(message["manifest_path"].as_str()?).parent()?;
    (is_test && name.starts_with("kernel")).then(|| KernelTest {
        name: name.to_owned(),
        executable: executable.into(),
        package_dir: package_dir.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str, kind: &str) -> Value {
        serde_json::json!({
            "reason": "compiler-artifact", "manifest_path": "/p/Cargo.toml",
            "target": {"name": name, "kind": [kind]}, "executable": "/t/kernel-1",
        })
    }

    #[test]
    fn kernel_tests_are_known_by_name_and_kind() {
        let test = kernel_test(&message("kernel_links", "test"));
        assert_eq!(test.map(|t| t.package_dir), Some(PathBuf::from("/p")));
        assert!(kernel_test(&message("golden", "test")).is_none());
        assert!(kernel_test(&message("kernel", "lib")).is_none());
    }
}
