//! What the commands ask about the workspace: its root, its packages, its kernel tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Test targets whose names begin so need a real kernel and privilege.
const KERNEL_TESTS: &str = "kernel";

/// The directory of the workspace that this program was built in.
pub(crate) fn root() -> Result<PathBuf> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the manifest directory has a parent")?;
    Ok(root.to_owned())
}

/// The cargo that called us, or the one on the path; in the root, with nothing to read.
pub(crate) fn cargo() -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.stdin(Stdio::null()).current_dir(root()?);
    Ok(command)
}

/// The packages of the workspace.
pub(crate) struct Workspace {
    pub(crate) packages: Vec<Package>,
}

/// One of them.
pub(crate) struct Package {
    pub(crate) name: String,
    /// Its features, without `default`.
    pub(crate) features: Vec<String>,
    /// The names of its integration tests.
    pub(crate) tests: Vec<String>,
}

impl Workspace {
    pub(crate) fn read() -> Result<Self> {
        let output =
            cargo()?.args(["metadata", "--no-deps", "--format-version=1"]).output().context("run cargo")?;
        ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        Self::parse(&serde_json::from_slice(&output.stdout)?)
    }

    fn parse(metadata: &Value) -> Result<Self> {
        let package = |package: &Value| {
            let targets = package["targets"].as_array()?;
            Some(Package {
                name: package["name"].as_str()?.to_owned(),
                features: package["features"]
                    .as_object()?
                    .keys()
                    .filter(|f| *f != "default")
                    .cloned()
                    .collect(),
                tests: targets.iter().filter_map(test_name).collect(),
            })
        };
        let packages = metadata["packages"].as_array().context("no packages in cargo metadata")?;
        let packages = packages.iter().map(package).collect::<Option<_>>().context("odd cargo metadata")?;
        Ok(Self { packages })
    }

    /// Integration tests that need a real kernel, or those that do not.
    pub(crate) fn tests(&self, kernel: bool) -> Vec<&str> {
        let all = self.packages.iter().flat_map(|package| &package.tests);
        let mut names: Vec<&str> =
            all.map(String::as_str).filter(|name| name.starts_with(KERNEL_TESTS) == kernel).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn test_name(target: &Value) -> Option<String> {
    let is_test = target["kind"].as_array()?.iter().any(|kind| kind == "test");
    is_test.then(|| target["name"].as_str().map(str::to_owned))?
}

/// A built test binary that needs a real kernel.
pub(crate) struct KernelTest {
    source: PathBuf,
    pub(crate) executable: PathBuf,
    /// Where cargo would run it.
    pub(crate) package_dir: PathBuf,
}

impl KernelTest {
    /// Its name: that of its file.
    pub(crate) fn name(&self) -> String {
        self.source.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The line that cargo prints before it runs a test binary.
    pub(crate) fn title(&self) -> String {
        let source = self.source.strip_prefix(&self.package_dir).unwrap_or(&self.source);
        format!("     Running {} ({})", source.display(), self.executable.display())
    }

    /// One test at a time, with its output: what kernel objects a test sees must be its own.
    pub(crate) fn arguments() -> Vec<String> {
        ["--nocapture", "--test-threads=1"].map(str::to_owned).to_vec()
    }

    /// What cargo would set, and the wish for a line on each skipped test.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        vec![
            ("CARGO_MANIFEST_DIR".into(), self.package_dir.to_string_lossy().into_owned()),
            ("SKEP_KERNEL_REPORT".into(), "1".into()),
        ]
    }
}

/// The workspace's kernel tests, built.
#[derive(Default)]
pub(crate) struct KernelTests {
    pub(crate) tests: Vec<KernelTest>,
    /// The programs that they may run.
    pub(crate) programs: Vec<PathBuf>,
}

impl KernelTests {
    /// Builds them. There may be none.
    pub(crate) fn build(workspace: &Workspace) -> Result<Self> {
        let names = workspace.tests(true);
        if names.is_empty() {
            return Ok(Self::default());
        }
        let output = cargo()?
            .args(["test", "--workspace", "--no-run", "--message-format", "json-render-diagnostics"])
            .args(names.iter().flat_map(|name| ["--test", name]))
            .stderr(Stdio::inherit())
            .output()
            .context("run cargo")?;
        ensure!(output.status.success(), "the kernel tests do not build");
        let mut built = Self::default();
        for line in output.stdout.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            built.add(&serde_json::from_slice(line).context("read a message of cargo")?);
        }
        built.tests.sort_by(|a, b| a.source.cmp(&b.source));
        Ok(built)
    }

    /// Takes note of what a message of cargo says was built.
    fn add(&mut self, message: &Value) -> Option<()> {
        let executable = PathBuf::from(message["executable"].as_str()?);
        let target = &message["target"];
        if test_name(target).is_some() {
            let package_dir = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
            self.tests.push(KernelTest {
                source: target["src_path"].as_str()?.into(),
                executable,
                package_dir,
            });
        } else if target["kind"].as_array()?.iter().any(|kind| kind == "bin") {
            self.programs.push(executable);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tests_for_a_real_kernel_are_known_by_their_names() -> Result<()> {
        let target = |name: &str, kind: &str| json!({"name": name, "kind": [kind]});
        let targets = [target("kernel_links", "test"), target("golden", "test"), target("kernel", "lib")];
        let workspace = Workspace::parse(&json!({"packages": [
            {"name": "skep", "features": {"default": [], "tokio": []}, "targets": targets}
        ]}))?;
        assert_eq!(workspace.tests(true), ["kernel_links"]);
        assert_eq!(workspace.tests(false), ["golden"]);
        assert_eq!(workspace.packages[0].features, ["tokio"]);
        Ok(())
    }

    #[test]
    fn built_tests_and_their_programs_are_told_apart() {
        let message = |kind: &str, executable: Value| {
            json!({"manifest_path": "/p/Cargo.toml", "executable": executable,
                   "target": {"name": "kernel", "kind": [kind], "src_path": "/p/tests/kernel.rs"}})
        };
        let mut built = KernelTests::default();
        for message in [
            message("test", json!("/t/kernel-1")),
            message("bin", json!("/t/skep")),
            message("lib", Value::Null),
            json!({"reason": "build-finished"}),
        ] {
            built.add(&message);
        }
        assert_eq!(built.tests.len(), 1);
        assert_eq!(built.tests[0].title(), "     Running tests/kernel.rs (/t/kernel-1)");
        assert_eq!(built.programs, [PathBuf::from("/t/skep")]);
    }
}
