//! The files of a release: `docker/release.sh --dry-run`, the SBOM, and the C library that both files need.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{source, temp_dir};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const TARGET: &str = "x86_64-unknown-linux-gnu";

fn dry_run(out: &Path, tag: &str) -> Output {
    Command::new("bash")
        .arg(source("docker/release.sh"))
        .args(["--dry-run", "--target", TARGET, "--out"])
        .arg(out)
        .arg(tag)
        .output()
        .expect("bash runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_dry_run_names_all_files_and_writes_those_that_need_no_compiler() {
    let dir = temp_dir();
    let ended = dry_run(dir.path(), &format!("v{VERSION}"));
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect(name);

    let files = read("files.txt");
    let expected = [
        format!("pyserve-{VERSION}-{TARGET}.tar.gz"),
        // PEP 600, with the name of PEP 599 for old versions of pip.
        format!("pyserve_wsgi-{VERSION}-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"),
        format!("pyserve_wsgi-{VERSION}.tar.gz"),
        format!("pyserve_wsgi-{VERSION}-vendored.tar.gz"),
        "SHA256SUMS".to_owned(),
    ];
    assert_eq!(files.lines().collect::<Vec<_>>(), expected);

    let tags = read("images.txt");
    let minor = VERSION.rsplit_once('.').expect("three numbers").0;
    for tag in [
        format!("pyserve:{VERSION}"),
        format!("pyserve:{minor}"),
        format!("pyserve:{VERSION}-python3.14-slim"),
        format!("pyserve:{minor}-python3.13-slim"),
    ] {
        assert!(tags.lines().any(|line| line == tag), "{tag} in {tags}");
    }
    let unique: BTreeSet<_> = tags.lines().collect();
    assert_eq!(unique.len(), tags.lines().count(), "{tags}");

    let notes = read("notes.md");
    let changelog = std::fs::read_to_string(source("CHANGELOG.md")).expect("the changelog");
    let first = changelog.lines().find(|line| line.starts_with("- "));
    assert!(notes.contains(first.expect("an entry")), "{notes}");
    assert!(!notes.contains("\n## "), "{notes}");
}

#[test]
fn the_sbom_lists_the_crates_of_both_files_and_no_others() {
    let dir = temp_dir();
    let ended = dry_run(dir.path(), &format!("v{VERSION}"));
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    let file = dir
        .path()
        .join(format!("pyserve-{VERSION}-{TARGET}.cdx.json"));
    let bytes = std::fs::read(&file).expect("the SBOM");
    let sbom: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(sbom["bomFormat"], "CycloneDX");
    assert_eq!(sbom["metadata"]["component"]["name"], "pyserve");
    let components = sbom["components"].as_array().expect("a list");
    let names: BTreeSet<_> = components
        .iter()
        .map(|component| component["name"].as_str().expect("a name"))
        .collect();
    // One of each kind: of the front, of the host, compiled from C.
    for name in ["hyper", "rustls", "pyo3", "pyserve-wire", "aws-lc-sys"] {
        assert!(names.contains(name), "{name} in {names:?}");
    }
    // Of tests and benchmarks, of Windows, of the compiler.
    for name in [
        "proptest",
        "criterion",
        "tempfile",
        "windows-sys",
        "serde_derive",
        "cc",
    ] {
        assert!(!names.contains(name), "{name} in {names:?}");
    }
    for component in components {
        let is_ours = component["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("pyserve"));
        assert!(
            component["licenses"][0]["expression"].is_string(),
            "{component}"
        );
        let hash = &component["hashes"][0]["content"];
        let is_hash = hash.as_str().is_some_and(|hash| hash.len() == 64);
        assert_eq!(is_hash, !is_ours, "{component}");
    }
    // Each reference leads to a component.
    let known: BTreeSet<_> = components
        .iter()
        .map(|component| &component["bom-ref"])
        .collect::<Vec<_>>()
        .into_iter()
        .map(Value::to_string)
        .collect();
    for dependency in sbom["dependencies"].as_array().expect("a list") {
        for target in dependency["dependsOn"].as_array().expect("a list") {
            assert!(known.contains(&target.to_string()), "{target}");
        }
    }
}

#[test]
fn a_tag_of_another_version_is_refused() {
    let dir = temp_dir();
    let out = dir.path().join("out");
    for tag in ["v9.9.9", VERSION] {
        let ended = dry_run(&out, tag);
        assert_eq!(ended.status.code(), Some(1), "{tag}");
        assert!(
            text(&ended.stderr).contains("the tag is"),
            "{}",
            text(&ended.stderr)
        );
        assert!(!out.exists());
    }
}

/// The versions that `docker/glibc.py` finds: those of the binary and of the host inside.
fn glibc(arguments: &[&str]) -> (Option<i32>, Vec<(u32, u32)>) {
    let ended = Command::new("python3")
        .arg(source("docker/glibc.py"))
        .arg(env!("CARGO_BIN_EXE_pyserve"))
        .args(arguments)
        .output()
        .expect("python3 runs");
    let lines = text(&ended.stdout);
    let versions = lines.lines().map(|line| {
        let version = line.rsplit(' ').next().expect("a word");
        let (major, minor) = version.split_once('.').expect("two numbers");
        (
            major.parse().expect("a number"),
            minor.parse().expect("a number"),
        )
    });
    (ended.status.code(), versions.collect())
}

/// The newest version among the names in the table of dynamic symbols, by binutils.
fn by_objdump(file: &Path) -> Option<(u32, u32)> {
    let ended = Command::new("objdump").arg("-T").arg(file).output().ok()?;
    let versions = text(&ended.stdout);
    let versions = versions.split("GLIBC_").skip(1).filter_map(|rest| {
        let end = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let mut numbers = rest[..end].split('.').map_while(|part| part.parse().ok());
        Some((numbers.next()?, numbers.next()?))
    });
    versions.max()
}

#[test]
fn the_c_library_that_binary_and_host_need_is_found_in_both() {
    let (code, versions) = glibc(&[]);
    assert_eq!(code, Some(0));
    let [binary, host] = versions[..] else {
        panic!("two files: {versions:?}");
    };
    if let Some(expected) = by_objdump(Path::new(env!("CARGO_BIN_EXE_pyserve"))) {
        assert_eq!(binary, expected);
    }
    // Rust itself needs 2.17.
    assert!(binary >= (2, 17) && host >= (2, 3), "{versions:?}");
    assert_eq!(glibc(&["2.999"]).0, Some(0));
    assert_eq!(glibc(&["2.2"]).0, Some(1), "both need more than that");
}
