//! What README.md shows of the command is what the command prints.

use std::path::Path;
use std::process::Command;

/// The commands of the README that need no kernel, each with what is shown below it.
fn shown(readme: &str) -> Vec<(&str, &str)> {
    let blocks = readme.split("```console\n").skip(1).filter_map(|rest| rest.split_once("```"));
    blocks.filter_map(|(block, _)| block.strip_prefix("$ skep ")?.split_once('\n')).collect()
}

#[test]
fn the_readme_shows_what_the_command_prints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("the repository has a README");
    let shown = shown(&readme);
    assert!(!shown.is_empty(), "the README shows no command");
    for (arguments, text) in shown {
        let mut skep = Command::new(env!("CARGO_BIN_EXE_skep"));
        let output = skep.args(arguments.split(' ')).current_dir(&root).output().expect("the command starts");
        // 1: a kernel lacks something, which is what a check is for.
        let code = output.status.code();
        assert!(
            code == Some(0) || code == Some(1) && arguments.starts_with("check "),
            "skep {arguments}: {code:?}"
        );
        assert_eq!(String::from_utf8_lossy(&output.stdout), text, "skep {arguments}");
    }
}
