//! Builds the WSGI host, which the binary contains as bytes.
//!
//! The host is a shared library for another program (the application's interpreter), so it cannot
//! be linked in. A nested cargo run builds it, and the root crate contains it with
//! `include_bytes!(concat!(env!("OUT_DIR"), "/host.so"))`. No Python is needed.

#![allow(clippy::disallowed_macros, reason = "cargo reads standard output")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    for path in [
        "python/embed_host.rs",
        "python/host",
        "python/pyserve",
        "src/wire",
        "Cargo.lock",
        "Cargo.toml",
    ] {
        println!("cargo::rerun-if-changed={path}");
    }
    let target = variable("TARGET");
    let out_dir = PathBuf::from(variable("OUT_DIR"));
    let target_dir = out_dir.join("host");

    let status = nested_cargo(&target, &target_dir)
        .status()
        .unwrap_or_else(|error| panic!("cannot run cargo to build the WSGI host: {error}"));
    assert!(
        status.success(),
        "the WSGI host (package pyserve-host) does not build; cargo's message is above"
    );

    let built = target_dir
        .join(&target)
        .join("host")
        .join("libpyserve_host.so");
    std::fs::copy(&built, out_dir.join("host.so"))
        .unwrap_or_else(|error| panic!("cannot copy {}: {error}", built.display()));
}

fn nested_cargo(target: &str, target_dir: &Path) -> Command {
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(variable("CARGO_MANIFEST_DIR"))
        .args(["build", "--locked", "--package", "pyserve-host"])
        // A separate profile: with a shared build directory the same profile would wait for the
        // lock of the outer cargo.
        .args(["--profile", "host", "--target", target, "--target-dir"])
        .arg(target_dir);

    // Cargo's variables for this script are about the root package, and settings of clippy or the
    // user for the outer run would redirect the output.
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let about_the_outer_run = [
            "CARGO_CFG_",
            "CARGO_FEATURE_",
            "CARGO_MANIFEST_",
            "CARGO_PKG_",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix));
        if about_the_outer_run {
            cargo.env_remove(name);
        }
    }
    for name in [
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_TARGET_DIR",
        "CARGO_TARGET_DIR",
        "CLIPPY_ARGS",
        "RUSTC_WORKSPACE_WRAPPER",
    ] {
        cargo.env_remove(name);
    }
    cargo.env("CARGO_BUILD_BUILD_DIR", target_dir);
    // The host runs in any interpreter, so none may influence its build.
    cargo.env("PYO3_NO_PYTHON", "1");
    // The user's RUSTFLAGS count here too (linker, target-cpu), except that a library
    // loaded into another program cannot bring its own libc.
    let mut flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    if !flags.is_empty() {
        flags.push('\x1f');
    }
    flags.push_str("-Ctarget-feature=-crt-static");
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags);
    cargo
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo did not set {name}"))
}
